"""What does Prometheus learn about releases?"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from pipelines.errors import LedgerBroken
from pipelines.ports import Ports
from pipelines.records.evidence_series import BOUNDARY, evidence_series
from pipelines.records.reading import broken_records, read_services
from pipelines.records.release import ENDS, Release
from pipelines.records.view import canary_counts, phase_seconds

log = logging.getLogger("shipway.metrics")


def metrics_text(ports: Ports, running: Sequence[Release]) -> str:
    """The exposition of everything the ledger knows: counts by its rows, and the newest release of each service."""
    registry = CollectorRegistry()
    unusable = _unusable(ports)
    tally = ports.ledger.tally()
    services = sorted({service for service, _ in tally})
    ended = Gauge("shipway_releases", "Releases by outcome", ["service", "outcome"], registry=registry)
    share = Gauge("shipway_canary_share_ratio", "Confirmed share of the canary", ["service"], registry=registry)
    for service in services:
        for outcome in (*map(str, ENDS), "running", "broken"):
            ended.labels(service, outcome).set(tally.get((service, outcome), 0))
        share.labels(service).set(max((r.confirmed_pct for r in running if r.service == service), default=0.0) / 100)
    broken = Gauge("shipway_broken_records", "Records that cannot be used", ["service"], registry=registry)
    for service in {*services, *unusable}:
        broken.labels(service).set(unusable[service])
    _newest(registry, ports, services)
    return generate_latest(registry).decode()


def _unusable(ports: Ports) -> Counter[str]:
    """How many records of each service are broken, its own included?"""
    return Counter((*(row.service for row in broken_records(ports.ledger)), *read_services(ports.services).broken))


def _newest(registry: CollectorRegistry, ports: Ports, services: Iterable[str]) -> None:
    """What the newest release of each service did, where its record can be read."""
    gauges = _Gauges(registry)
    for service in services:
        for row in ports.ledger.summaries(service=service, limit=1):
            try:
                release = ports.ledger.load(row.id)
                gauges.tell_what_happened(release)
                gauges.tell_what_is_proven(release)
            except LedgerBroken:
                continue
            except (AttributeError, LookupError, TypeError, ValueError) as error:
                # Its chain verifies, and what it says is another Shipway's: the others are told all the same.
                log.warning("release %s is not on /metrics: %r", row.id, error)


class _Gauges:
    """The gauges of single releases."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"shipway_release_{name}", text, ["service", *labels], registry=registry)

        decides = "Log of the evidence over that of what decides"
        self._seconds = gauge("phase_seconds", "Time of each part of the path", "phase")
        self._requests = gauge("requests", "Judged requests", "arm", "outcome")
        self._evidence = gauge("evidence_ratio", decides, "metric", "of")
        self._threshold = gauge("evidence_threshold_ratio", "Where evidence decides", "metric", "of")

    def tell_what_happened(self, release: Release) -> None:
        """Seconds per phase, and what the arms did with the requests that were judged."""
        for phase, took_s in phase_seconds(release).items():
            self._seconds.labels(release.service, phase).set(took_s)
        counts = canary_counts(release)
        for arm in ("canary", "stable"):
            self._requests.labels(release.service, arm, "error").set(counts[f"{arm}_errors"])
            self._requests.labels(release.service, arm, "any").set(counts[f"{arm}_requests"])

    def tell_what_is_proven(self, release: Release) -> None:
        """Each metric's evidence at the last look, and where it decides; the requests that it is of are told above."""
        for line in evidence_series(release).lines:
            if line.last is not None:
                self._evidence.labels(release.service, line.metric, line.of).set(line.last)
                self._threshold.labels(release.service, line.metric, line.of).set(BOUNDARY)
