"""What did all workers together see in one interval?

The keeper of the split numbers the intervals, and cuts them in all workers alike. An interval is handed out once each
worker that served in it has said what it saw, or is gone.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from evals.signals.strata import ArmCounts, Shadowed, Stratum
from pipelines.records.split import TrafficSplit
from pipelines.serving.evidence.intervals import KEPT, places_of

T = TypeVar("T")


@dataclass
class _Pending:
    """An interval that not everybody has spoken of."""

    number: int
    began_s: float
    split: TrafficSplit
    awaited: set[int]
    ended_s: float | None = None
    parts: list[Stratum] = field(default_factory=list)
    lost: list[tuple[int, int]] = field(default_factory=list)
    users: Counter[tuple[str, bool]] = field(default_factory=Counter)

    def users_of(self, arm: str) -> list[ArmCounts]:
        """The users of an arm whose outcome was closed in it, if any."""
        good, bad = self.users[arm, False], self.users[arm, True]
        return [ArmCounts(users=ArmCounts(good + bad, bad))] if good + bad else []


class Merging:
    """The intervals of one boot. Times are seconds on the keeper's monotonic clock; workers are known by a number."""

    def __init__(self, boot: str, interval_s: float, now_s: float) -> None:
        self._boot, self._interval_s = boot, interval_s
        self._workers: set[int] = set()
        self._open = _Pending(0, now_s, TrafficSplit(), set())
        self._closed: deque[_Pending] = deque()
        self._decided: deque[Stratum] = deque(maxlen=KEPT)

    @property
    def number(self) -> int:
        """The open interval."""
        return self._open.number

    def cut(self, now_s: float, split: TrafficSplit) -> bool:
        """Whether a new interval begins: the time of the open one is over, or another split is in force."""
        if split.routes == self._open.split.routes and now_s - self._open.began_s < self._interval_s:
            return False
        self._open.ended_s = now_s
        self._closed.append(self._open)
        self._open = _Pending(self._open.number + 1, now_s, split, set(self._workers))
        self._hand_out()
        return True

    def joins(self, worker: int) -> None:
        """A worker serves from the open interval on."""
        self._workers.add(worker)
        self._open.awaited.add(worker)

    def said(self, worker: int, part: Stratum) -> None:
        """What a worker saw in one interval."""
        for pending in (*self._closed, self._open):
            if pending.number == part.interval and worker in pending.awaited:
                pending.awaited.discard(worker)
                pending.parts.append(part)
        self._hand_out()

    def leaves(self, worker: int, in_flight: tuple[int, int]) -> None:
        """A worker is gone: what stable and the canary had not answered are errors, counted now."""
        self._workers.discard(worker)
        for pending in (*self._closed, self._open):
            pending.awaited.discard(worker)
        self._open.lost.append(in_flight)
        self._hand_out()

    def user_over(self, arm: str, *, has_failed: bool, in_control: bool) -> None:
        """The outcome of a user of all workers is closed now."""
        self._open.users.update((name, has_failed) for name in places_of(arm, in_control=in_control))

    def decided_after(self, number: int) -> tuple[Stratum, ...]:
        """The decided strata after an interval, oldest first."""
        return tuple(stratum for stratum in self._decided if stratum.interval > number)

    def _hand_out(self) -> None:
        while self._closed and not self._closed[0].awaited:
            self._decided.append(self._stratum(self._closed.popleft()))

    def _stratum(self, pending: _Pending) -> Stratum:
        ended_s = pending.ended_s if pending.ended_s is not None else pending.began_s
        stable, canary = ([ArmCounts(lost[i], lost[i]) for lost in pending.lost] for i in (0, 1))
        return Stratum(
            pending.number,
            self._boot,
            pending.began_s,
            ended_s,
            pending.split.canary_pct,
            merged([*stable, *pending.users_of("stable"), *(part.stable for part in pending.parts)]),
            merged([*canary, *pending.users_of("canary"), *(part.canary for part in pending.parts)]),
            generation=pending.split.generation,
            control=merged([*pending.users_of("control"), *(part.control for part in pending.parts if part.control)]),
            cohorts=tuple(cohort for part in pending.parts for cohort in part.cohorts),
            shadow=_shadow([part.shadow for part in pending.parts if part.shadow is not None]),
        )


def merged(parts: Sequence[ArmCounts]) -> ArmCounts:
    """The counts of several sources as those of one."""
    steps = sorted({step for part in parts for step in part.over})
    users = [part.users for part in parts if part.users is not None]
    return ArmCounts(
        sum(part.routed for part in parts),
        sum(part.errors for part in parts),
        sum(part.timeouts for part in parts),
        {step: sum(part.exceeding(step) for part in parts) for step in steps},
        _summed([part.scores for part in parts]),
        _summed([part.classes for part in parts]),
        _by_name(parts, lambda part: part.by_slice),
        _by_name(parts, lambda part: part.timings),
        merged(users) if users else None,
        _summed([part.values for part in parts]),
        sum(part.memo_hits for part in parts),
        _rates([part.rates for part in parts]),
        sum(part.left for part in parts),
    )


def _shadow(parts: Sequence[Shadowed]) -> Shadowed | None:
    if not parts:
        return None
    counts = (sum(getattr(part, name) for part in parts) for name in ("same", "other", "failed", "skipped"))
    return Shadowed(merged([part.canary for part in parts]), *counts)


def _summed(counts: Sequence[Mapping[T, int]]) -> dict[T, int]:
    total: Counter[T] = Counter()
    for one in counts:
        total.update(one)
    return dict(total)


def _rates(parts: Sequence[Mapping[str, Mapping[str, tuple[int, int]]]]) -> dict[str, dict[str, tuple[int, int]]]:
    total: dict[str, dict[str, tuple[int, int]]] = {}
    for what in {what for part in parts for what in part}:
        bins = [part[what] for part in parts if what in part]
        asked, bad = (_summed([{name: counts[i] for name, counts in one.items()} for one in bins]) for i in (0, 1))
        total[what] = {name: (asked[name], bad[name]) for name in asked}
    return total


def _by_name(parts: Sequence[ArmCounts], named: Callable[[ArmCounts], Mapping[str, ArmCounts]]) -> dict[str, ArmCounts]:
    names = {name for part in parts for name in named(part)}
    return {name: merged([named(part)[name] for part in parts if name in named(part)]) for name in names}
