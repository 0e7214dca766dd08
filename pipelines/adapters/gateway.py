"""Shipway's gateway as a router, over its admin socket."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx

from pipelines.adapters.gateway_socket import ask_gateway
from pipelines.errors import DependencyDown, StaleWriter
from pipelines.records.split import TrafficSplit


class GatewayRouter:
    """Implements `ports.Router`."""

    def __init__(self, socket_of: Callable[[str], Path]) -> None:
        self._socket_of = socket_of

    def read(self, service: str) -> TrafficSplit:
        """The split as the gateway has it now."""
        return _split(ask_gateway(self._socket_of(service), "GET", "/split"))

    def write(self, service: str, split: TrafficSplit, expected: tuple[int, int]) -> TrafficSplit:
        """Replace the split, and read back what the gateway then has."""
        body = {**split.as_dict(), "expected": list(expected)}
        _split(ask_gateway(self._socket_of(service), "PUT", "/split", body=body))
        return self.read(service)


def _split(answer: httpx.Response) -> TrafficSplit:
    if answer.status_code == httpx.codes.CONFLICT:
        raise StaleWriter(str(answer.json()["reason"]), code="E_FENCED", hint="another controller holds the service")
    if not answer.is_success:
        raise DependencyDown(f"the gateway refused: {answer.text[:200]}", code="E_ROUTER")
    return TrafficSplit.from_dict(answer.json())
