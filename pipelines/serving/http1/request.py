"""What did a client ask, and is it one clear HTTP/1.1 request?

llhttp (by httptools) parses strictly: it refuses two lengths, bare line ends, folded headers, NUL and bad chunks. What
is legal but ambiguous or unwanted at a gateway is refused here. A request is handed on whole: an arm gets it under one
length that the gateway counted itself, so that no two parsers can disagree about where it ends.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import httptools

from pipelines.serving.http1.limits import Limits, Load

Headers = list[tuple[bytes, bytes]]

_NEVER_TWICE = frozenset({b"host", b"content-length", b"transfer-encoding"})
_FIRST_COUNTS = frozenset({b"x-request-id"})
"""A name, no list: what a client's own proxy added behind it changes nothing."""

VERSIONS = frozenset({"1.1", "1.0"})

RAW_PER_BODY = 8
"""A body of tiny chunks has this many bytes on the wire for each byte that counts, at most."""


class BadRequest(Exception):  # what happened, not a programming error
    """A request that is refused, with the answer's status and a stable code. The connection ends with it."""

    def __init__(self, status: int, code: str, reason: str, field: str | None = None) -> None:
        super().__init__(reason)
        self.status, self.code, self.field = status, code, field


@dataclass(slots=True)
class Request:
    """One whole request. Names of headers are in lower case; `named` has them by name, several lines as one list."""

    method: bytes
    target: bytes
    headers: Headers
    named: dict[bytes, bytes]
    is_http11: bool
    body: bytes = b""
    keep_alive: bool = True

    @property
    def text_headers(self) -> dict[str, str]:
        """The headers as text, the first of each name; names in lower case."""
        return {name.decode(): value.decode(errors="replace") for name, value in reversed(self.headers)}


class RequestReader:
    """Reads the bytes of one connection: whole requests gather in `whole`, `broken` says why it reads no more."""

    def __init__(self, limits: Limits, load: Load) -> None:
        self._limits, self._load = limits, load
        self._parser = httptools.HttpRequestParser(self)
        self._request: Request | None = None
        self._held_bytes = 0
        self.whole: deque[Request] = deque()
        self.broken: BadRequest | None = None
        self.is_midway = self.must_proceed = False
        self._target, self._headers, self._body = b"", Headers(), bytearray()
        self._raw_bytes = 0

    @property
    def has_head(self) -> bool:
        """Whether the request that is being read has all its headers."""
        return self._request is not None

    def feed(self, data: bytes) -> None:
        """Some bytes of the client; nothing more is understood after the first that is not HTTP/1.1."""
        if self.broken is not None:
            return
        self._raw_bytes += len(data)
        try:
            self._parser.feed_data(data)
            if self.is_midway:
                self._check_size()
        except httptools.HttpParserUpgrade as upgrade:
            # The offer of another protocol was declined: what follows is read as HTTP/1.1.
            self._parser = httptools.HttpRequestParser(self)
            self.feed(data[upgrade.args[0] :])
        except BadRequest as error:
            self._stop(error)
        except httptools.HttpParserError as error:
            why = error.__context__
            self._stop(
                why if isinstance(why, BadRequest) else BadRequest(400, "E_REQUEST", f"not HTTP/1.1: {error}"[:200])
            )

    def _stop(self, why: BadRequest) -> None:
        """Hold nothing of what was refused: neither here nor in the frames of the traceback."""
        self.broken, self._headers = why.with_traceback(None), Headers()

    def close(self) -> None:
        """Nothing is held for this connection any more."""
        self._load.body_bytes -= self._held_bytes
        self._held_bytes = 0

    def _check_size(self) -> None:
        is_head_over = self._request is None and self._raw_bytes > self._limits.head_bytes
        if is_head_over or len(self._headers) > self._limits.header_count:
            raise _head_over(self._limits)
        if self._raw_bytes > self._limits.head_bytes + RAW_PER_BODY * self._limits.body_bytes:
            raise BadRequest(413, "E_LIMIT", "the chunks of the body are too small for its size", "body")

    # What httptools calls.

    def on_message_begin(self) -> None:
        """A request begins."""
        if len(self.whole) >= self._limits.pipelined:
            raise BadRequest(503, "E_BUSY", f"more than {self._limits.pipelined} requests wait on this connection")
        self.is_midway = True

    def on_url(self, part: bytes) -> None:
        """Some of the target."""
        self._target += part
        if len(self._target) > self._limits.target_bytes:
            raise BadRequest(414, "E_LIMIT", f"the target has more than {self._limits.target_bytes} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer after the body: those are counted, and not passed on."""
        # Parsers leave spaces at the end. Too many headers are found where they end, or at the end of what was read.
        self._headers.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        """All headers have come."""
        parser, limits = self._parser, self._limits
        headers, self._headers = self._headers, []  # what follows is a trailer
        if len(headers) > limits.header_count:
            raise _head_over(limits)
        if self._raw_bytes > limits.head_bytes and size_of(headers) > limits.head_bytes:
            raise _head_over(limits)
        version = parser.get_http_version()
        if version not in VERSIONS:
            raise BadRequest(505, "E_REQUEST", f"HTTP/{version} is not spoken here")
        named = _by_name(headers)
        self._request = Request(parser.get_method(), self._target, headers, named, version == "1.1")
        _check_framing(self._request)
        if parser.should_upgrade():
            _check_upgrade(self._request)
        if b"content-length" in named and int(named[b"content-length"]) > limits.body_bytes:
            raise _body_over(limits)
        if b"expect" in named:
            if named[b"expect"].lower() != b"100-continue":
                raise BadRequest(417, "E_REQUEST", "nothing but 100-continue can be expected", "expect")
            self.must_proceed = version == "1.1"

    def on_body(self, part: bytes) -> None:
        """Some of the body."""
        self._body += part
        self._load.body_bytes += len(part)
        self._held_bytes += len(part)
        if len(self._body) > self._limits.body_bytes:
            raise _body_over(self._limits)
        if self._load.body_bytes > self._limits.all_body_bytes:
            raise BadRequest(503, "E_BUSY", "the gateway holds as many bodies as it may")

    def on_message_complete(self) -> None:
        """A request is whole."""
        request = self._request
        assert request is not None  # noqa: S101  its headers came before
        if self._body:
            request.body = bytes(self._body)
            self._body.clear()
        if self._headers:
            self._drop_trailers()
        request.keep_alive = self._parser.should_keep_alive()
        self._request, self.is_midway, self.must_proceed = None, False, False
        self._target, self._raw_bytes = b"", 0
        self.whole.append(request)

    def _drop_trailers(self) -> None:
        trailers, self._headers = self._headers, Headers()
        if len(trailers) > self._limits.header_count:
            raise _head_over(self._limits)

    def forget(self, request: Request) -> None:
        """A request was answered: its body is held no longer."""
        freed = min(len(request.body), self._held_bytes)  # nothing, where the client left before
        self._held_bytes -= freed
        self._load.body_bytes -= freed


def _by_name(headers: Headers) -> dict[bytes, bytes]:
    """Headers by their name; BadRequest where there are two of what is one, but for a request's id."""
    named = dict(headers)
    if len(named) == len(headers):
        return named
    named.clear()
    for name, value in headers:
        if name in named and name in _NEVER_TWICE:
            raise BadRequest(400, "E_REQUEST", f"{name.decode()} stands there twice", name.decode())
        if name not in _FIRST_COUNTS or name not in named:
            named[name] = named[name] + b"," + value if name in named else value
    return named


def size_of(headers: Headers) -> int:
    """How many bytes do headers take on the wire?"""
    return sum(len(name) + len(value) + 4 for name, value in headers)


def _check_framing(request: Request) -> None:
    """Whether it is clear where the request ends, and that it is for us."""
    named = request.named
    if request.is_http11 and b"host" not in named:
        raise BadRequest(400, "E_REQUEST", "a request needs a host", "host")
    if b"transfer-encoding" in named:
        if not request.is_http11 or b"content-length" in named:
            raise BadRequest(400, "E_REQUEST", "the length of the body is ambiguous", "transfer-encoding")
        if named[b"transfer-encoding"].lower() != b"chunked":
            raise BadRequest(501, "E_REQUEST", "chunked is the only transfer coding", "transfer-encoding")
    if not request.target.startswith(b"/") or b"#" in request.target:
        raise BadRequest(400, "E_REQUEST", "the request's target must be a path")


def _check_upgrade(request: Request) -> None:
    """An offer of HTTP/2 without a body may be left out of account (RFC 9110, 7.8); the rest is refused clearly."""
    named = request.named
    has_body = named.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in named
    if named.get(b"upgrade", b"").lower() != b"h2c" or has_body:
        raise BadRequest(501, "E_UPGRADE", "no other protocol is spoken here: no WebSocket, no tunnel", "upgrade")


def _head_over(limits: Limits) -> BadRequest:
    reason = f"there are more than {limits.header_count} headers, or they have more than {limits.head_bytes} bytes"
    return BadRequest(431, "E_LIMIT", reason)


def _body_over(limits: Limits) -> BadRequest:
    return BadRequest(413, "E_LIMIT", f"the body has more than {limits.body_bytes} bytes", "body")
