"""What does Prometheus learn about a gateway?"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest


class GatewayCounters:
    """Counters of one gateway process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ["arm", "outcome"]
        self._requests = Counter("shipway_gateway_requests", "Attempts by arm", labels, registry=self.registry)
        self._seconds = Histogram(
            "shipway_gateway_latency_seconds", "Time to the last byte", ["arm"], registry=self.registry
        )
        self.retried = Counter("shipway_gateway_retries", "Canary failures saved by stable", registry=self.registry)
        self.labelled = Counter("shipway_gateway_labels", "Labels of earlier answers", registry=self.registry)
        self._kept = Counter(
            "shipway_gateway_record_requests", "Sampled requests by outcome", ["outcome"], registry=self.registry
        )
        self.share = Gauge("shipway_gateway_canary_share_ratio", "The canary's share", registry=self.registry)

    def count(self, arm: str, outcome: str, seconds: float) -> None:
        """One attempt at one arm."""
        self._requests.labels(arm, outcome).inc()
        self._seconds.labels(arm).observe(seconds)

    def kept(self, outcome: str) -> None:
        """One request that was sampled for the record."""
        self._kept.labels(outcome).inc()

    def text(self) -> bytes:
        """The exposition."""
        return generate_latest(self.registry)
