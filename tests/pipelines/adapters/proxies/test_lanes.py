"""Counters that only grow, told apart by lanes: every request is counted once, in the interval that routed it."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from pipelines.adapters.proxies.lanes import GRACE_S, LANES, LaneIntervals, Reading
from pipelines.records.split import Arm, TrafficSplit

STABLE, CANARY = (Arm(f"sha256:{n}", (f"http://127.0.0.1:{n}",)) for n in (1, 2))
HOME = TrafficSplit((1, 1), STABLE)
HALF = TrafficSplit((1, 2), STABLE, CANARY, 50.0, 60.0)


class Counters:
    """A proxy that counts requests when they are over."""

    def __init__(self) -> None:
        self.over: Counter[tuple[int, str]] = Counter()
        self.failed: Counter[tuple[int, str]] = Counter()
        self.open: list[tuple[int, str]] = []

    def route(self, lane: int, arm: str = "stable") -> None:
        """A request begins."""
        self.open.append((lane, arm))

    def end(self, which: int = 0, *, well: bool = True) -> None:
        """A request is over."""
        key = self.open.pop(which)
        self.over[key] += 1
        self.failed[key] += not well

    def readings(self) -> dict[tuple[int, str], Reading]:
        """What they say now."""
        keys = [(lane, arm) for lane in range(LANES) for arm in ("stable", "canary")]
        return {key: Reading(self.over[key], self.failed[key], self.open.count(key)) for key in keys}


def look(intervals: LaneIntervals, counters: Counters, now_s: float) -> None:
    """Two looks in a row, between which nothing happened."""
    intervals.seen(counters.readings(), now_s)
    intervals.seen(counters.readings(), now_s + 0.01)


def test_a_request_counts_where_it_was_routed():
    """One that is over in a later interval belongs to the one whose lane it went through."""
    intervals, counters = LaneIntervals("b", HALF, 1.0, 10.0, 0.0), Counters()
    counters.route(intervals.lane, "canary")
    intervals.cut(intervals.free_lane(), HALF, 1.0)
    counters.route(intervals.lane)
    counters.end(1)
    look(intervals, counters, 1.1)
    assert intervals.decided_after(-1) == ()
    counters.end(0, well=False)
    intervals.cut(intervals.free_lane(), HALF, 2.0)
    look(intervals, counters, 2.1)
    first, second = intervals.decided_after(-1)
    assert (first.canary.routed, first.canary.errors, first.stable.routed) == (1, 1, 0)
    assert (second.canary.routed, second.stable.routed, second.stable.errors) == (0, 1, 0)
    assert intervals.decided_after(0) == (second,)


def test_one_look_is_not_enough():
    """A request that was given its lane at the cut is in flight a moment later."""
    intervals, counters = LaneIntervals("b", HALF, 1.0, 10.0, 0.0), Counters()
    intervals.cut(1, HALF, 1.0)
    intervals.seen(counters.readings(), 1.01)
    assert intervals.decided_after(-1) == ()
    counters.route(0)
    intervals.seen(counters.readings(), 1.05)
    counters.end()
    look(intervals, counters, 1.1)
    assert [s.stable.routed for s in intervals.decided_after(-1)] == [1]


def test_a_stream_that_never_ends_holds_evidence_back_until_the_deadline_only():
    """It was routed, it did not fail, and its lane is not used again."""
    intervals, counters = LaneIntervals("b", HALF, 1.0, 10.0, 0.0), Counters()
    counters.route(0, "canary")
    intervals.cut(1, HALF, 1.0)
    look(intervals, counters, 1.0 + 10.0)
    assert intervals.decided_after(-1) == ()
    look(intervals, counters, 1.0 + 10.0 + GRACE_S)
    (only,) = intervals.decided_after(-1)
    assert (only.canary.routed, only.canary.errors) == (1, 0)
    assert intervals.free_lane() == 2


def test_without_a_free_lane_a_mixed_interval_is_thrown_away():
    """Two splits met in it: nobody can say which request obeyed which."""
    intervals, counters = LaneIntervals("b", HOME, 1.0, 10.0, 0.0), Counters()
    for n in range(1, LANES):
        counters.route(intervals.lane)
        intervals.cut(intervals.free_lane(), HOME, float(n))
    counters.route(intervals.lane)
    intervals.seen(counters.readings(), 4.0)
    assert intervals.free_lane() is None
    intervals.cut(intervals.lane, HALF, 4.0)
    while counters.open:
        counters.end()
    look(intervals, counters, 4.1)
    intervals.cut(intervals.free_lane(), HALF, 5.0)
    look(intervals, counters, 5.1)
    assert [s.interval for s in intervals.decided_after(-1)] == [0, 1, 2]


def test_counters_that_were_reset_are_no_evidence():
    """Fewer requests than before: the interval is thrown away."""
    intervals, counters = LaneIntervals("b", HALF, 1.0, 10.0, 0.0), Counters()
    counters.over[1, "stable"] = 5
    look(intervals, counters, 0.5)
    intervals.cut(1, HALF, 1.0)
    look(intervals, counters, 1.1)
    counters.over[1, "stable"] = 2
    intervals.cut(intervals.free_lane(), HALF, 2.0)
    look(intervals, counters, 2.1)
    assert [s.interval for s in intervals.decided_after(-1)] == [0]


@given(st.lists(st.sampled_from(["route", "fail", "end", "cut", "look"]), max_size=80), st.data())
def test_every_request_is_counted_once_where_it_was_routed(steps, data):
    """Whatever the order of requests, ends, looks and cuts."""
    intervals, counters, now_s = LaneIntervals("b", HALF, 1.0, 1e6, 0.0), Counters(), 0.0
    routed, number = Counter(), 0
    for step in steps:
        now_s += 1.0
        if step == "route":
            arm = data.draw(st.sampled_from(["stable", "canary"]))
            counters.route(intervals.lane, arm)
            routed[number, arm] += 1
        elif step in {"end", "fail"} and counters.open:
            counters.end(data.draw(st.integers(0, len(counters.open) - 1)), well=step == "end")
        elif step == "look":
            look(intervals, counters, now_s)
        elif step == "cut":
            look(intervals, counters, now_s)
            lane = intervals.free_lane()
            if lane is not None:
                intervals.cut(lane, HALF, now_s)
                number += 1
    for stratum in intervals.decided_after(-1):
        found = (stratum.stable.routed, stratum.canary.routed)
        assert found == (routed[stratum.interval, "stable"], routed[stratum.interval, "canary"])
    errors = sum(s.stable.errors + s.canary.errors for s in intervals.decided_after(-1))
    assert errors <= counters.failed.total()
