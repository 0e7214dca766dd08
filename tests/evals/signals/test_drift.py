"""Is a shift of the predictions seen, and only beyond what was allowed?"""

from __future__ import annotations

import json

import numpy as np

from evals.canary.absorb import absorb
from evals.canary.judgement import judge_canary
from evals.canary.plan import CanaryPlan
from evals.canary.state import CanaryState
from evals.signals.counting import step_of_value
from evals.signals.drift import MOST_CLASSES, OTHER, Drift, DriftState
from evals.signals.strata import ArmCounts, Stratum

PLAN = CanaryPlan(latency_tolerance=None, drift_ratio=1.5)


def stratum(number, canary, stable):
    """Classes of both arms in five seconds."""
    arms = (ArmCounts(sum(each.values()), classes=each) for each in (stable, canary))
    return Stratum(number, "boot", 5.0 * number, 5.0 * number + 5, 20.0, *arms)


def played(rng, canary_p, stable_p, looks=120, plan=PLAN):
    """The state after strata with these chances of `good` and `bad`."""
    state = CanaryState()
    for number in range(looks):
        arms = [rng.multinomial(n, [p, 1 - p]).tolist() for n, p in ((50, canary_p), (200, stable_p))]
        state = absorb(plan, state, stratum(number, *(dict(zip(("good", "bad"), a, strict=True)) for a in arms)))
    return state


def test_a_canary_that_says_good_to_all_waits_and_is_not_accused():
    """Twice the odds of a class are more than the 1.5 times that were allowed."""
    verdict = judge_canary(PLAN, played(np.random.default_rng(1), 0.75, 0.5))
    assert (verdict.roll_back, "predictions shifted" in verdict.shifted) == (False, True)
    assert "'good'" in verdict.shifted or "'bad'" in verdict.shifted


def test_a_shift_within_the_ratio_is_allowed():
    """1.2 times the odds: of 40 releases none waits."""
    rng = np.random.default_rng(2)
    assert not any(judge_canary(PLAN, played(rng, 0.545, 0.5, 60)).shifted for _ in range(40))


def test_drift_is_judged_only_where_it_is_asked_for():
    """Without a ratio nothing is kept."""
    state = played(np.random.default_rng(1), 0.9, 0.5, plan=CanaryPlan(latency_tolerance=None))
    assert (state.drift, judge_canary(CanaryPlan(), state).shifted) == (DriftState(), "")


def test_rare_classes_share_a_place():
    """However many classes there are, the state is bounded."""
    state, test = DriftState(), Drift(1.5)
    for number in range(5):
        classes = {f"c{n}": 3 for n in range(number * 10, number * 10 + 20)}
        state = test.absorb(state, stratum(number, classes, classes))
    assert (len(state.classes), state.classes[-1], state.bank.rows) == (MOST_CLASSES + 1, OTHER, 2 * (MOST_CLASSES + 1))
    assert DriftState.from_dict(json.loads(json.dumps(state.as_dict()))) == state


def sure(rng, number, canary, stable):
    """How sure both arms are of what they say: beta-distributed around these means."""

    def arm(n, mean):
        values = np.rint(1000 * rng.beta(20 * mean, 20 - 20 * mean, n)).astype(int)
        steps, counts = np.unique(values, return_counts=True)
        return ArmCounts(n, values=dict(zip(steps.tolist(), counts.tolist(), strict=True)))

    arms = arm(200, stable), arm(50, canary)
    return Stratum(number, "boot", 5.0 * number, 5.0 * number + 5, 20.0, *arms)


def test_a_canary_that_is_less_sure_waits():
    """The same classes, but values from other tenths of stable's."""
    rng, state = np.random.default_rng(3), CanaryState()
    for number in range(60):
        state = absorb(PLAN, state, sure(rng, number, 0.7, 0.85))
    verdict = judge_canary(PLAN, state)
    assert (verdict.roll_back, "stable's tenth" in verdict.shifted) == (False, True)
    assert CanaryState.from_dict(json.loads(json.dumps(state.as_dict()))) == state


def test_equal_values_do_not_shift():
    """Of 20 releases none waits, while stable itself becomes less and less sure."""
    rng = np.random.default_rng(4)
    for _ in range(20):
        state = CanaryState()
        for number in range(60):
            state = absorb(PLAN, state, sure(rng, number, 0.85 - number / 400, 0.85 - number / 400))
        assert judge_canary(PLAN, state).shifted == ""


def test_numbers_of_any_size_have_a_step():
    """Small ones by thousandths, large ones by a percent, in order."""
    values = [-1e300, -70.0, -1.0, -0.25, 0.0, 0.0004, 0.25, 1.0, 1.02, 70.0, 1e300]
    steps = [step_of_value(value) for value in values]
    assert steps == sorted(steps)
    assert (step_of_value(0.25), step_of_value(1.0), step_of_value(-1.0)) == (250, 1000, -1000)
