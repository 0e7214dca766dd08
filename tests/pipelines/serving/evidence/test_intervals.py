"""Requests are counted where they were routed, and handed out once, when all of an interval is decided."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from evals.signals.strata import Stratum, threshold_ms
from pipelines.records.split import Arm, TrafficSplit
from pipelines.serving.evidence.intervals import Intervals, step_of

STABLE, CANARY = (Arm(f"sha256:{n}", (f"http://127.0.0.1:{n}",)) for n in (1, 2))
HOME = TrafficSplit((1, 1), STABLE)
HALF = TrafficSplit((1, 2), STABLE, CANARY, 50.0, 60.0)


def test_a_stratum_waits_for_its_slowest_request():
    """Requests that were routed in it and are still open hold it back, and all after it."""
    intervals = Intervals("b", 1.0, 0.0)
    first = intervals.routed("canary")
    intervals.cut(1.0, HOME)
    second = intervals.routed("stable")
    intervals.answered(second, 5.0)
    intervals.cut(2.0, HOME)
    assert intervals.decided_after(-1) == ()
    intervals.timed_out(first, 10_000.0)
    found = intervals.decided_after(-1)
    assert [s.interval for s in found] == [0, 1]
    assert (found[0].canary.routed, found[0].canary.errors, found[0].canary.timeouts) == (1, 1, 1)
    assert found[1].stable.routed == 1
    assert intervals.decided_after(0) == found[1:]


def test_a_change_of_shares_cuts():
    """No stratum mixes two shares."""
    intervals = Intervals("b", 10.0, 0.0)
    intervals.answered(intervals.routed("stable"), 1.0)
    intervals.cut(0.5, HALF)
    intervals.answered(intervals.routed("canary"), 1.0)
    intervals.cut(0.6, replace(HOME, generation=(1, 3)))
    assert [(s.canary_pct, s.generation) for s in intervals.decided_after(-1)] == [(0.0, (0, 0)), (50.0, (1, 2))]


def test_other_arms_at_the_same_share_cut():
    """No stratum mixes two canaries, and a renewal makes no new one."""
    intervals = Intervals("b", 10.0, 0.0)
    intervals.cut(0.1, HALF)
    intervals.cut(0.2, replace(HALF, generation=(1, 3)))
    intervals.cut(0.3, replace(HALF, canary=Arm("sha256:c", ("http://127.0.0.1:3",))))
    assert [s.interval for s in intervals.decided_after(-1)] == [0, 1]


def test_a_request_that_no_arm_had_was_never_routed():
    """Nobody's fault."""
    intervals = Intervals("b", 1.0, 0.0)
    intervals.withdrawn(intervals.routed("canary"))
    intervals.cut(1.0, HOME)
    assert intervals.decided_after(-1)[0].canary.routed == 0


def test_empty_intervals_are_seen():
    """No traffic is a fact, too."""
    intervals = Intervals("b", 1.0, 0.0)
    for second in range(1, 4):
        intervals.cut(float(second), HALF)
    assert len(intervals.decided_after(-1)) == 3


@given(st.lists(st.tuples(st.sampled_from(["ok", "error", "timeout"]), st.floats(0.02, 60_000)), max_size=60))
def test_a_stratum_counts_what_happened(outcomes):
    """Counts and exceedances are those of the requests, and survive the wire."""
    intervals = Intervals("b", 1.0, 0.0)
    for outcome, ms in outcomes:
        interval = intervals.routed("canary")
        match outcome:
            case "ok":
                intervals.answered(interval, ms)
            case "error":
                intervals.failed(interval)
            case _:
                intervals.timed_out(interval, ms)
    intervals.cut(1.0, HOME)
    stratum = Stratum.from_dict(intervals.decided_after(-1)[0].as_dict())
    timed = [ms for outcome, ms in outcomes if outcome != "error"]
    assert stratum.canary.routed == len(outcomes)
    assert stratum.canary.timed == len(timed)
    for step in range(-80, 240, 7):
        assert stratum.canary.exceeding(step) == sum(step_of(ms) > step for ms in timed)


@given(st.floats(0.02, 1e6))
def test_a_step_is_the_first_threshold_that_is_not_exceeded(ms):
    """The grid covers every latency."""
    step = step_of(ms)
    assert threshold_ms(step - 1) * (1 - 1e-6) <= ms <= threshold_ms(step) * (1 + 1e-6)


def test_a_remembered_answer_is_counted_and_has_no_latency():
    """With slices, in both halves of stable, through the wire."""
    intervals = Intervals("b", 1.0, 0.0)
    intervals.answered(intervals.routed("stable", ("a=1",), in_control=True), 5.0)
    intervals.remembered(intervals.routed("stable", ("a=1",), in_control=True))
    intervals.cut(1.0, HOME)
    (found,) = intervals.decided_after(-1)
    for arm in (found.stable, found.stable.by_slice["a=1"], found.control):
        assert (arm.routed, arm.memo_hits, arm.timed, arm.exceeding(0)) == (2, 1, 1, 1)
    assert Stratum.from_dict(found.as_dict()) == found


def test_predicted_numbers_are_counted_by_their_step():
    """What is no number is left out."""
    intervals = Intervals("b", 1.0, 0.0)
    for text in ("0.75", "0.75", "-3e9", "", "nan", "inf", "sure"):
        ticket = intervals.routed("stable")
        intervals.valued(ticket, text)
        intervals.answered(ticket, 5.0)
    intervals.cut(1.0, HOME)
    (found,) = intervals.decided_after(-1)
    assert (found.stable.values[750], sum(found.stable.values.values())) == (2, 3)
    assert Stratum.from_dict(found.as_dict()) == found


def test_reading_an_open_interval_changes_nothing():
    """Requests with the same slices, in stable's control half or not, are found in every place."""
    intervals = Intervals("b", 1.0, 0.0)
    for in_control in (True, False, True):
        intervals.answered(intervals.routed("stable", ("x-lang=de",), in_control=in_control), 5.0)
    first, second = intervals.current.stratum("b"), intervals.current.stratum("b")
    assert (first.stable, first.control) == (second.stable, second.control)
    counted = (first.stable, first.stable.by_slice["x-lang=de"], first.control)
    assert [(arm.routed, arm.timed) for arm in counted] == [(3, 3), (3, 3), (2, 2)]
