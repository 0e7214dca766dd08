"""The gateway's own counters as a source of canary evidence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from evals.signals.strata import Stratum
from pipelines.adapters.gateway_socket import ask_gateway
from pipelines.errors import DependencyDown
from pipelines.ports import Now, StrataQuery


class GatewayMetrics:
    """Implements `ports.MetricsSource`."""

    def __init__(self, socket_of: Callable[[str], Path]) -> None:
        self._socket_of = socket_of

    def measure(self, query: StrataQuery, now: Now) -> tuple[Stratum, ...]:  # noqa: ARG002  the gateway has its own clock
        """The decided strata after the query's interval; another boot's from its first."""
        asked: dict[str, str | int] = {"after": query.after, "boot": query.boot}
        answer = ask_gateway(self._socket_of(query.service), "GET", "/strata", query=asked)
        try:
            return tuple(Stratum.from_dict(raw) for raw in answer.raise_for_status().json()["strata"])
        except (ValueError, KeyError, TypeError) as error:
            raise DependencyDown(f"the gateway's strata are not readable: {error}", code="E_METRICS") from None
