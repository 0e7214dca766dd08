"""Which replica of an arm is asked, over which connection, and which one is left alone for a while?"""

from __future__ import annotations

import asyncio
import errno
import itertools
import ssl
from collections.abc import Collection, Iterator, Sequence
from hashlib import blake2b
from time import monotonic
from typing import Protocol
from urllib.parse import urlsplit

from pipelines.serving.http1.upstream import AnswerHead, UpstreamConnection
from pipelines.serving.sockets import trust

CONNECT_S = 2.0
KEPT_S = 30.0
MOST_KEPT = 256
"""Connections to one replica that are kept open between calls, and for how long."""

OURS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})
"""What this machine lacks for one more connection says nothing about an arm."""

ILL_AFTER = 5
"""Failures in a row (no connection, no answer, 5xx) after which a replica is left alone."""
SHORTEST_S, LONGEST_S = 1.0, 30.0
"""For how long: twice as long each time, until it answers well again."""


class Asker(Protocol):
    """Who wanted the call. `now_s` is when the bytes came, in monotonic seconds."""

    def answer_began(self, answer: AnswerHead, now_s: float) -> None:
        """The head has come, perhaps with all the rest; then there is no more to be told."""

    def answer_piece(self, data: bytes, now_s: float) -> None:
        """Some more of the body."""

    def answer_ended(self, now_s: float) -> None:
        """An answer that was not whole is whole now."""

    def answer_failed(self, reason: str, *, was_asked: bool) -> None:
        """No (more) answer will come. Whether the replica may have heard the request."""

    def not_asked(self) -> None:
        """The gateway itself lacks what it needs to ask."""


class Call:
    """One request at one replica.

    A connection that was closed while nobody used it gets one replacement. Nobody knows whether a request that met its
    end was heard, so one that may not be repeated gets a new connection from the start.
    """

    __slots__ = ("_body", "_connection", "_head", "_listener", "_may_repeat", "_replica", "_was_used", "is_head")

    def __init__(
        self,
        replica: Replica,
        listener: Asker,
        method: bytes,
        head: bytes,
        body: bytes,
        *,
        may_repeat: bool = True,
    ) -> None:
        self._replica = replica
        self._listener: Asker | None = listener
        self._head, self._body, self.is_head = head, body, method == b"HEAD"
        self._connection: UpstreamConnection | None = None
        self._was_used, self._may_repeat = False, may_repeat

    def begin(self) -> None:
        """Ask, over a connection that is open already where there is one."""
        replica = self._replica
        replica.outstanding += 1
        kept = replica.kept() if self._may_repeat else None
        if kept is None:
            replica.dial(self)
        else:
            self._was_used, self._connection = True, kept
            kept.carry(self, self._head, self._body)

    def use(self, connection: UpstreamConnection) -> None:
        """Ask over this connection; nobody may be waiting any more by the time it is there."""
        if self._listener is None:
            self._replica.give_back(connection, monotonic())
        else:
            self._connection = connection
            connection.carry(self, self._head, self._body)

    def cancel(self, *, is_hung: bool = False) -> None:
        """Nobody waits for the answer any more."""
        if self._end() is not None and self._connection is not None:
            self._connection.drop()
        if is_hung:
            self._replica.failed()

    def pause(self) -> None:
        """The client does not read."""
        if self._connection is not None:
            self._connection.pause()

    def resume(self) -> None:
        """The client reads again."""
        if self._connection is not None:
            self._connection.resume()

    def began(self, answer: AnswerHead, now_s: float) -> None:
        """The head has come: the replica is well, or says itself that it is not."""
        if answer.status >= 500:
            self._replica.failed()
        else:
            self._replica.answered()
        listener = self._end() if answer.is_whole else self._listener
        if listener is not None:
            listener.answer_began(answer, now_s)

    def piece(self, data: bytes, now_s: float) -> None:
        """Some more of the body."""
        if self._listener is not None:
            self._listener.answer_piece(data, now_s)

    def ended(self, now_s: float) -> None:
        """The answer is whole."""
        listener = self._end()
        if listener is not None:
            listener.answer_ended(now_s)

    def broke(self, reason: str, *, had_bytes: bool) -> None:
        """The connection broke, or there is none."""
        if self._was_used and not had_bytes and self._listener is not None:
            self._was_used, self._connection = False, None
            self._replica.dial(self)
            return
        listener = self._end()
        if listener is not None:
            self._replica.failed()
            listener.answer_failed(reason, was_asked=self._connection is not None)

    def unable(self) -> None:
        """There is no connection to be had, and that is not the replica's doing."""
        listener = self._end()
        if listener is not None:
            listener.not_asked()

    def _end(self) -> Asker | None:
        """Who is to be told, the first time. Two that hold each other would have to wait for the garbage collector."""
        listener, self._listener = self._listener, None
        if listener is not None:
            self._replica.outstanding -= 1
        return listener


class Replica:
    """One address of an arm: its open connections, how many calls it has, and how it was lately."""

    def __init__(self, url: str, ca_file: str = "") -> None:
        parts = urlsplit(url)
        self.host, self.port = parts.hostname or "", parts.port or 80
        self._is_tls, self._ca_file = parts.scheme == "https", ca_file
        self._trust: ssl.SSLContext | None = None
        self.authority = parts.netloc.encode()
        self.outstanding = 0
        self._kept: list[UpstreamConnection] = []
        self._dialling: set[asyncio.Task[None]] = set()
        self._failures = self._absences = 0
        self._away_until_s = 0.0

    def kept(self) -> UpstreamConnection | None:
        """An open connection that nobody uses; the last one used is the likeliest to be open still."""
        while self._kept:
            connection = self._kept.pop()
            if connection.is_open:
                return connection
        return None

    def dial(self, call: Call) -> None:
        """Open a connection for a call."""
        task = asyncio.get_running_loop().create_task(self._dial(call))
        self._dialling.add(task)
        task.add_done_callback(self._dialling.discard)

    async def _dial(self, call: Call) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_S):
                _, connection = await loop.create_connection(
                    lambda: UpstreamConnection(self), self.host, self.port, ssl=self._trusted()
                )
        except OSError as error:
            if error.errno in OURS:
                call.unable()
                return
            call.broke(f"no connection: {error or type(error).__name__}", had_bytes=False)
        else:
            call.use(connection)

    def _trusted(self) -> ssl.SSLContext | None:
        """What checks who answers; None for plain HTTP. OSError where its authorities cannot be read."""
        if self._is_tls and self._trust is None:
            self._trust = trust(self._ca_file)
        return self._trust

    def give_back(self, connection: UpstreamConnection, now_s: float) -> None:
        """A connection can be used again."""
        if len(self._kept) < MOST_KEPT:
            connection.idle_since_s = now_s
            self._kept.append(connection)
        else:
            connection.drop()

    def lost(self, connection: UpstreamConnection) -> None:
        """A connection is closed."""
        if connection in self._kept:
            self._kept.remove(connection)

    def close_idle(self, before_s: float) -> None:
        """Close the connections that nobody has used since then."""
        for connection in [c for c in self._kept if c.idle_since_s <= before_s]:
            connection.drop()

    @property
    def owes_nothing(self) -> bool:
        """Whether nobody waits for it, nor will a connection to it come that somebody must close."""
        return self.outstanding == 0 and not self._dialling

    def is_away(self, now_s: float) -> bool:
        """Whether it is left alone now."""
        return now_s < self._away_until_s

    def answered(self) -> None:
        """It answered well."""
        self._failures = self._absences = 0

    def failed(self) -> None:
        """It failed once more; after its time away one failure is enough."""
        self._failures += 1
        if self._failures >= ILL_AFTER and not self.is_away(monotonic()):
            self._away_until_s = monotonic() + min(LONGEST_S, SHORTEST_S * 2**self._absences)
            self._absences += 1


MOST_OF_MEAN = 1.25
"""So many times the mean of all replicas' calls one may have before who belongs to it is sent elsewhere."""


def _rank(authority: bytes, together: bytes) -> bytes:
    """The order in which requests that belong together would have the replicas: another one for each such group."""
    return blake2b(authority, key=together, digest_size=8).digest()


class Replicas:
    """The replicas of all arms, by address and who vouches for it: what is known of one outlives a change of shares."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Replica] = {}
        self._turn = itertools.count()

    def __iter__(self) -> Iterator[Replica]:
        return iter(self._known.values())

    def pick(
        self, urls: Sequence[str], tried: Collection[Replica] = (), ca_file: str = "", together: bytes = b""
    ) -> Replica:
        """The replica with the fewest calls, by turns; of requests that belong `together`, always the same one.

        One that fails is avoided while there is another, and so is, by those, one with much more than its part of all
        calls. Source: Mirrokni, Thorup & Zadimoghaddam, Consistent Hashing with Bounded Loads (2016).
        """
        if len(urls) == 1:
            return self._known.get((urls[0], ca_file)) or self._of(urls[0], ca_file)
        first = next(self._turn) % len(urls)
        replicas = [self._of(url, ca_file) for url in (*urls[first:], *urls[:first])]
        now_s = monotonic()
        if not together:
            return min(replicas, key=lambda r: (r in tried, r.is_away(now_s), r.outstanding))
        most = MOST_OF_MEAN * (1 + sum(r.outstanding for r in replicas)) / len(replicas)
        return min(
            replicas,
            key=lambda r: (
                r in tried,
                r.is_away(now_s),
                r.outstanding + 1 > max(1.0, most),
                _rank(r.authority, together),
            ),
        )

    def _of(self, url: str, ca_file: str) -> Replica:
        replica = self._known.get((url, ca_file))
        if replica is None:
            replica = self._known[url, ca_file] = Replica(url, ca_file)
        return replica

    def tidy(self, wanted: Collection[tuple[str, str]], now_s: float) -> None:
        """Close what nobody uses, and forget replicas that no arm has any more and that owe no answer."""
        for place, replica in list(self._known.items()):
            is_gone = place not in wanted
            replica.close_idle(now_s if is_gone else now_s - KEPT_S)
            if is_gone and replica.owes_nothing:
                del self._known[place]

    def close(self) -> None:
        """Close every connection that nobody uses."""
        self.tidy((), monotonic())
