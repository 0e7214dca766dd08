"""What became of one request at one arm, and was it the arm's doing?"""

from __future__ import annotations

from time import monotonic

from pipelines.serving.evidence.counters import GatewayCounters
from pipelines.serving.evidence.intervals import CountTicket, Intervals
from pipelines.serving.evidence.streams import Followed
from pipelines.serving.evidence.users import User

NOTHING = ("", None)
"""What is told of an answer that nobody looks at."""


class Attempt:
    """One request at one arm. The first word about it decides; later words change nothing.

    Time that the gateway spends waiting for the client to read is not the arm's. Without a ticket it is a second try of
    a request whose first one was counted: it serves the user, and is no evidence.
    """

    __slots__ = (
        "_began_s",
        "_client_s",
        "_client_since_s",
        "_counters",
        "_intervals",
        "_is_decided",
        "_user",
        "arm",
        "followed",
        "is_memo_hit",
        "ticket",
    )

    def __init__(
        self,
        intervals: Intervals,
        counters: GatewayCounters,
        arm: str,
        ticket: CountTicket | None,
        user: User | None,
        now_s: float,
    ) -> None:
        self._intervals, self._counters = intervals, counters
        self.ticket, self.arm = ticket, arm
        self._user = user
        self._began_s, self._client_s = now_s, 0.0
        self._client_since_s: float | None = None
        self._is_decided = False
        self.is_memo_hit = False
        """Whether no model was asked: its server remembered the answer."""
        self.followed: Followed | None = None
        """Its answer, where what passes is looked at."""

    @property
    def is_clients_turn(self) -> bool:
        """Whether the client is waited for, who does not read what it was sent."""
        return self._client_since_s is not None

    def arm_s(self, now_s: float) -> float:
        """Seconds since the request was routed that were not spent waiting for the client."""
        until_s = now_s if self._client_since_s is None else self._client_since_s
        return until_s - self._began_s - self._client_s

    def ended(self, status: int, now_s: float, *, is_over: bool = True) -> None:
        """The answer came, or as much of it as is waited for; a 5xx is an error of the arm."""
        seconds = self.arm_s(now_s)
        why, story = self.followed.ending(status, seconds, is_over=is_over) if self.followed is not None else NOTHING
        if status >= 500 or why:
            self.failed()
        elif self._decide():
            ticket = self.ticket
            if ticket is not None and self.is_memo_hit:
                self._intervals.remembered(ticket)
            elif ticket is not None:
                if story is not None:
                    self._intervals.told(ticket, story)
                self._intervals.answered(ticket, seconds * 1000)
            self._counters.count(self.arm, "ok", seconds)
            if story is not None:
                self._counters.told.count(self.arm, story)

    def left(self, status: int, now_s: float) -> None:
        """The client went in the middle of the answer.

        Of most answers that is their end. Who stops reading what a language model writes has read enough, or waited too
        long: neither says that the arm failed, and the answer is no success.
        """
        if self.followed is None or not self.followed.may_be_left:
            self.ended(status, now_s)
        elif not self.followed.has_begun:
            self.abandoned()
        elif self._decide():
            if self.ticket is not None:
                self._intervals.left(self.ticket)
            self._counters.count(self.arm, "left", self.arm_s(now_s))

    def failed(self) -> None:
        """The arm failed. That a stream broke off past the time, when it was counted, is told to people."""
        if self._decide():
            self._fail_user()
            if self.ticket:
                self._intervals.failed(self.ticket)
            self._counters.count(self.arm, "error", self.arm_s(monotonic()))
        elif self.followed is not None and self.followed.is_stream:
            self._counters.count_late_failure(self.arm)

    def timed_out(self) -> None:
        """The arm did not answer in time."""
        if self._decide():
            self._fail_user()
            seconds = self.arm_s(monotonic())
            if self.ticket:
                self._intervals.timed_out(self.ticket, seconds * 1000)
            self._counters.count(self.arm, "timeout", seconds)

    def abandoned(self) -> None:
        """The client left before an answer began.

        Counted like a time-out: to leave it out would hide an arm that hangs from every client that is less patient
        than the gateway. Both arms meet the same clients, so impatience by itself speaks against neither.
        """
        self.timed_out()

    def overdue(self, status: int, *, is_stream: bool) -> None:
        """The deadline came in the middle of the answer; evidence does not wait for its end.

        A stream that still flows is a slow answer, and a client that reads slowly says nothing about the arm.
        """
        if is_stream or self.is_clients_turn:
            self.ended(status, monotonic(), is_over=False)
        else:
            self.timed_out()

    def void(self) -> None:
        """The gateway could not pass the request on: the arm never had it."""
        if self._decide() and self.ticket:
            self._intervals.withdrawn(self.ticket)

    def client_waits(self) -> None:
        """From now on the client, not the arm, is waited for."""
        if self._client_since_s is None:
            self._client_since_s = monotonic()

    def client_reads(self) -> None:
        """The client took what it was sent."""
        if self._client_since_s is not None:
            self._client_s += monotonic() - self._client_since_s
            self._client_since_s = None

    def _fail_user(self) -> None:
        if self._user is not None and self.ticket is not None:
            self._user.failed(monotonic())

    def _decide(self) -> bool:
        """Whether this is the first word."""
        if self._is_decided:
            return False
        self._is_decided = True
        return True
