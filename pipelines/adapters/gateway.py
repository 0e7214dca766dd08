"""Shipway's gateway as a router and as a source of evidence, over its admin socket; and how it takes labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import orjson

from evals.signals.strata import Stratum
from pipelines.errors import DependencyDown, StaleWriter
from pipelines.ports import Now, StrataQuery
from pipelines.records.split import TrafficSplit
from pipelines.services.labels import EVIDENCE, LATE, UNKNOWN, Fate


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


ADMIN_TIMEOUT_S, LABELS_TIMEOUT_S = 2.0, 5.0


def ask_gateway(
    socket: Path, method: str, path: str, *, body: Any = None, query: Mapping[str, str | int] | None = None
) -> httpx.Response:
    """One request over a Unix socket. DependencyDown where nobody answers in time."""
    try:
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket)), timeout=ADMIN_TIMEOUT_S) as client:
            return client.request(method, f"http://gateway{path}", json=body, params=query)
    except (httpx.HTTPError, OSError) as error:
        reason = f"the gateway does not answer: {error or type(error).__name__}"
        raise DependencyDown(reason, code="E_ROUTER", hint="shipway up starts it") from None


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


OF_LABELS = ("E_LABEL", "E_BODY", "E_LIMIT")
"""Beginnings of the codes with which a gateway refuses a label."""


class GatewayLabels:
    """The `/feedback` of a gateway at `url`."""

    def __init__(self, url: str) -> None:
        self._url = f"{url.rstrip('/')}/feedback"

    def take(self, body: Mapping[str, Any]) -> Fate:
        """What became of a label. DependencyDown where nobody answers, or nobody who knows labels."""
        headers = {"content-type": "application/json"}
        try:
            answer = self._client.post(self._url, content=orjson.dumps(body), headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._down(str(error) or type(error).__name__) from None
        try:
            return _fate(answer.json())
        except (ValueError, KeyError, TypeError, RecursionError):
            raise self._down(f"it answered {answer.status_code} and no word on the label") from None

    @cached_property
    def _client(self) -> httpx.Client:
        return httpx.Client(timeout=LABELS_TIMEOUT_S, trust_env=False)

    def _down(self, reason: str) -> DependencyDown:
        hint = "shipway up starts the gateway; then run the same command again"
        return DependencyDown(f"{self._url} takes no labels: {reason}", code="E_ROUTER", hint=hint)


def _fate(said: Any) -> Fate:
    """KeyError for an answer that says nothing of a label: it comes from something else than a gateway."""
    if "error" not in said:
        return Fate(EVIDENCE if said["evidence"] else LATE)
    error = said["error"]
    code = str(error["code"])
    if not code.startswith(OF_LABELS):
        raise KeyError(code)
    return Fate(UNKNOWN if code == "E_LABEL_UNKNOWN" else code, f"{error['field']}: {error['reason']}")
