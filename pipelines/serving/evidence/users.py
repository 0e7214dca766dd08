"""Whom did an arm fail? Where users stay at their arm each of them is one piece of evidence, however busy he is.

A user counts once in a step: the outcome is whether any of his requests failed in the first minute since his first one
in this step. He counts in the interval in which his minute ends; one whose step ends before is not counted at all.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Protocol

from pipelines.records.split import Arm

MINUTE_S = 60.0
MOST_USERS = 100_000
"""Users of one step that are known; later ones are not counted, of both arms alike."""

Routes = tuple[Arm | None, Arm | None, float]


class Counting(Protocol):
    """Where outcomes are counted."""

    def user_over(self, arm: str, *, has_failed: bool, in_control: bool) -> None:
        """The outcome of a user is closed now."""


@dataclass(slots=True)
class User:
    """One user in one step. `failed_s` is when a request of his failed first."""

    arm: str
    in_control: bool
    since_s: float
    failed_s: float = math.inf

    def failed(self, now_s: float) -> None:
        """A request of his failed."""
        self.failed_s = min(self.failed_s, now_s)

    def is_over(self, now_s: float, minute_s: float) -> bool:
        """Whether his minute had ended by then."""
        return now_s - self.since_s >= minute_s


class Users:
    """The users of the current step. Times are monotonic seconds."""

    def __init__(self, counting: Counting, minute_s: float = MINUTE_S) -> None:
        self._counting, self._minute_s = counting, minute_s
        self._routes: Routes | None = None
        self._counted: set[bytes] = set()
        self._waiting: OrderedDict[bytes, User] = OrderedDict()

    def begin(self, routes: Routes) -> None:
        """A step begins, and nobody was met in it."""
        self._routes = routes
        self._counted.clear()
        self._waiting.clear()

    def met(self, name: bytes, arm: str, routes: Routes, now_s: float, *, in_control: bool) -> User | None:
        """A request of this user is routed; None where his outcome in this step is closed."""
        if routes != self._routes:
            self.begin(routes)
        user = self._waiting.get(name)
        if user is None and name not in self._counted and len(self._counted) + len(self._waiting) < MOST_USERS:
            user = self._waiting[name] = self.first_met(name, arm, now_s, in_control=in_control)
        return user

    def first_met(self, name: bytes, arm: str, now_s: float, *, in_control: bool) -> User:  # noqa: ARG002  for others
        """The first request of a user in this step."""
        return User(arm, in_control, now_s)

    def expire(self, routes: Routes, now_s: float) -> None:
        """Count those whose minute is over."""
        if routes != self._routes:
            return
        while self._waiting:
            name, user = next(iter(self._waiting.items()))
            if not user.is_over(now_s, self._minute_s):
                break
            del self._waiting[name]
            self._counted.add(name)
            has_failed = not user.is_over(user.failed_s, self._minute_s)
            self._counting.user_over(user.arm, has_failed=has_failed, in_control=user.in_control)
