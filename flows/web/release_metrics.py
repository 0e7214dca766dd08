"""What does Prometheus learn about releases?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from pipelines.errors import LedgerBroken
from pipelines.evidence_series import BOUNDARY, evidence_series
from pipelines.ports import Ports
from pipelines.records import broken_records, unfinished
from pipelines.release import ENDS, Release
from pipelines.view import canary_counts, phase_seconds


def metrics_text(ports: Ports) -> str:
    """The exposition of everything the ledger knows: counts by its rows, and the newest release of each service."""
    registry = CollectorRegistry()
    running, broken = unfinished(ports.ledger), Counter(row.service for row in broken_records(ports.ledger))
    tally = ports.ledger.tally()
    services = sorted({service for service, _ in tally})
    ended = Gauge("shipway_releases", "Releases by outcome", ["service", "outcome"], registry=registry)
    share = Gauge("shipway_canary_share_ratio", "Confirmed share of the canary", ["service"], registry=registry)
    unusable = Gauge("shipway_broken_records", "Records that cannot be used", ["service"], registry=registry)
    for service in services:
        for outcome in (*map(str, ENDS), "running", "broken"):
            ended.labels(service, outcome).set(tally.get((service, outcome), 0))
        share.labels(service).set(max((r.confirmed_pct for r in running if r.service == service), default=0.0) / 100)
        unusable.labels(service).set(broken[service])
    newest = tuple(_newest(ports, services))
    _what_happened(registry, newest)
    _what_is_proven(registry, newest)
    return generate_latest(registry).decode()


def _newest(ports: Ports, services: Iterable[str]) -> Iterable[Release]:
    """The newest release of each service, where its record can be read."""
    for service in services:
        for row in ports.ledger.summaries(service=service, limit=1):
            try:
                yield ports.ledger.load(row.id)
            except LedgerBroken:
                continue


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
