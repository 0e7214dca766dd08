"""How do counters that only ever grow become intervals of requests by when they were *routed*?

A proxy counts a request when it is over, not when it is routed. So it is given several *lanes*, each with counters of
its own, and every interval has a lane to itself: a lane whose last request is over has counted exactly the requests
that were routed in its interval. It may then be used for a later one. Pure bookkeeping, without clock or socket.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from evals.signals.strata import ArmCounts, Stratum
from pipelines.records.split import TrafficSplit

LANES = 4
ARMS = ("stable", "canary")
PLACES = {f"{arm}_{lane}": (lane, arm) for lane in range(LANES) for arm in ARMS}
"""What a proxy calls the counters of a lane and an arm."""

KEPT = 3600
"""Decided intervals that can still be asked for."""

GRACE_S = 1.0
"""A proxy answers for an arm that is late, and counts that, a moment after the deadline."""


@dataclass(frozen=True)
class Reading:
    """What one arm's counters say in one lane: requests that are over, those the arm failed, and those in flight."""

    over: int = 0
    failed: int = 0
    in_flight: int = 0

    def since(self, before: Reading) -> ArmCounts | None:
        """What was counted since `before`; None where the counters were reset, so that nobody knows.

        What is in flight past every deadline is a stream that still flows, or a client that reads slowly: no error.
        """
        over, failed = self.over - before.over, self.failed - before.failed
        if min(over, failed) < 0 or failed > over:
            return None
        return ArmCounts(over + self.in_flight, failed)


Readings = Mapping[tuple[int, str], Reading]
"""By lane and arm."""


@dataclass
class _Interval:
    number: int
    lane: int
    began_s: float
    split: TrafficSplit
    before: Readings
    ended_s: float = 0.0
    is_spoilt: bool = False
    arms: dict[str, ArmCounts | None] = field(default_factory=dict)
    is_seen: bool = False
    """Whether the counters were read since it was closed."""
    is_decided: bool = False


class LaneIntervals:
    """The intervals of one boot of a proxy. Times are monotonic seconds."""

    def __init__(self, boot: str, split: TrafficSplit, interval_s: float, timeout_s: float, now_s: float) -> None:
        self._boot, self._interval_s, self._deadline_s = boot, interval_s, timeout_s + GRACE_S
        self._busy: set[int] = {0}
        self._readings: Readings = {}
        self._open = _Interval(0, 0, now_s, split, {})
        self._closed: deque[_Interval] = deque()
        self._decided: deque[Stratum] = deque(maxlen=KEPT)

    @property
    def lane(self) -> int:
        """Where requests go now."""
        return self._open.lane

    def is_over(self, now_s: float) -> bool:
        """Whether the open interval has lasted long enough."""
        return now_s - self._open.began_s >= self._interval_s

    def free_lane(self) -> int | None:
        """A lane without requests; None while earlier intervals hold them all."""
        return next((lane for lane in range(LANES) if lane not in self._busy), None)

    def cut(self, lane: int, split: TrafficSplit, now_s: float) -> None:
        """From now on requests go by this split, through this lane.

        Where no other lane was free, requests of two splits have met in this one: its interval is thrown away.
        """
        if lane == self._open.lane:
            self._open.is_spoilt, self._open.split = True, split
            return
        self._open.ended_s = now_s
        self._closed.append(self._open)
        self._busy.add(lane)
        self._open = _Interval(self._open.number + 1, lane, now_s, split, self._readings)

    def seen(self, readings: Readings, now_s: float) -> None:
        """What the counters said at this time; an interval whose requests were over, or past a deadline, is decided."""
        before, self._readings = self._readings, readings
        still = {lane for lane in range(LANES) if _of(before, lane) == _of(readings, lane)}
        for interval in self._closed:
            self._settle(interval, now_s, is_still=interval.lane in still)
        held = {i.lane for i in (*self._closed, self._open)}
        self._busy = {lane for lane in range(LANES) if lane in held or _in_flight(readings, lane)}
        while self._closed and self._closed[0].is_decided:
            self._hand_out(self._closed.popleft())

    def decided_after(self, number: int) -> tuple[Stratum, ...]:
        """The decided strata after an interval, oldest first, as far back as they are kept."""
        return tuple(s for s in self._decided if s.interval > number)

    def _settle(self, interval: _Interval, now_s: float, *, is_still: bool) -> None:
        is_late = now_s - interval.ended_s >= self._deadline_s
        # Asked twice: a request that was just given its lane, or is between two attempts, is in flight nowhere.
        is_quiet = is_still and interval.is_seen and not _in_flight(self._readings, interval.lane)
        interval.is_seen = True
        if not interval.is_decided and (is_quiet or is_late):
            interval.is_decided = True
            interval.arms = {arm: self._counted(interval, arm) for arm in ARMS}

    def _counted(self, interval: _Interval, arm: str) -> ArmCounts | None:
        key = (interval.lane, arm)
        return self._readings.get(key, Reading()).since(interval.before.get(key, Reading()))

    def _hand_out(self, interval: _Interval) -> None:
        stable, canary = interval.arms["stable"], interval.arms["canary"]
        if interval.is_spoilt or stable is None or canary is None:
            return
        self._decided.append(
            Stratum(
                interval.number,
                self._boot,
                interval.began_s,
                interval.ended_s,
                interval.split.canary_pct,
                stable,
                canary,
                generation=interval.split.generation,
            )
        )


def _of(readings: Readings, lane: int) -> dict[str, Reading]:
    return {arm: reading for (of, arm), reading in readings.items() if of == lane}


def _in_flight(readings: Readings, lane: int) -> int:
    return sum(reading.in_flight for reading in _of(readings, lane).values())
