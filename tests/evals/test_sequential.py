"""Does the judge, as a rule over raw intervals, decide whole simulated releases rightly?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.many_releases import first_alarms
from evals.planning.worlds import EQUAL, ArmSeen, IntervalSeen, play
from evals.sequential import default_test, errors_test, stratum_of


def decided(world, seed, make=default_test):
    """What becomes of one release, and when."""
    test = make()
    for interval in play(world, seed):
        decision = test.observe(interval)
        if decision != "wait":
            return decision, interval.t
    return "wait", world.lasts_s


def test_an_equal_canary_is_promoted_within_its_plan():
    """Errors, three quantiles and quality are proven harmless in half an hour at 50 requests a second."""
    assert [decided(EQUAL, seed)[0] for seed in range(3)] == ["promote"] * 3


@pytest.mark.parametrize(
    ("changed", "within_s"),
    [
        ({"canary_errors": 0.5}, 10),
        ({"canary_errors": 0.05}, 300),
        ({"p99_slower": 1.5}, 1500),
        ({"slower": 1.5}, 300),
        ({"canary_score": 0.75}, 900),
    ],
)
def test_a_worse_canary_goes_home(changed, within_s):
    """By whichever metric."""
    decision, at_s = decided(replace(EQUAL, name="worse", **changed), 7)
    assert decision == "rollback"
    assert at_s <= within_s


def test_many_equal_releases_stay():
    """1,000 at once, looked at every five seconds for half an hour, through an incident on both arms: α is 1 %."""
    incident = replace(EQUAL, incident=(600.0, 960.0, 0.05))
    assert np.isfinite(first_alarms(incident, 1000, seed=3)).sum() <= 18


def test_arrays_and_the_judge_agree():
    """The vectorised process is the judge's own, number for number."""
    world = replace(EQUAL, name="worse", canary_errors=0.05, shares=(0.05,))
    alarms = first_alarms(world, 400, seed=5)
    ended = []
    for seed in range(60):
        test, requests = errors_test(), 0
        for interval in play(world, seed):
            requests += interval.canary.n
            if test.observe(interval) == "rollback":
                break
        ended.append(requests)
    assert np.median(ended) == pytest.approx(np.median(alarms), rel=0.3)


def interval(**changed):
    """A raw interval with one thing changed at its canary."""
    arm = {"n": 10, "errors": 0, "latency": np.full(10, 100.0), "quality": np.empty(0)}
    return IntervalSeen(5.0, 0.1, ArmSeen(90, 0, np.full(90, 100.0), np.empty(0)), ArmSeen(**(arm | changed)))


@pytest.mark.parametrize(
    "changed",
    [
        {"errors": 11},
        {"errors": -1},
        {"latency": np.array([np.nan] * 10)},
        {"latency": np.array([-5.0] * 10)},
        {"quality": np.array([1.2])},
    ],
)
def test_numbers_that_cannot_be_are_refused(changed):
    """And never become evidence."""
    test = default_test()
    with pytest.raises(ValueError, match=r"errors|latency|score"):
        test.observe(interval(**changed))
    assert test.state.interval == -1


def test_a_stratum_counts_what_was_slow():
    """On the 5 % grid: 100 ms lie below the threshold of their own step."""
    canary = stratum_of(interval(latency=np.array([100.0] * 8 + [400.0] * 2)), 0).canary
    assert (canary.timed, canary.exceeding(90), canary.exceeding(96), canary.exceeding(125)) == (10, 10, 2, 0)
