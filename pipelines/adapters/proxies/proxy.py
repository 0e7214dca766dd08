"""What does a agent need of the proxy behind it?"""

from __future__ import annotations

from typing import Protocol

from pipelines.adapters.proxies.lanes import Readings
from pipelines.records.split import Generation, TrafficSplit


class ProxyTrouble(Exception):
    """The proxy does not answer, or shows another split than was ordered."""


class Proxy(Protocol):
    """A proxy that runs: HAProxy or Envoy. All of it raises ProxyTrouble where the proxy does not do as it is told."""

    def start(self, split: TrafficSplit) -> None:
        """Start it with this split, in lane 0; users are served when this returns."""
        ...

    def apply(self, split: TrafficSplit, lane: int) -> None:
        """Route by this split, through this lane; new arms are there before a request is sent to them."""
        ...

    def shown(self) -> tuple[Generation, TrafficSplit]:
        """The generation, and the addresses and the share, that the proxy has now (digests are not known to it)."""
        ...

    def readings(self) -> Readings:
        """Its counters, by lane and arm."""
        ...

    def prune(self, split: TrafficSplit) -> None:
        """Forget the addresses that this split does not use."""
        ...

    def metrics(self) -> bytes:
        """Its own Prometheus page."""
        ...

    def is_running(self) -> bool:
        """Whether its process is there."""
        ...

    def stop(self) -> None:
        """Let it finish what is in flight, and end it."""
        ...
