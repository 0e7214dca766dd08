"""What did each arm do with the requests that were routed to it, interval by interval?

Pure bookkeeping: requests belong to the interval in which they were routed, an interval is cut by time and whenever
the shares change, and it is handed out once all of its requests are decided.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from dataclasses import dataclass, field

from evals.strata import GRID_RATIO, ArmCounts, Stratum
from pipelines.serving.split import TrafficSplit

KEPT = 3600
"""Decided intervals that can still be asked for."""

MIN_MS, LOG_RATIO = 0.01, math.log(GRID_RATIO)


@dataclass
class _Arm:
    routed: int = 0
    errors: int = 0
    timeouts: int = 0
    steps: Counter[int] = field(default_factory=Counter)

    def counts(self) -> ArmCounts:
        """The frozen counts, with latencies as a survival function on the grid."""
        over: dict[int, int] = {}
        left = self.routed - self.errors + self.timeouts
        for step in sorted(self.steps):
            left -= self.steps[step]
            over[step] = left
        return ArmCounts(self.routed, self.errors, self.timeouts, over)


@dataclass
class Interval:
    """One open or undecided interval. Times are monotonic seconds."""

    number: int
    began_s: float
    split: TrafficSplit
    ended_s: float | None = None
    undecided: int = 0
    arms: dict[str, _Arm] = field(default_factory=lambda: {"stable": _Arm(), "canary": _Arm()})

    def stratum(self, boot: str) -> Stratum:
        """The stratum, once decided."""
        ended_s = self.ended_s if self.ended_s is not None else self.began_s
        stable, canary = (self.arms[name].counts() for name in ("stable", "canary"))
        pct, generation = self.split.canary_pct, self.split.generation
        return Stratum(self.number, boot, self.began_s, ended_s, pct, stable, canary, generation=generation)


class Intervals:
    """The intervals of one gateway boot."""

    def __init__(self, boot: str, interval_s: float, now_s: float) -> None:
        self._boot = boot
        self._interval_s = interval_s
        self._open = Interval(0, now_s, TrafficSplit())
        self._closed: deque[Interval] = deque()
        self._decided: deque[Stratum] = deque(maxlen=KEPT)

    def cut(self, now_s: float, split: TrafficSplit) -> None:
        """Close the open interval where its time is over, or the shares or the arms are no longer the same."""
        if split.routes == self._open.split.routes and now_s - self._open.began_s < self._interval_s:
            return
        self._open.ended_s = now_s
        self._closed.append(self._open)
        self._open = Interval(self._open.number + 1, now_s, split)
        self._hand_out()

    def routed(self, arm: str) -> Interval:
        """A request is given to an arm; the answer names the interval it belongs to."""
        self._open.arms[arm].routed += 1
        self._open.undecided += 1
        return self._open

    def answered(self, interval: Interval, arm: str, latency_ms: float) -> None:
        """The arm answered without an error."""
        interval.arms[arm].steps[step_of(latency_ms)] += 1
        self._decide(interval)

    def failed(self, interval: Interval, arm: str) -> None:
        """The arm failed fast: an error without a latency."""
        interval.arms[arm].errors += 1
        self._decide(interval)

    def timed_out(self, interval: Interval, arm: str, latency_ms: float) -> None:
        """The arm did not answer in time: an error, and slower than every threshold below."""
        counts = interval.arms[arm]
        counts.errors += 1
        counts.timeouts += 1
        counts.steps[step_of(latency_ms)] += 1
        self._decide(interval)

    def withdrawn(self, interval: Interval, arm: str) -> None:
        """The arm never had the request."""
        interval.arms[arm].routed -= 1
        self._decide(interval)

    def decided_after(self, number: int) -> tuple[Stratum, ...]:
        """The decided strata after an interval, oldest first, as far back as they are kept."""
        return tuple(s for s in self._decided if s.interval > number)

    def _decide(self, interval: Interval) -> None:
        interval.undecided -= 1
        self._hand_out()

    def _hand_out(self) -> None:
        while self._closed and self._closed[0].undecided == 0:
            self._decided.append(self._closed.popleft().stratum(self._boot))


def step_of(latency_ms: float) -> int:
    """The smallest grid step whose threshold is not exceeded by a latency."""
    return math.ceil(math.log(max(latency_ms, MIN_MS)) / LOG_RATIO - 1e-9)
