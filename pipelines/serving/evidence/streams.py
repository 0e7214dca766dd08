"""How fast do the events of a stream come, and how does a stream end whose arm is gone?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import orjson

from pipelines.serving.evidence.intervals import Story

ENDS = (b"\n\n", b"\n\r\n")
"""An empty line ends an event (WHATWG HTML, 9.2.5)."""


def is_event_stream(named: Mapping[bytes, bytes]) -> bool:
    """Whether an answer is a stream of events that can be read as it is, not compressed, by its headers."""
    kind = named.get(b"content-type", b"").lower()
    return kind.startswith(b"text/event-stream") and named.get(b"content-encoding", b"identity") == b"identity"


class Followed(Protocol):
    """An answer that is looked at while it passes. Times are seconds since its request was routed."""

    @property
    def is_stream(self) -> bool:
        """Whether it comes as a stream of events."""
        ...

    @property
    def is_midway(self) -> bool:
        """Whether an event has begun that has no end yet."""
        ...

    @property
    def has_begun(self) -> bool:
        """Whether anything of it is of use."""
        ...

    @property
    def may_be_left(self) -> bool:
        """Whether a client that goes in its middle says nothing about the arm."""
        ...

    def heard(self, data: bytes, at_s: float) -> None:
        """Some of it came."""

    def ending(self, status: int, at_s: float, *, is_over: bool) -> tuple[str, Story | None]:
        """Why it is a failure, or "", and what else is counted of it; of one that is not over, so far."""
        ...


class Events:
    """The events of one stream. Times are seconds since the request was routed, without waiting for the client."""

    __slots__ = ("_count", "_first_s", "_last_s", "_tail")

    def __init__(self) -> None:
        self._count, self._first_s, self._last_s, self._tail = 0, 0.0, 0.0, b""

    def heard(self, data: bytes, at_s: float) -> None:
        """Some of the stream came."""
        joined = self._tail + data
        ended = sum(joined.count(end) for end in ENDS)
        self._tail = b"" if joined.endswith(ENDS) else joined[-2:]
        if ended and not self._count:
            self._first_s = at_s
        if ended:
            self._last_s = at_s
        self._count += ended

    @property
    def timings_ms(self) -> dict[str, float]:
        """The time to the first event, and the mean time between events where there are two."""
        timings = {"first_token": self._first_s * 1000} if self._count else {}
        if self._count > 1:
            timings["between_tokens"] = (self._last_s - self._first_s) * 1000 / (self._count - 1)
        return timings

    is_stream = has_begun = True
    may_be_left = False

    @property
    def is_midway(self) -> bool:
        """Whether an event has begun that has no end yet."""
        return bool(self._tail)

    def ending(self, status: int, at_s: float, *, is_over: bool) -> tuple[str, Story | None]:  # noqa: ARG002
        """Its timings."""
        return "", Story(self.timings_ms)


def farewell(reason: str, *, is_midway: bool) -> bytes:
    """The event that ends a stream whose arm is gone: what was cut is closed, and then the client is told."""
    error = {"code": "E_STREAM", "field": None, "reason": reason, "expected": None, "hint": "ask again"}
    closing = b"\n\n" if is_midway else b""
    return closing + b"event: error\ndata: " + orjson.dumps({"error": error}) + b"\n\n"
