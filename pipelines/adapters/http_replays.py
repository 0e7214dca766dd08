"""Recorded requests are asked of both arms' servers over HTTP, never through the gateway that counts live ones."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import httpx

from evals.signals.replay import Pair
from pipelines.errors import DependencyDown
from pipelines.ports import ReplayQuery
from pipelines.records.split import Arm
from pipelines.serving.meter.rewriting import Unfit, rewritten_for
from pipelines.serving.requests.record_file import Recorded, recorded_numbers, recorded_requests
from pipelines.serving.requests.recorder import REPLAYED
from pipelines.serving.sockets import trust

MOST_ANSWER_BYTES = 8 * 1024 * 1024
OF_ONE_ANSWER = frozenset({"model_version", "id", "created", "model", "system_fingerprint"})
"""Keys of an answer that differ between any two answers, or any two versions."""


@dataclass(frozen=True)
class ArmAnswer:
    """What one arm answered, within its time."""

    status: int
    body: bytes
    predicted: str | None
    ms: float


class HttpReplays:
    """Implements `ports.Replays`; `record_of` names the file with a service's requests."""

    def __init__(self, record_of: Callable[[str], Path]) -> None:
        self._record_of = record_of

    def recorded(self, service: str) -> tuple[int, ...]:
        """What is kept."""
        with _readable(service):
            return recorded_numbers(self._record_of(service))

    def ask(self, query: ReplayQuery) -> tuple[Pair, ...]:
        """Both arms' answers, compared."""
        with _readable(query.service):
            kept = recorded_requests(self._record_of(query.service), query.numbers)
        try:
            verify = trust(query.stable.ca_file)
        except OSError as error:
            raise DependencyDown(f"{query.stable.ca_file}: {error}", code="E_CA", field=query.service) from None
        with httpx.Client(verify=verify, timeout=query.timeout_s, trust_env=False, follow_redirects=False) as client:
            turns = list(enumerate(kept[n] for n in query.numbers if n in kept))
            with ThreadPoolExecutor(query.concurrency, "replay") as pool:
                return tuple(pool.map(lambda turn: _pair(client, query, *turn), turns))


@contextmanager
def _readable(service: str) -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.Error, ValueError) as error:
        reason = f"the recorded requests of {service} cannot be read: {error}"
        raise DependencyDown(reason, code="E_RECORD", field=service) from None


def _pair(client: httpx.Client, query: ReplayQuery, turn: int, request: Recorded) -> Pair:
    """Who is asked first may meet colder or warmer caches, so the arms take turns."""
    arms: Sequence[Arm] = (query.stable, query.canary)
    order = (0, 1) if turn % 2 == 0 else (1, 0)
    answers = {i: _asked(client, arms[i], turn, request, query.timeout_s) for i in order}
    stable, canary = answers[0], answers[1]
    agrees, is_class = _compared(canary, stable)
    return Pair(canary.ms if canary else None, stable.ms if stable else None, agrees, is_class)


def _asked(client: httpx.Client, arm: Arm, turn: int, request: Recorded, timeout_s: float) -> ArmAnswer | None:
    """The answer; None where it failed as a live one would have: a 5xx, a broken connection, or not in time."""
    url, headers = arm.urls[turn % len(arm.urls)], {**request.headers, REPLAYED: "1"}
    try:
        body = rewritten_for(arm, request.path, request.body)
    except Unfit:
        return None
    began_s, parts, size = monotonic(), [], 0
    try:
        with client.stream(request.method, url + request.path, headers=headers, content=body) as response:
            for part in response.iter_bytes():
                parts.append(part if size <= MOST_ANSWER_BYTES else b"")
                size += len(part)
                if monotonic() - began_s > timeout_s:
                    return None
    except httpx.HTTPError:
        return None
    took_s = monotonic() - began_s
    if response.status_code >= httpx.codes.INTERNAL_SERVER_ERROR or took_s > timeout_s:
        return None
    return ArmAnswer(response.status_code, b"".join(parts), response.headers.get("x-shipway-class"), took_s * 1000)


def _compared(canary: ArmAnswer | None, stable: ArmAnswer | None) -> tuple[bool | None, bool]:
    """Whether both gave the same answer, and whether it is a class; None where there are not two."""
    if canary is None or stable is None:
        return None, False
    if canary.predicted is not None and stable.predicted is not None:
        return canary.predicted == stable.predicted, True
    return (canary.status, _said(canary.body)) == (stable.status, _said(stable.body)), False


def _said(body: bytes) -> Any:
    """An answer without what is of this one answer only; the bytes where it is not JSON."""
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        return body
    return {k: v for k, v in parsed.items() if k not in OF_ONE_ANSWER} if isinstance(parsed, dict) else parsed
