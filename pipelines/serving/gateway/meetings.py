"""Whom did several workers meet? A user comes through any of them, and counts once.

A worker says whom it met first and whom its arms failed, by names that are hashes; its keeper, who has the one table of
users, counts. What is said twice, late or in another order changes nothing: of first meetings and of failures the
earliest is kept, and what belongs to an earlier step is dropped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pipelines.serving.evidence.intervals import Intervals
from pipelines.serving.evidence.users import MINUTE_S, Counting, Routes, User, Users

LATE_S = 1.0
"""So long after a user's minute his keeper waits for what workers have to say of it."""


@dataclass(frozen=True, slots=True)
class Meeting:
    """What one worker knows of a user: in which interval it met him first, when, and when a request of his failed."""

    interval: int
    name: str
    arm: str
    in_control: bool
    since_s: float
    failed_s: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """The wire form."""
        return asdict(self)


class Meetings(Users):
    """The users of one worker, whom its keeper counts. All processes of a machine have one monotonic clock."""

    def __init__(self, intervals: Intervals, minute_s: float = MINUTE_S) -> None:
        super().__init__(self, minute_s)
        self._intervals = intervals
        self._news: dict[tuple[int, bytes], _Guest] = {}

    def first_met(self, name: bytes, arm: str, now_s: float, *, in_control: bool) -> User:
        """Somebody new."""
        guest = _Guest(arm, in_control, now_s, key=(self._intervals.current.number, name), news=self._news)
        self._news[guest.key] = guest
        return guest

    def user_over(self, arm: str, *, has_failed: bool, in_control: bool) -> None:
        """His minute at this worker is over; another one may have met him before."""

    def news(self) -> list[Meeting]:
        """What is new since the last time."""
        found = [guest.meeting() for guest in self._news.values()]
        self._news.clear()
        return found


@dataclass(slots=True, kw_only=True)
class _Guest(User):
    """A user whose failure is news."""

    key: tuple[int, bytes]
    news: dict[tuple[int, bytes], _Guest]

    def failed(self, now_s: float) -> None:
        """The first failure counts."""
        if now_s < self.failed_s:
            self.failed_s = now_s
            self.news[self.key] = self

    def meeting(self) -> Meeting:
        """What is said of him."""
        (interval, name), failed_s = self.key, None if math.isinf(self.failed_s) else self.failed_s
        return Meeting(interval, name.hex(), self.arm, self.in_control, self.since_s, failed_s)


class Met(Users):
    """The users of all workers, as their keeper counts them."""

    def __init__(self, counting: Counting, minute_s: float = MINUTE_S) -> None:
        super().__init__(counting, minute_s)
        self._first = 0

    def step(self, routes: Routes, first: int) -> None:
        """Another step begins with this interval."""
        self.begin(routes)
        self._first = first

    def heard(self, meetings: Sequence[Meeting], routes: Routes) -> None:
        """A worker says whom it met; what is of an earlier step counts no more."""
        for said in meetings:
            name = bytes.fromhex(said.name)
            if said.interval < self._first:
                continue
            user = self.met(name, said.arm, routes, said.since_s, in_control=said.in_control)
            if user is not None:
                user.since_s = min(user.since_s, said.since_s)
                if said.failed_s is not None:
                    user.failed(said.failed_s)
