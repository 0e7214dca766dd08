"""What do this service's clients ask? A sample of their requests is kept for replays.

Bounded in memory (a queue that may be full) and on the disk (the newest `keep`); a thread of its own writes. What is
kept is what a client sent, without what is personal by the rules: path, body, a few harmless headers, the time. Headers
are kept by a list of names, so that no credential is among them under whatever name it comes. Nothing here ever slows
or breaks a request: what fails is counted and forgotten.
"""

from __future__ import annotations

import queue
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from pipelines.errors import BadInput
from pipelines.records.settings import Recording
from pipelines.serving.http1.encodings import decoded
from pipelines.serving.http1.request import Request
from pipelines.serving.privacy.bounded import MOST_S, BoundedRedactor, Unredacted
from pipelines.serving.requests.assignment import Rule
from pipelines.serving.requests.record_file import Named, Naming, Recorded, expire, keep, settle
from pipelines.serving.requests.repeats import is_inference

KEPT_HEADERS = ("content-type", "accept", "accept-language")
REPLAYED = "x-shipway-replay"
REDACTED = "redacted"

MOST_WAITING = 64
PAUSE_S = 0.2
"""The disk is written at most this often, and a gateway that is killed loses at most this much."""

EXPIRE_S = 60.0
"""What was kept for its time goes so soon after, whether or not others come."""


@dataclass(frozen=True)
class Sampled:
    """A request that waits to be kept."""

    request: Request
    request_id: bytes
    at_s: float


class Recorder:
    """Keeps a sample. `count` is told what became of each request: recorded, skipped, dropped or failed.

    `rule` says who its user is.
    """

    def __init__(
        self,
        path: Path,
        recording: Recording,
        count: Callable[[str], None] = lambda _: None,
        rule: Rule | None = None,
    ) -> None:
        self._path, self._recording, self._count, self._rule = path, recording, count, rule
        self._random = random.Random().random  # noqa: S311  a sample, not a secret
        self._redactor = BoundedRedactor(recording.recognise, recording.patterns, MOST_S)
        self._waiting: queue.Queue[Sampled] = queue.Queue(MOST_WAITING)
        self._ending = threading.Event()
        self._is_settled, self._next_expiry_s = False, 0.0
        self._thread = threading.Thread(target=self._keep_writing, name="recorder", daemon=True)
        self._thread.start()

    def saw(self, request: Request, request_id: bytes) -> None:
        """A request was routed. Returns at once, and never raises."""
        try:
            if self._random() < self._recording.share and self._is_wanted(request):
                self._waiting.put_nowait(Sampled(request, request_id, time.time()))
        except queue.Full:
            self._count("dropped")
        except Exception:  # noqa: BLE001  a user's request does not end here
            self._count("failed")

    def close(self) -> None:
        """Write what waits, and end."""
        self._ending.set()
        self._thread.join(5.0)
        self._redactor.close()

    def _is_wanted(self, request: Request) -> bool:
        is_small = 0 < len(request.body) <= self._recording.max_body_bytes
        return is_small and REPLAYED.encode() not in request.named and is_inference(request.method, request.target)

    def _keep_writing(self) -> None:
        while True:
            self._tidy()
            is_last = self._ending.wait(PAUSE_S)
            batch = self._taken()
            if batch:
                self._write(batch)
            if is_last:
                return

    def _tidy(self) -> None:
        """What must not be kept any more goes, by the rules or by its time."""
        if time.monotonic() < self._next_expiry_s:
            return
        self._next_expiry_s = time.monotonic() + EXPIRE_S
        with suppress(sqlite3.Error, OSError):  # who writes next is told
            self._settle()
            expire(self._path, time.time())

    def _settle(self) -> None:
        if not self._is_settled:
            settle(self._path, self._recording)
            self._naming = Naming(self._path.parent)
            self._is_settled = True

    def _taken(self) -> list[Sampled]:
        batch: list[Sampled] = []
        with suppress(queue.Empty):
            while len(batch) < MOST_WAITING:
                batch.append(self._waiting.get_nowait())
        return batch

    def _write(self, batch: Sequence[Sampled]) -> None:
        """Keep them; where the disk does not take them they are lost, and counted."""
        outcome, found = "failed", 0
        try:
            self._settle()
            named = [one for seen in batch if (one := self._clean(seen)) is not None]
            found = len(named)
            keep(self._path, named, self._recording.keep)
            outcome = "recorded"
        except (sqlite3.Error, OSError):
            found = found or len(batch)
        for _ in range(found):
            self._count(outcome)

    def _clean(self, seen: Sampled) -> Named | None:
        """The request without what must not be kept; None where that cannot be taken out, since it is not JSON."""
        recording, headers = self._recording, seen.request.text_headers
        try:
            plain = decoded(seen.request.body, headers.get("content-encoding", ""), recording.max_body_bytes)
            body = orjson.dumps(self._redacted(without_fields(plain, recording.redact)))
        except (BadInput, Unredacted, orjson.JSONEncodeError, orjson.JSONDecodeError, RecursionError):
            self._count("skipped")
            return None
        secret = {name.lower() for name in recording.redact}
        kept = {name: REDACTED if name in secret else headers[name] for name in KEPT_HEADERS if name in headers}
        request = seen.request
        path = request.target.decode().partition("?")[0]
        user = self._rule.user_of(replace(request, body=plain)) if self._rule is not None else None
        return Named(
            Recorded(0, seen.at_s, request.method.decode(), path, kept, body),
            self._naming.of_request(seen.request_id),
            self._naming.of_user(user) if user is not None else None,
        )

    def _redacted(self, value: Any) -> Any:
        has_rules = self._recording.recognise or self._recording.patterns
        return self._redactor.redacted(value) if has_rules else value


def without_fields(body: bytes, redact: Sequence[str]) -> Any:
    """The JSON of a body, with the declared fields redacted."""
    parsed = orjson.loads(body)
    for path in (name.split(".")[1:] for name in redact if name.startswith("body.")):
        parsed = redacted(parsed, path)
    return parsed


def redacted(value: Any, path: Sequence[str]) -> Any:
    """The value with a marker of the same JSON type in place of what is at the path.

    A path leads through every element of a list, whether it names a number there or not.
    """
    if not path:
        return _marker(value)
    if isinstance(value, list):
        return [redacted(item, path[1:] if path[0].isdigit() else path) for item in value]
    if isinstance(value, dict) and path[0] in value:
        return {**value, path[0]: redacted(value[path[0]], path[1:])}
    return value


def _marker(value: Any) -> Any:
    """A list keeps its length, so that a tensor still fits its shape."""
    if isinstance(value, list):
        return [_marker(item) for item in value]
    return None if value is None else REDACTED if isinstance(value, str) else type(value)()
