"""What do this service's clients ask? A sample of their requests is kept for replays.

Bounded in memory (a queue that may be full) and on the disk (the newest `keep`); a thread of its own writes. What is
kept is what a client sent: path, body, a few harmless headers, the time. Headers are kept by a list of names, so that
no credential is among them under whatever name it comes. Nothing here ever slows or breaks a request: what fails is
counted and forgotten.
"""

from __future__ import annotations

import os
import queue
import random
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from pipelines.errors import BadInput
from pipelines.records.settings import Recording
from pipelines.serving.http1.encodings import decoded
from pipelines.serving.requests.repeats import is_inference

KEPT_HEADERS = ("content-type", "accept", "accept-language")
REPLAYED = "x-shipway-replay"
REDACTED = "redacted"

MOST_WAITING = 64
PAUSE_S = 0.2
"""The disk is written at most this often, and a gateway that is killed loses at most this much."""

_TABLE = """CREATE TABLE IF NOT EXISTS requests
    (n INTEGER PRIMARY KEY AUTOINCREMENT, at_s REAL, method TEXT, path TEXT, headers TEXT, body BLOB)"""


@dataclass(frozen=True)
class Recorded:
    """One request as it is kept; `n` grows with every request that was ever kept here."""

    n: int
    at_s: float
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Recorder:
    """Keeps a sample. `count` is told what became of each request: recorded, skipped, dropped or failed."""

    def __init__(self, path: Path, recording: Recording, count: Callable[[str], None] = lambda _: None) -> None:
        self._path, self._recording, self._count = path, recording, count
        self._random = random.Random().random  # noqa: S311  a sample, not a secret
        self._waiting: queue.Queue[Recorded] = queue.Queue(MOST_WAITING)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._keep_writing, name="recorder", daemon=True)
        self._thread.start()

    def saw(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> None:
        """A request was routed. Returns at once, and never raises."""
        try:
            if self._random() < self._recording.share and self._is_wanted(method, path, headers, body):
                kept = {name: headers[name] for name in (*KEPT_HEADERS, "content-encoding") if name in headers}
                self._waiting.put_nowait(Recorded(0, time.time(), method, path.partition("?")[0], kept, body))
        except queue.Full:
            self._count("dropped")
        except Exception:  # noqa: BLE001  a user's request does not end here
            self._count("failed")

    def close(self) -> None:
        """Write what waits, and end."""
        self._ending.set()
        self._thread.join(5.0)

    def _is_wanted(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> bool:
        is_small = 0 < len(body) <= self._recording.max_body_bytes
        return is_inference(method.encode(), path.encode()) and is_small and REPLAYED not in headers

    def _keep_writing(self) -> None:
        while True:
            is_last = self._ending.wait(PAUSE_S)
            batch = self._taken()
            if batch:
                self._write(batch)
            if is_last:
                return

    def _taken(self) -> list[Recorded]:
        batch: list[Recorded] = []
        with suppress(queue.Empty):
            while len(batch) < MOST_WAITING:
                batch.append(self._waiting.get_nowait())
        return batch

    def _write(self, batch: Sequence[Recorded]) -> None:
        """Keep them; where the disk does not take them they are lost, and counted."""
        found = [clean for request in batch if (clean := self._clean(request)) is not None]
        try:
            with closing(_opened(self._path, self._recording.redact)) as kept, kept:
                rows = [(r.at_s, r.method, r.path, orjson.dumps(r.headers), r.body) for r in found]
                kept.executemany(
                    "INSERT INTO requests (at_s, method, path, headers, body) VALUES (?, ?, ?, ?, ?)", rows
                )
                kept.execute(
                    "DELETE FROM requests WHERE n <= (SELECT max(n) FROM requests) - ?", (self._recording.keep,)
                )
        except (sqlite3.Error, OSError):
            outcome = "failed"
        else:
            outcome = "recorded"
        for _ in found:
            self._count(outcome)

    def _clean(self, request: Recorded) -> Recorded | None:
        """The request without what must not be kept; None where that cannot be taken out, since it is not JSON."""
        try:
            body = cleaned(request, self._recording)
        except (BadInput, orjson.JSONEncodeError, orjson.JSONDecodeError, RecursionError):
            self._count("skipped")
            return None
        secret = {name.lower() for name in self._recording.redact}
        headers = {k: REDACTED if k in secret else v for k, v in request.headers.items() if k in KEPT_HEADERS}
        return Recorded(0, request.at_s, request.method, request.path, headers, body)


def cleaned(request: Recorded, recording: Recording) -> bytes:
    """The body, decompressed, with the declared fields redacted. BadInput or a JSON error where it cannot be read."""
    body = decoded(request.body, request.headers.get("content-encoding", ""), recording.max_body_bytes)
    parsed = orjson.loads(body)
    paths = [name.split(".")[1:] for name in recording.redact if name.startswith("body.")]
    if not paths:
        return body
    for path in paths:
        parsed = redacted(parsed, path)
    return orjson.dumps(parsed)


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


def _opened(path: Path, redact: Sequence[str]) -> sqlite3.Connection:
    """The record, private to its user. One that was made under other rules of redaction is emptied first."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600))
    path.chmod(0o600)
    kept = sqlite3.connect(path, timeout=1.0)
    try:
        kept.execute("PRAGMA auto_vacuum = FULL")
        kept.execute("PRAGMA secure_delete = ON")
        kept.execute(_TABLE)
        rules = zlib.crc32("\n".join(sorted(redact)).encode()) & 0x7FFFFFFF
        if kept.execute("PRAGMA user_version").fetchone()[0] != rules:
            with kept:
                kept.execute("DELETE FROM requests")
                kept.execute(f"PRAGMA user_version = {rules}")
    except BaseException:
        kept.close()
        raise
    return kept


def recorded_numbers(path: Path) -> tuple[int, ...]:
    """The numbers of the requests that are kept, oldest first. OSError or sqlite3.Error where they cannot be read."""
    return tuple(n for (n,) in _asked(path, "SELECT n FROM requests ORDER BY n"))


def recorded_requests(path: Path, numbers: Sequence[int]) -> dict[int, Recorded]:
    """The requests of these numbers, as far as they are still kept."""
    rows = (row for n in numbers for row in _asked(path, "SELECT * FROM requests WHERE n = ?", n))
    return {
        n: Recorded(n, at_s, method, to, orjson.loads(headers), body) for n, at_s, method, to, headers, body in rows
    }


def _asked(path: Path, query: str, *values: int) -> list[Any]:
    if not path.exists():
        return []
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=5.0)) as kept:
        return kept.execute(query, values).fetchall()
