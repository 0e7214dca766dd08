"""How is one client talked to? Requests one after another, answers in order, and no waiting without an end."""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Callable
from time import monotonic
from typing import cast

from pipelines.serving.http1.answer import JSON, Refusal, chunk, connection_line, own_head, status_line
from pipelines.serving.http1.limits import Limits, Load
from pipelines.serving.http1.request import BadRequest, Request, RequestReader
from pipelines.serving.http1.served import Served
from pipelines.serving.http1.upstream import AnswerHead

MOST_UNSENT_BYTES = 64 * 1024
LINGER_S = 2.0
"""A client that was refused in the middle of its request is heard so long, so that it gets to read why."""

PROCEED = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"

DISPLACED_AFTER_S, DISPLACED_AT_ONCE = 0.5, 64
"""Where a gateway has as many connections as it may, so many make room that were not used for so long."""

LOOK_AGAIN_S = 0.05
HALF_CLOSED_S = 0.25
"""A client that says nothing more may have left, or may have said all it had to say: so long its answer is awaited."""

INTERNAL = Refusal(500, "E_INTERNAL", "the gateway could not serve this request; its log says why")

log = logging.getLogger("shipway.gateway")

MOST_TURNED_AWAY = 256
"""Connections over the limit that are told so; even more of them are just closed."""


class Clients:
    """Everybody who is connected, the limits that hold for them, and what is done with a request.

    `serve` gives what becomes of a request, or None where it was answered at once.
    """

    def __init__(self, limits: Limits, load: Load, serve: Callable[[ClientConnection, Request], Served | None]) -> None:
        self.limits, self.load, self.serve = limits, load, serve
        self.connected: set[ClientConnection] = set()
        self.is_ending = False
        self._all_used_until_s = 0.0
        self.all_gone = asyncio.Event()
        """Nobody is connected any more, since the goodbye."""

    def protocol(self) -> ClientConnection:
        """Somebody connects."""
        return ClientConnection(self)

    def sweep(self, now_s: float) -> None:
        """End what has waited too long."""
        for client in tuple(self.connected):
            client.check(now_s)

    def say_goodbye(self) -> None:
        """Close the connections that nobody uses; the others end with their answer."""
        self.is_ending = True
        for client in tuple(self.connected):
            client.goodbye()
        if not self.connected:
            self.all_gone.set()

    def make_room(self, now_s: float) -> None:
        """Close the connections that nobody has used for longest: a client that leaks some locks out nobody else."""
        if now_s < self._all_used_until_s:
            return
        unused = [client for client in self.connected if client.may_make_room(now_s)]
        if not unused:  # whoever is turned away in the next moments need not look through all of them again
            self._all_used_until_s = now_s + LOOK_AGAIN_S
        for client in heapq.nsmallest(DISPLACED_AT_ONCE, unused, key=lambda c: (c.is_waited_for, c.since_s)):
            client.abort()
            self.load.displaced += 1

    def left(self, client: ClientConnection) -> None:
        """Somebody has left."""
        self.connected.discard(client)
        if self.is_ending and not self.connected:
            self.all_gone.set()

    def cut(self) -> None:
        """Nobody is waited for any more."""
        for client in tuple(self.connected):
            client.abort()


class ClientConnection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._reader = RequestReader(clients.limits, clients.load)
        self._transport: asyncio.Transport | None = None
        self._request: Request | None = None
        self._served: Served | None = None
        self._unsent = b""
        self.since_s = monotonic()
        """When its last request ended, or its next one began."""
        self._is_going = self._is_paused = self._is_deaf = self._is_chunked = self._keeps = False
        self.closed_its_side_s: float | None = None
        """Since when the client sends nothing more: it may have left, or said all that it had to say."""

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody is there; one too many is told so."""
        self._transport = cast("asyncio.Transport", transport)
        self._clients.connected.add(self)
        self._clients.load.connections += 1
        over = self._clients.load.connections - self._clients.limits.connections
        if over > 0:
            self._clients.load.turned_away += 1
            self._clients.make_room(monotonic())  # theirs is free when the event loop has come round
        if over > MOST_TURNED_AWAY:
            self.abort()
        elif over > 0:
            self._turn_away(BadRequest(503, "E_BUSY", "the gateway has as many connections as it may"))

    def data_received(self, data: bytes) -> None:
        """Some bytes of the client."""
        if self._is_deaf:
            return
        reader = self._reader
        was_midway = reader.is_midway
        reader.feed(data)
        if reader.is_midway and not was_midway:  # an empty line between two requests is no use of a connection
            self.since_s = monotonic()
        self._go_on()

    def eof_received(self) -> bool:
        """The client sends no more. Whether the connection stays open for an answer."""
        if self._request is not None:
            self.closed_its_side_s = monotonic()
            return True
        if self._reader.is_midway and not self._is_deaf:
            self._turn_away(BadRequest(400, "E_REQUEST", "the request ended in its middle"))
        return False

    def pause_writing(self) -> None:
        """The client does not read."""
        self._is_paused = True
        if self._served is not None:
            self._served.client_waits()

    def resume_writing(self) -> None:
        """It reads again; what it asked in advance comes only now."""
        self._is_paused = False
        if self._served is not None:
            self._served.client_reads()
        self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  gone is gone
        """Nobody is there any more."""
        self._transport = None
        self._clients.left(self)
        self._clients.load.connections -= 1
        self._reader.close()
        served, self._served = self._served, None
        if served is not None:
            served.client_left()

    # Requests, one after another.

    def _go_on(self) -> None:
        """Serve what is whole as soon as the last answer is on its way; a loop, because one may be given at once."""
        if self._is_going:
            return
        self._is_going, reader = True, self._reader
        try:
            while reader.whole and self._request is None and not self._is_paused and self._transport is not None:
                self._request = reader.whole.popleft()
                self._served = self._serve(self._request)
        finally:
            self._is_going = False
        if self._request is None and (reader.broken or reader.must_proceed or self.closed_its_side_s is not None):
            self._read_on()

    def _serve(self, request: Request) -> Served | None:
        """What becomes of a request. A fault of ours is answered, too, and ends nobody else."""
        try:
            return self._clients.serve(self, request)
        except Exception:
            asked = request.method + b" " + request.target.partition(b"?")[0][:200]  # a query may hold anything
            log.exception("%s", asked.decode(errors="replace"))
            if self._request is request:
                self.refuse(INTERNAL, request.named.get(b"x-request-id", b""))
            return None

    def _read_on(self) -> None:
        """No request is being answered: what is wrong can be said, and what was promised done."""
        reader = self._reader
        if self._is_deaf or self._is_paused or self._transport is None:
            return
        if reader.broken is not None:
            self._turn_away(reader.broken)
        elif self.closed_its_side_s is not None:
            self._close()
        elif reader.must_proceed:
            reader.must_proceed = False
            self._write(PROCEED)

    def _turn_away(self, why: BadRequest) -> None:
        """Refuse what is no whole request, and hear the rest of it without heeding it."""
        body = Refusal(why.status, why.code, str(why), why.field).body
        self._write(own_head(why.status, len(body)) + b"connection: close\r\n\r\n" + body)
        self._flush()
        self._is_deaf, self.since_s = True, monotonic()
        if self._transport is not None and self._transport.can_write_eof():
            self._transport.write_eof()

    def check(self, now_s: float) -> None:
        """Whether this client has been waited for long enough."""
        limits, waited_s = self._clients.limits, now_s - self.since_s
        if self._transport is None or self._request is not None:
            return
        if self._is_deaf or self._transport.is_closing():
            if waited_s > LINGER_S:
                self.abort()
        elif self._reader.is_midway:
            if waited_s > limits.header_s + (limits.body_s if self._reader.has_head else 0):
                self._turn_away(BadRequest(408, "E_TIMEOUT", "the request did not come in time"))
        elif waited_s > limits.idle_s:
            self._close()

    @property
    def is_waited_for(self) -> bool:
        """Whether the client has begun to ask, and not ended, or does not read what it was sent."""
        return self._reader.is_midway or self._is_paused

    def has_gone_silent(self, now_s: float, asked_s: float) -> bool:
        """Whether who asked then says nothing more, and has been given a moment for this answer: he may have left."""
        closed_s = self.closed_its_side_s
        return closed_s is not None and now_s - max(closed_s, asked_s) >= HALF_CLOSED_S

    def may_make_room(self, now_s: float) -> bool:
        """Whether this connection may be closed for others: no answer is under way, and it has had its time."""
        is_free = self._request is None and not self._is_deaf
        return is_free and now_s - self.since_s >= (
            self._clients.limits.pressed_s if self.is_waited_for else DISPLACED_AFTER_S
        )

    def goodbye(self) -> None:
        """The gateway ends: close what nobody uses."""
        if self._request is None and not self._reader.is_midway and not self._is_deaf:
            self._close()

    # Answers.

    def refuse(self, refusal: Refusal, request_id: bytes) -> None:
        """Answer with what is wrong."""
        self.reply(refusal.status, refusal.body, request_id, refusal.headers)

    def reply(self, status: int, body: bytes, request_id: bytes, headers: bytes = b"", kind: bytes = JSON) -> None:
        """A whole answer of the gateway itself; `headers` are whole lines."""
        request = self._answered()
        named = b"x-request-id: %b\r\n" % request_id if request_id else b""
        head = own_head(status, len(body), kind) + headers + named
        if not (self._keeps and request.is_http11):
            head += connection_line(keeps=self._keeps) + b"\r\n"
        head += b"\r\n"
        self._write(head if request.method == b"HEAD" else head + body)
        self.end_answer()

    def begin_answer(self, answer: AnswerHead, lines: list[bytes]) -> None:
        """An arm's answer as far as it has come; `lines` are the headers that are passed on, not yet ended.

        The end of one that is whole follows at once: to be called again costs as much as to parse a request.
        """
        is_http11, body = self._answered().is_http11, answer.begun
        if answer.length is None and is_http11:
            self._is_chunked = True
            lines.append(b"transfer-encoding: chunked")
            body = body and chunk(body)
        elif answer.length is None:
            self._keeps = False  # the end of the connection is the only one that HTTP/1.0 knows
        if not (self._keeps and is_http11):
            lines.append(connection_line(keeps=self._keeps))
        said = b"\r\n".join((status_line(answer.status), *lines, b"", body))
        if answer.is_whole:
            self._unsent += said
        else:
            self._write(said)

    def send(self, data: bytes) -> None:
        """Some of the body, at once."""
        self._write(chunk(data) if self._is_chunked else data)

    def end_answer(self) -> None:
        """The answer is whole: what was asked next comes next."""
        if self._is_chunked:
            self._write(LAST_CHUNK)
            self._is_chunked = False
        if self._request is not None and self._request.body:
            self._reader.forget(self._request)
        self._request = self._served = None
        self.since_s = monotonic()
        self._flush()
        if self._keeps and (self._reader.whole or not self._clients.is_ending):
            self._go_on()
        else:
            self._close()

    def abort(self) -> None:
        """A broken connection is the only honest end of a broken answer."""
        if self._transport is not None:
            self._transport.abort()

    def _answered(self) -> Request:
        """The request that is answered now, when it is decided whether another one may follow it."""
        request = self._request
        assert request is not None  # noqa: S101  only a request is answered
        self._keeps = request.keep_alive and not self._clients.is_ending
        return request

    def _write(self, data: bytes) -> None:
        """Gather what is said in one round of the event loop: one system call costs more than the rest of it."""
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self._flush)
        self._unsent += data  # which copies nothing where there was nothing
        if len(self._unsent) > MOST_UNSENT_BYTES:
            self._flush()  # now, so that the event loop sees a client that does not read before more is heard for it

    def _flush(self) -> None:
        said, self._unsent = self._unsent, b""
        if said and self._transport is not None:
            self._transport.write(said)

    def _close(self) -> None:
        self._flush()
        if self._transport is not None:
            self._transport.close()
