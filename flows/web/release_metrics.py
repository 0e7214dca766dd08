"""What does Prometheus learn about releases?"""

from __future__ import annotations

from collections import Counter

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from pipelines.evidence_series import BOUNDARY, evidence_series
from pipelines.ports import Ports
from pipelines.release import ENDS, Release
from pipelines.view import canary_counts, phase_seconds


def metrics_text(ports: Ports) -> str:
    """The exposition of everything the ledger knows, computed at each scrape."""
    registry = CollectorRegistry()
    found = ports.ledger.releases()
    _outcomes(registry, found)
    share = Gauge("shipway_canary_share_ratio", "Confirmed share of the canary", ["service"], registry=registry)
    for service in {r.service for r in found}:
        pct = max((r.confirmed_pct for r in found if r.service == service and not r.is_ended), default=0.0)
        share.labels(service).set(pct / 100)
    newest = tuple({r.service: r for r in reversed(found)}.values())
    _what_happened(registry, newest)
    _what_is_proven(registry, newest)
    return generate_latest(registry).decode()


def _outcomes(registry: CollectorRegistry, found: tuple[Release, ...]) -> None:
    ended = Gauge("shipway_releases", "Releases by outcome", ["service", "outcome"], registry=registry)
    counts = Counter((r.service, r.outcome or "running") for r in found)
    for service in {r.service for r in found}:
        for outcome in (*map(str, ENDS), "running"):
            ended.labels(service, outcome).set(counts[service, outcome])


def _what_happened(registry: CollectorRegistry, newest: tuple[Release, ...]) -> None:
    """Seconds per phase, and what the arms did with the requests that were judged."""
    seconds = Gauge(
        "shipway_release_phase_seconds", "Time of each part of the path", ["service", "phase"], registry=registry
    )
    requests = Gauge("shipway_release_requests", "Judged requests", ["service", "arm", "outcome"], registry=registry)
    for release in newest:
        for phase, took_s in phase_seconds(release).items():
            seconds.labels(release.service, phase).set(took_s)
        counts = canary_counts(release)
        for arm in ("canary", "stable"):
            requests.labels(release.service, arm, "error").set(counts[f"{arm}_errors"])
            requests.labels(release.service, arm, "any").set(counts[f"{arm}_requests"])


def _what_is_proven(registry: CollectorRegistry, newest: tuple[Release, ...]) -> None:
    """Each metric's evidence at the last look, and where it decides; the requests that it is of are told above."""
    names = ["service", "metric", "of"]
    evidence = Gauge(
        "shipway_release_evidence_ratio", "Log of the evidence over that of what decides", names, registry=registry
    )
    threshold = Gauge("shipway_release_evidence_threshold_ratio", "Where evidence decides", names, registry=registry)
    for release in newest:
        for line in evidence_series(release).lines:
            if line.last is not None:
                evidence.labels(release.service, line.metric, line.of).set(line.last)
                threshold.labels(release.service, line.metric, line.of).set(BOUNDARY)
