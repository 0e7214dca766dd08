"""Whom did an arm fail? Where users stay at their arm each of them is one piece of evidence, however busy he is.

A user counts once in a step: the outcome is whether any of his requests failed in the first minute since his first one
in this step. He counts in the interval in which his minute ends; one whose step ends before is not counted at all.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from pipelines.serving.intervals import Intervals
from pipelines.serving.split import Arm

MINUTE_S = 60.0
MOST_USERS = 100_000
"""Users of one step that are known; later ones are not counted, of both arms alike."""

Routes = tuple[Arm | None, Arm | None, float]


@dataclass(slots=True)
class User:
    """One user in one step."""

    arm: str
    in_control: bool
    since_s: float
    has_failed: bool = False


class Users:
    """The users of the current step. Times are monotonic seconds."""

    def __init__(self, intervals: Intervals, minute_s: float = MINUTE_S) -> None:
        self._intervals, self._minute_s = intervals, minute_s
        self._routes: Routes | None = None
        self._counted: set[bytes] = set()
        self._waiting: OrderedDict[bytes, User] = OrderedDict()

    def met(self, name: bytes, arm: str, routes: Routes, now_s: float, *, in_control: bool) -> User | None:
        """A request of this user is routed; None where his outcome in this step is closed."""
        if routes != self._routes:
            self._routes = routes
            self._counted.clear()
            self._waiting.clear()
        user = self._waiting.get(name)
        if user is None and name not in self._counted and len(self._counted) + len(self._waiting) < MOST_USERS:
            user = self._waiting[name] = User(arm, in_control, now_s)
        return user

    def expire(self, routes: Routes, now_s: float) -> None:
        """Count those whose minute is over."""
        if routes != self._routes:
            return
        while self._waiting:
            name, user = next(iter(self._waiting.items()))
            if now_s - user.since_s < self._minute_s:
                break
            del self._waiting[name]
            self._counted.add(name)
            self._intervals.user_over(user.arm, has_failed=user.has_failed, in_control=user.in_control)
