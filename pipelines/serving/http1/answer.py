"""How do headers look on the wire, and which of them end at this hop?"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus

import orjson

from pipelines.serving.http1.request import Headers

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""Headers that belong to one connection (RFC 9110, section 7.6.1)."""

FRAMING = frozenset({b"content-length", b"content-encoding", b"content-type", b"date", b"x-request-id"})
"""What tells one answer from the next, whose it is, and how its body is read: `Connection` takes none of them away."""

JSON = b"application/json; charset=utf-8"
STATUS_LINES = {s.value: f"HTTP/1.1 {s.value} {s.phrase}".encode() for s in HTTPStatus}


@dataclass(frozen=True)
class Refusal:
    """An answer of the gateway itself."""

    status: int
    code: str
    reason: str
    field: str | None = None
    headers: bytes = b""
    """Whole lines."""

    @property
    def body(self) -> bytes:
        """In the form of every error of Shipway."""
        error = {"code": self.code, "field": self.field, "reason": self.reason, "expected": None, "hint": None}
        return orjson.dumps({"error": error})


def status_line(status: int) -> bytes:
    """The first line of an answer, not yet ended."""
    return STATUS_LINES.get(status) or b"HTTP/1.1 %d Unknown" % status


def end_to_end(headers: Headers, connection: bytes | None, dropped: frozenset[bytes]) -> list[bytes]:
    """The lines, not yet ended, of the headers that are passed on: not those of one connection, nor what it names."""
    if connection is not None and connection.lower() not in {b"keep-alive", b"close"}:
        named = b",".join(value for name, value in headers if name == b"connection")
        dropped |= {part.strip().lower() for part in named.split(b",")} - FRAMING
    return list(map(b": ".join, [header for header in headers if header[0] not in dropped]))


def chunk(data: bytes) -> bytes:
    """Some of a body whose length is not known."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def connection_line(*, keeps: bool) -> bytes:
    """What HTTP/1.1 says where it ends with this answer, and HTTP/1.0 where it does not."""
    return b"connection: keep-alive" if keeps else b"connection: close"


def own_head(status: int, length: int, kind: bytes = JSON) -> bytes:
    """The head of an answer of the gateway itself, as far as it is always the same."""
    return b"%b\r\ncontent-type: %b\r\ncontent-length: %d\r\n" % (status_line(status), kind, length)
