"""Which events does a stream hold? Its data, one event after the other, however the network cuts it.

Source of the format: WHATWG HTML, 9.2 "Server-sent events".
"""

from __future__ import annotations

MOST_EVENT_BYTES = 1024 * 1024
"""An event that is longer is not read; what comes after it is."""

_PLAIN = b"data: "
"""How every engine begins an event: one line, which is what is read fast."""


class EventReader:
    """The data of each event, in order. It keeps what has no end yet, and no more than one event may hold."""

    __slots__ = ("_is_skipping", "_last_was_cr", "_tail", "unread")

    def __init__(self) -> None:
        self._tail, self._is_skipping, self._last_was_cr = b"", False, False
        self.unread = 0
        """Events that were too long to be read."""

    @property
    def is_midway(self) -> bool:
        """Whether an event has begun that has no end yet."""
        return bool(self._tail) or self._is_skipping

    def feed(self, data: bytes) -> list[bytes]:
        """The data of the events that ended in these bytes; an event without data gives none."""
        if self._last_was_cr or b"\r" in data:
            data = self._with_line_feeds(data)
        *ended, tail = (self._tail + data).split(b"\n\n")
        if self._is_skipping and ended:
            self._is_skipping = False
            ended[0] = b""  # the rest of what was too long
        if len(tail) > MOST_EVENT_BYTES or (self._is_skipping and tail):
            self.unread += not self._is_skipping
            self._is_skipping, tail = True, tail[-1:] if tail.endswith(b"\n") else b""
        self._tail = tail
        return [found for found in map(_data_of, ended) if found]

    def _with_line_feeds(self, data: bytes) -> bytes:
        """Line ends of any kind as line feeds, also where a pair was cut in two."""
        if self._last_was_cr and data.startswith(b"\n"):
            data = data[1:]
            if not data:
                self._last_was_cr = False
                return b""
        self._last_was_cr = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _data_of(event: bytes) -> bytes:
    """An event's data, its lines joined; comments, names and ids are not of interest."""
    if event.startswith(_PLAIN) and b"\n" not in event:
        return event[6:]
    lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")]
    return b"\n".join(lines)
