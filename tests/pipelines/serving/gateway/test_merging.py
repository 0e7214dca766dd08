"""What several workers saw is what one would have seen, and an interval waits for everybody who is alive."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from evals.signals.strata import ArmCounts, Stratum
from pipelines.records.split import Arm, TrafficSplit
from pipelines.serving.evidence.intervals import Intervals, Story
from pipelines.serving.gateway.merging import Merging, merged

STABLE, CANARY = (Arm(f"sha256:{n}", (f"http://127.0.0.1:{n}",)) for n in (1, 2))
HOME, HALF = TrafficSplit((1, 1), STABLE), TrafficSplit((1, 2), STABLE, CANARY, 50.0, 60.0)
OUTCOMES = st.tuples(
    st.integers(0, 2), st.sampled_from(["ok", "error", "timeout", "memo", "left"]), st.floats(0.02, 6e4), st.booleans()
)


def count(intervals: Intervals, outcome: str, ms: float, *, is_stream: bool) -> None:
    """One request with everything that can be counted of it."""
    ticket = intervals.routed("canary", ("x-lang=de",) if ms < 10 else ())
    intervals.predicted(ticket, f"class-{int(ms) % 3}")
    intervals.valued(ticket, "0.5")
    intervals.scored("canary", 500)
    intervals.user_over("canary", has_failed=outcome != "ok", in_control=False)
    match outcome:
        case "ok":
            if is_stream:
                bad = {"goodput": ms > 100, "empty": ms < 10}
                intervals.told(
                    ticket, Story({"first_token": ms}, {"longer": ms}, bad, {"out": int(ms) % 9}, (), f"{int(ms) % 2}")
                )
            intervals.answered(ticket, ms)
        case "memo":
            intervals.remembered(ticket)
        case "left":
            intervals.left(ticket)
        case "error":
            intervals.failed(ticket)
        case _:
            intervals.timed_out(ticket, ms)


@given(st.lists(OUTCOMES, max_size=40))
def test_the_sum_of_the_workers_is_the_whole(outcomes):
    """Counts, latencies above any threshold, classes, slices, streams and users."""
    workers, alone = [Intervals("b", 1.0, 0.0) for _ in range(3)], Intervals("b", 1.0, 0.0)
    for worker, outcome, ms, is_stream in outcomes:
        count(workers[worker], outcome, ms, is_stream=is_stream)
        count(alone, outcome, ms, is_stream=is_stream)
    for intervals in (*workers, alone):
        intervals.cut(1.0, HOME)
    found = merged([intervals.decided_after(-1)[0].canary for intervals in workers])
    expected = alone.decided_after(-1)[0].canary
    assert same(found) == same(expected)


def same(arm: ArmCounts | None) -> object:
    """The counts without how they are written down."""
    if arm is None:
        return None
    over = [arm.exceeding(step) for step in range(-100, 240, 5)]
    plain = (
        arm.routed,
        arm.errors,
        arm.timeouts,
        arm.memo_hits,
        arm.left,
        arm.rates,
        over,
        arm.scores,
        arm.classes,
        arm.values,
    )
    parts = [{name: same(part) for name, part in named.items()} for named in (arm.by_slice, arm.timings)]
    return plain, parts, same(arm.users)


def part(number: int, routed: int) -> Stratum:
    """What a worker saw of an interval."""
    return Stratum(number, "b", 0.0, 1.0, 50.0, ArmCounts(), ArmCounts(routed), control=ArmCounts())


def test_an_interval_waits_for_every_worker():
    """And is handed out once, in order."""
    merging = Merging("b", 1.0, 0.0)
    for worker in (1, 2):
        merging.joins(worker)
    assert merging.cut(0.1, HALF)
    assert not merging.cut(0.2, HALF)
    assert merging.cut(1.2, HALF)
    merging.said(1, part(1, 5))
    merging.said(1, part(0, 1))
    merging.said(2, part(1, 7))
    assert merging.decided_after(-1) == ()
    merging.said(2, part(0, 1))
    merging.said(2, part(0, 1))
    found = merging.decided_after(-1)
    assert [(s.interval, s.canary.routed, s.canary_pct) for s in found] == [(0, 2, 0.0), (1, 12, 50.0)]


def test_what_a_dead_worker_had_in_flight_are_errors():
    """Of the interval in which it died; nothing waits for it any more."""
    merging = Merging("b", 1.0, 0.0)
    for worker in (1, 2):
        merging.joins(worker)
    merging.cut(0.1, HALF)
    merging.leaves(2, (3, 1))
    merging.cut(1.2, HALF)
    for number in (0, 1):
        merging.said(1, part(number, 10))
    found = merging.decided_after(0)[0]
    assert (found.stable.routed, found.stable.errors, found.canary.routed, found.canary.errors) == (3, 3, 11, 1)
    assert Stratum.from_dict(found.as_dict()) == found
