"""What does an arm answer, and may its connection be used again?

A connection is used again only where the last answer ended exactly where it said it would. What callers are told comes
after the parser has returned, so that nothing they do can meet a parser in the middle of its work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Protocol, cast

import httptools

from pipelines.serving.http1.request import VERSIONS, Headers, size_of

MOST_HEADERS = 200
MOST_HEAD_BYTES = 64 * 1024
WITHOUT_BODY = frozenset({204, 304})
SWITCHING = 101
"""No arm is ever offered another protocol."""


class Garbage(Exception):
    """An arm's answer that is not clearly one HTTP/1.1 answer."""


@dataclass(slots=True)
class AnswerHead:
    """The head of an answer. `length` is None where only the end of the body says how long it is."""

    status: int
    headers: Headers
    named: Mapping[bytes, bytes]
    """The same by name, the last of each."""
    length: int | None
    ends_by_close: bool
    begun: bytes = b""
    """What came of its body together with the head."""
    is_whole: bool = False
    """Whether nothing more will come: most answers come at once, and are told in one breath."""


class Caller(Protocol):
    """Who waits for an answer at a connection. `now_s` is when the bytes came, in monotonic seconds."""

    @property
    def is_head(self) -> bool:
        """Whether the answer has no body whatever it says (HEAD)."""

    def began(self, answer: AnswerHead, now_s: float) -> None:
        """The head has come, perhaps with all the rest; then there is no more to be told."""

    def piece(self, data: bytes, now_s: float) -> None:
        """Some more of the body."""

    def ended(self, now_s: float) -> None:
        """An answer that was not whole is whole now."""

    def broke(self, reason: str, *, had_bytes: bool) -> None:
        """No (more) answer will come."""


class Owner(Protocol):
    """Who keeps connections that nobody uses."""

    def give_back(self, connection: UpstreamConnection, now_s: float) -> None:
        """It can be used again."""

    def lost(self, connection: UpstreamConnection) -> None:
        """It is closed."""


class UpstreamConnection(asyncio.Protocol):
    """One connection to a replica; it carries one call at a time."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._parser = httptools.HttpResponseParser(self)
        self._caller: Caller | None = None
        self._transport: asyncio.Transport | None = None
        self.idle_since_s = 0.0
        self._answer: AnswerHead | None = None
        self._headers: Headers = []
        self._head_bytes = 0
        self._pieces: list[bytes] = []
        self._is_told = self._is_whole = self._is_spoilt = False

    @property
    def is_open(self) -> bool:
        """Whether it can carry a call."""
        return self._transport is not None and not self._transport.is_closing()

    def carry(self, caller: Caller, head: bytes, body: bytes) -> None:
        """Send a request; its answer goes to the caller."""
        assert self._transport is not None  # noqa: S101  it was made before it is given to anybody
        self._caller, self._answer, self._head_bytes = caller, None, 0
        self._is_told = self._is_whole = False
        self._headers.clear()  # of trailers; nothing else is left of an answer that ended well
        self._transport.write(head + body)  # one system call costs more than the copy

    def drop(self) -> None:
        """Nobody waits any more: close it now."""
        self._caller = None
        if self._transport is not None:
            self._transport.abort()

    def pause(self) -> None:
        """The client does not read: neither do we."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        """The client reads again."""
        if self._transport is not None:
            self._transport.resume_reading()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is there."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Some bytes of the arm; one that speaks unasked is not trusted with a request."""
        if self._caller is None:
            self.drop()
            return
        now_s, reason = monotonic(), ""
        if self._answer is None:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            reason = "it switches protocols"
        except httptools.HttpParserError as error:
            self._is_spoilt = True  # where the answer is whole, there was more than it said
            reason = "" if self._is_whole else f"not HTTP/1.1: {error.__context__ or error}"[:200]
        if self._headers or self._answer is None:
            reason = reason or self._excess()
        if not reason:
            self._tell(now_s)
            return
        self._is_whole = False
        if self._is_told:  # nothing of it was passed on otherwise, and its caller may still ask somebody else
            self._tell(now_s)
        self._break(reason)

    def _excess(self) -> str:
        """Whether there is too much of a head, or of trailers, that has no end yet."""
        is_over = self._answer is None and self._head_bytes > MOST_HEAD_BYTES
        return "a longer head than is passed on" if is_over or len(self._headers) > MOST_HEADERS else ""

    def connection_lost(self, exc: Exception | None) -> None:
        """It is closed; an answer that ends with its connection is whole now, any other is not."""
        self._owner.lost(self)
        self._transport = None
        if exc is None and self._answer is not None and self._answer.ends_by_close:
            self._is_whole = True
            self._tell(monotonic())
        else:
            self._break(f"the connection was closed{f': {exc}' if exc else ''}")

    # What httptools calls.

    def on_message_begin(self) -> None:
        """An answer begins; a second one was not asked for."""
        if self._is_whole:
            raise Garbage("more than one answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer after the body: those are not passed on."""
        self._headers.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        """The head of an answer, or of an interim one that is not passed on."""
        status = self._parser.get_status_code()
        if self._parser.get_http_version() not in VERSIONS or not 100 <= status < 600 or status == SWITCHING:
            raise Garbage("no status line that HTTP/1.1 has for such a request")
        if status < 200:
            self._headers = []
            return
        headers, self._headers = self._headers, []  # what follows is a trailer
        if len(headers) > MOST_HEADERS:
            raise Garbage("more headers than are passed on")
        if self._head_bytes > MOST_HEAD_BYTES and size_of(headers) > MOST_HEAD_BYTES:
            raise Garbage("a longer head than is passed on")
        named = dict(headers)
        has_body = self._caller is not None and not self._caller.is_head and status not in WITHOUT_BODY
        said, is_chunked = named.get(b"content-length"), b"transfer-encoding" in named
        if is_chunked:
            _check_coding(headers)
        length = int(said) if said is not None else None
        ends_by_close = has_body and said is None and not is_chunked
        self._answer = AnswerHead(status, headers, named, length if has_body else 0, ends_by_close)
        if not has_body:
            # llhttp expects a body after the head that answers HEAD: such a connection is not used again.
            self._is_whole, self._is_spoilt = True, status not in WITHOUT_BODY

    def on_body(self, part: bytes) -> None:
        """Some of the body."""
        if not self._is_whole:
            self._pieces.append(part)

    def on_message_complete(self) -> None:
        """The answer is whole, unless it was an interim one."""
        if self._answer is not None:
            self._is_whole = True
            self._is_spoilt |= not self._parser.should_keep_alive()

    # What the caller is told.

    def _tell(self, now_s: float) -> None:
        """Say what is new. The connection is free before its caller hears of the end: he may ask the next thing."""
        caller, answer = self._caller, self._answer
        if caller is None or answer is None:
            return
        body = b"".join(self._pieces)  # which copies nothing where there is one
        self._pieces.clear()
        if not self._is_told:
            self._is_told, answer.begun, answer.is_whole = True, body, self._is_whole
            if self._is_whole:
                self._release(now_s)
            caller.began(answer, now_s)
            return
        if body:
            caller.piece(body, now_s)
        if self._is_whole and self._caller is not None:
            self._release(now_s)
            caller.ended(now_s)

    def _release(self, now_s: float) -> None:
        """Who answers before he has heard everything is not asked again over this connection."""
        self._caller, transport = None, self._transport
        if self._is_spoilt or transport is None or transport.get_write_buffer_size():
            self.drop()
        else:
            transport.resume_reading()  # a client that read slowly held it up; the next one does not
            self._owner.give_back(self, now_s)

    def _break(self, reason: str) -> None:
        caller, self._caller = self._caller, None
        self.drop()
        if caller is not None:
            caller.broke(reason, had_bytes=self._head_bytes > 0)


def _check_coding(headers: Headers) -> None:
    """Chunked, said once, is the only transfer coding."""
    codings = [value.lower() for name, value in headers if name == b"transfer-encoding"]
    if codings != [b"chunked"]:
        raise Garbage("chunked is the only transfer coding")
