"""Does the process on mean costs keep its promise, and find what it should?"""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pytest

from evals.canary.absorb import absorb
from evals.canary.judgement import judge_canary
from evals.canary.plan import CanaryPlan
from evals.canary.state import CanaryState
from evals.gate import Gate
from evals.signals.means import MeanState, MeanTest
from evals.signals.strata import ArmCounts, Stratum

ONE_STEP, TWO_STEPS = 0.05, 1.05**2 - 1
HARM, HARMLESS = MeanTest(ONE_STEP), MeanTest(ONE_STEP, TWO_STEPS)
KNOWN = MeanState(scale=(100, 0.25))
"""The cap is at step 100, and stable's mean was a quarter of it."""

PLAN = CanaryPlan.of([Gate("errors", margin=0.01), Gate("cost", margin=0.1, tolerance=0.05)])


def arm(steps, errors=0) -> ArmCounts:
    """Answers whose costs are at these steps."""
    steps = np.asarray(steps, dtype=int)
    priced = ArmCounts(len(steps), over={int(s): int(np.sum(steps > s)) for s in np.unique(steps)})
    return ArmCounts(len(steps) + errors, errors, timings={"cost": priced} if len(steps) else {})


def stratum(canary, stable, number=0, pct=10.0) -> Stratum:
    """Both arms in one interval."""
    return Stratum(number, "b", 5.0 * number, 5.0 * number + 5, pct, stable, canary)


def expectation(test, kind, canary, stable, n_c=5, n_s=2) -> float:
    """E[factor of one stratum] over every outcome; an arm is {step: probability}."""
    total = 0.0
    for outcome in itertools.product(*[canary] * n_c, *[stable] * n_s):
        chance = math.prod([canary[x] for x in outcome[:n_c]] + [stable[x] for x in outcome[n_c:]])
        after = test.absorb(KNOWN, stratum(arm(outcome[:n_c]), arm(outcome[n_c:])))
        total += chance * math.exp(getattr(after, kind).log_e)
    return total


STABLES = [{60: 0.5, 80: 0.5}, {20: 0.9, 95: 0.1}, {70: 1.0}, {0: 0.3, 98: 0.7}]


def dearer(costs, steps):
    """The same, each so many steps of 5 % dearer."""
    return {step + steps: chance for step, chance in costs.items()}


@pytest.mark.parametrize("stable", STABLES)
@pytest.mark.parametrize("steps", [1, 0, -3])
def test_dearer_by_what_is_tolerated_gives_no_evidence_of_harm(stable, steps):
    """Whatever the costs are like, and whatever was thought of them before."""
    assert expectation(HARM, "harm", dearer(stable, steps), stable) <= 1 + 1e-9


@pytest.mark.parametrize("stable", STABLES)
@pytest.mark.parametrize("steps", [2, 8])
def test_dearer_by_the_margin_is_no_bet_to_win(stable, steps):
    """By the margin, or by more; a cap that holds the canary alone back is none of these."""
    below = {min(step, 90 - steps): chance for step, chance in stable.items()}
    assert expectation(HARMLESS, "harmless", dearer(below, steps), below) <= 1 + 1e-9


def test_outside_the_null_evidence_grows():
    """In both directions."""
    costs = {60: 0.5, 80: 0.5}
    assert expectation(HARM, "harm", dearer(costs, 15), costs) > 1.1
    assert expectation(HARMLESS, "harmless", costs, costs) > 1.0


def costs(rng, n, mean=1.0):
    """Costs as uneven as those of chats, at the steps at which a gateway counts them."""
    nano = 1e6 * mean * rng.lognormal(-0.32, 0.8, n)
    above = np.ceil(np.log(nano) / math.log(1.05))
    low, high = 1.05 ** (above - 1), 1.05**above
    return np.where(rng.random(n) * (high - low) < nano - low, above, above - 1)


def release(seed, mean=1.0, strata=60, plan=PLAN, n=100):
    """The verdict at each look on a canary with a tenth of the answers, at `mean` times stable's cost."""
    rng, state, verdicts = np.random.default_rng(seed), CanaryState(), []
    for number in range(strata):
        one = stratum(arm(costs(rng, n // 10, mean)), arm(costs(rng, n - n // 10)), number)
        state = absorb(plan, state, Stratum.from_dict(json.loads(json.dumps(one.as_dict()))))
        verdicts.append(judge_canary(plan, state))
    assert CanaryState.from_dict(json.loads(json.dumps(state.as_dict()))) == state
    return verdicts


def test_a_canary_that_costs_the_same_stays():
    """At most one in a hundred goes home; of a dozen none."""
    assert [any(verdict.roll_back for verdict in release(seed)) for seed in range(12)] == [False] * 12


def test_a_dearer_canary_goes_home_by_name():
    """By half, within some hundred of its answers; the sentence says by how much."""
    last = release(1, 1.5)[-1]
    assert (last.roll_back, last.guilty) == (True, ("cost",))
    assert "cost: the canary's mean is +" in last.sentence


def test_the_same_cost_is_proven_and_a_dearer_one_is_not():
    """Within the margin of a tenth."""
    assert judge_last(1.0) is True
    assert judge_last(1.12) is False


def judge_last(mean):
    """Whether a canary of that cost may be promoted, by cost alone, after 2,400 of its answers."""
    return release(3, mean, strata=60, n=400)[-1].needs["cost"]["more_requests"] == 0


def test_no_cost_is_no_proof():
    """Where no engine says what it took, nothing is promoted, and nobody accused."""
    state = CanaryState()
    for number in range(40):
        state = absorb(PLAN, state, stratum(ArmCounts(50), ArmCounts(450), number))
    verdict = judge_canary(PLAN, state)
    assert (verdict.promote, verdict.roll_back, verdict.needs["cost"]["evidence"]) == (False, False, 1.0)


def test_one_endless_answer_is_worth_no_more_than_the_cap():
    """It cannot be the proof by itself, and weighs as much as any answer at the cap."""
    others = [60] * 9
    bounded, endless = (
        HARM.absorb(KNOWN, stratum(arm([*others, step]), arm([60] * 30))).harm.log_e for step in (100, 400)
    )
    assert (endless, endless < math.log(20)) == (bounded, True)


def test_the_cap_is_known_before_the_answers_that_it_holds_for():
    """Also while they wait to be a stratum; what is cut waits no more."""
    state = MeanState()
    for number in range(2):
        state = HARM.absorb(state, stratum(arm([]), arm([60] * 60), number))
    waiting = HARM.absorb(state, stratum(arm([60] * 2), arm([90] * 60), 2))
    again = HARM.absorb(waiting, stratum(arm([60]), arm([120] * 60), 3))
    assert (waiting.scale, again.scale[0]) == (again.scale, 60 + 28)
    assert again.cut() == replace(again, canary={}, stable={}, scale=None)


def test_a_share_of_alpha_goes_to_cost_where_it_is_judged():
    """And to nobody where it is not."""
    assert PLAN.shares == pytest.approx({"errors": 0.4 / 0.6, "cost": 0.2 / 0.6})
    assert "cost" not in CanaryPlan().shares
