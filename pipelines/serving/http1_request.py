"""What did a client ask, and is it one clear HTTP/1.1 request?

llhttp (by httptools) parses strictly: it refuses two lengths, bare line ends, folded headers, NUL and bad chunks. What
is legal but ambiguous or unwanted at a gateway is refused here. A request is handed on whole: an arm gets it under one
length that the gateway counted itself, so that no two parsers can disagree about where it ends.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import httptools

from pipelines.serving.limits import Limits, Load

Headers = list[tuple[bytes, bytes]]

_NEVER_TWICE = frozenset({b"host", b"content-length", b"transfer-encoding"})
_KNOWN = _NEVER_TWICE | {b"expect", b"connection", b"upgrade", b"x-request-id"}

RAW_PER_BODY = 8
"""A body of tiny chunks has this many bytes on the wire for each byte that counts, at most."""


class BadRequest(Exception):  # what happened, not a programming error
    """A request that is refused, with the answer's status and a stable code. The connection ends with it."""

    def __init__(self, status: int, code: str, reason: str, field: str | None = None) -> None:
        super().__init__(reason)
        self.status, self.code, self.field = status, code, field


@dataclass(slots=True)
class Request:
    """One whole request. Names of headers are in lower case; `known` holds those that decide how it is treated."""

    method: bytes
    target: bytes
    headers: Headers
    known: dict[bytes, bytes]
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
        self._begin()

    def _begin(self) -> None:
        self._target, self._headers, self._body = b"", Headers(), bytearray()
        self._raw_bytes = 0

    @property
    def has_head(self) -> bool:
        """Whether the request that is being read has all its headers."""
        return self._request is not None

    def feed(self, data: bytes) -> None:
        """Some bytes of the client; nothing more is understood after the first that is not HTTP/1.1."""
        if self.broken is None:
            try:
                self._feed(data)
            except BadRequest as error:
                self.broken = error

    def _feed(self, data: bytes) -> None:
        self._raw_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # The offer of another protocol was declined: what follows is read as HTTP/1.1.
            self._parser = httptools.HttpRequestParser(self)
            self._feed(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            if isinstance(error.__context__, BadRequest):
                raise error.__context__ from None
            raise BadRequest(400, "E_REQUEST", f"not HTTP/1.1: {error}"[:200]) from None
        if self.is_midway:
            self._check_size()

    def close(self) -> None:
        """Nothing is held for this connection any more."""
        self._load.body_bytes -= self._held_bytes
        self._held_bytes = 0

    def _check_size(self) -> None:
        if self._request is None and self._raw_bytes > self._limits.head_bytes:
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
        # Spaces are left at the end of a value that came in several pieces.
        self._headers.append((name.lower(), value.strip(b" \t")))
        if len(self._headers) > self._limits.header_count:
            raise _head_over(self._limits)

    def on_headers_complete(self) -> None:
        """All headers have come."""
        parser = self._parser
        headers, self._headers = self._headers, Headers()  # what follows is a trailer
        known, version = _known(headers), parser.get_http_version()
        if version not in {"1.1", "1.0"}:
            raise BadRequest(505, "E_REQUEST", f"HTTP/{version} is not spoken here")
        if self._raw_bytes > self._limits.head_bytes and size_of(headers) > self._limits.head_bytes:
            raise _head_over(self._limits)
        self._request = Request(parser.get_method(), self._target, headers, known, version == "1.1")
        _check_framing(self._request)
        if parser.should_upgrade():
            _check_upgrade(self._request)
        if int(known.get(b"content-length", b"0")) > self._limits.body_bytes:
            raise _body_over(self._limits)
        if b"expect" in known:
            if known[b"expect"].lower() != b"100-continue":
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
        request.body = bytes(self._body)
        request.keep_alive = self._parser.should_keep_alive()
        self._request, self.is_midway, self.must_proceed = None, False, False
        self._begin()
        self.whole.append(request)

    def forget(self, request: Request) -> None:
        """A request was answered: its body is held no longer."""
        freed = min(len(request.body), self._held_bytes)  # nothing, where the client left before
        self._held_bytes -= freed
        self._load.body_bytes -= freed


def _known(headers: Headers) -> dict[bytes, bytes]:
    """The headers that decide how a request is treated; BadRequest where there are two of what is one."""
    known: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in _KNOWN:
            if name in known:
                if name in _NEVER_TWICE:
                    raise BadRequest(400, "E_REQUEST", f"{name.decode()} stands there twice", name.decode())
                value = known[name] + b"," + value  # noqa: PLW2901  a list may be spread over several lines
            known[name] = value
    return known


def size_of(headers: Headers) -> int:
    """How many bytes do headers take on the wire?"""
    return sum(len(name) + len(value) + 4 for name, value in headers)


def _check_framing(request: Request) -> None:
    """Whether it is clear where the request ends, and that it is for us."""
    known = request.known
    if request.is_http11 and b"host" not in known:
        raise BadRequest(400, "E_REQUEST", "a request needs a host", "host")
    if b"transfer-encoding" in known:
        if not request.is_http11 or b"content-length" in known:
            raise BadRequest(400, "E_REQUEST", "the length of the body is ambiguous", "transfer-encoding")
        if known[b"transfer-encoding"].lower() != b"chunked":
            raise BadRequest(501, "E_REQUEST", "chunked is the only transfer coding", "transfer-encoding")
    if not request.target.startswith(b"/") or b"#" in request.target:
        raise BadRequest(400, "E_REQUEST", "the request's target must be a path")


def _check_upgrade(request: Request) -> None:
    """An offer of HTTP/2 without a body may be left out of account (RFC 9110, 7.8); the rest is refused clearly."""
    known = request.known
    has_body = known.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in known
    if known.get(b"upgrade", b"").lower() != b"h2c" or has_body:
        raise BadRequest(501, "E_UPGRADE", "no other protocol is spoken here: no WebSocket, no tunnel", "upgrade")


def _head_over(limits: Limits) -> BadRequest:
    reason = f"there are more than {limits.header_count} headers, or they have more than {limits.head_bytes} bytes"
    return BadRequest(431, "E_LIMIT", reason)


def _body_over(limits: Limits) -> BadRequest:
    return BadRequest(413, "E_LIMIT", f"the body has more than {limits.body_bytes} bytes", "body")
