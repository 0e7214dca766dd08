"""What does Prometheus learn about releases?"""

from __future__ import annotations

from collections import Counter

from prometheus_client import CollectorRegistry, Gauge, generate_latest

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
    _latest(registry, found)
    return generate_latest(registry).decode()


def _outcomes(registry: CollectorRegistry, found: tuple[Release, ...]) -> None:
    ended = Gauge("shipway_releases", "Releases by outcome", ["service", "outcome"], registry=registry)
    counts = Counter((r.service, r.outcome or "running") for r in found)
    for service in {r.service for r in found}:
        for outcome in (*map(str, ENDS), "running"):
            ended.labels(service, outcome).set(counts[service, outcome])


def _latest(registry: CollectorRegistry, found: tuple[Release, ...]) -> None:
    """The newest release of each service: seconds per phase, and what its canary saw."""
    seconds = Gauge(
        "shipway_release_phase_seconds", "Time of each part of the path", ["service", "phase"], registry=registry
    )
    requests = Gauge("shipway_release_requests", "Judged requests", ["service", "arm", "outcome"], registry=registry)
    for release in {r.service: r for r in reversed(found)}.values():
        for phase, took_s in phase_seconds(release).items():
            seconds.labels(release.service, phase).set(took_s)
        counts = canary_counts(release)
        for arm in ("canary", "stable"):
            requests.labels(release.service, arm, "error").set(counts[f"{arm}_errors"])
            requests.labels(release.service, arm, "any").set(counts[f"{arm}_requests"])
