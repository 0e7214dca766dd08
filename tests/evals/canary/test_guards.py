"""Is a comparison that cannot be believed recognised, and what does it then decide?"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from evals.canary.absorb import absorb
from evals.canary.guards import RoutedShare, without
from evals.canary.judgement import judge_canary
from evals.canary.plan import CanaryPlan
from evals.canary.state import CanaryState
from evals.signals.strata import ArmCounts, Cohort, Stratum

PLAN = CanaryPlan(latency_tolerance=None)
WITH_QUALITY = CanaryPlan(latency_tolerance=None, quality_margin=0.02)


def stratum(number, canary, stable, pct=10.0, **more):
    """Both arms in five seconds."""
    return Stratum(number, "boot", 5.0 * number, 5.0 * number + 5, pct, stable, canary, **more)


def judged(plan, strata):
    """The verdict after these strata."""
    state = CanaryState()
    for one in strata:
        state = absorb(plan, state, one)
    return judge_canary(plan, state)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_the_ordered_share_gives_an_expectation_of_one(share):
    """Each request by a coin of the ordered share: the bets on another share are fair."""
    bets = RoutedShare(share)
    factors = np.exp(bets.log_factors(np.zeros((13, 2), int), np.array([(n, 12 - n) for n in range(13)])))
    chances = np.array([math.comb(12, n) * share**n * (1 - share) ** (12 - n) for n in range(13)])
    assert chances @ factors == pytest.approx(np.ones(7))


def test_a_router_that_misroutes_voids_the_rest():
    """Twice the ordered share, and half of the canary's requests fail: neither accused nor promoted, but void."""
    strata = [stratum(n, ArmCounts(50, 25), ArmCounts(200, 1)) for n in range(40)]
    verdict = judged(PLAN, strata)
    assert (verdict.roll_back, verdict.promote) == (False, False)
    assert verdict.void.startswith("sample-ratio mismatch: 2000 of 10000 requests")
    assert verdict.sentence.startswith("sample-ratio mismatch")


def test_an_honest_router_is_believed():
    """10 % by coin for an hour, at four shares: nothing is void."""
    rng = np.random.default_rng(1)
    strata = []
    for number in range(720):
        pct = (5.0, 10.0, 25.0, 50.0)[number // 180]
        canary = int(rng.binomial(250, pct / 100))
        strata.append(stratum(number, ArmCounts(canary), ArmCounts(250 - canary), pct))
    assert judged(PLAN, strata).void == ""


def test_a_metric_that_tells_stable_from_itself_cannot_accuse_alone():
    """All errors of stable lie in one random half (one bad client): errors are unreliable, and do not convict."""
    rng = np.random.default_rng(2)
    strata = []
    for number in range(60):
        canary = int(rng.binomial(250, 0.1))
        stable, half = 250 - canary, (250 - canary) // 2
        strata.append(stratum(number, ArmCounts(canary, 4), ArmCounts(stable, 12), control=ArmCounts(half, 12)))
    verdict = judged(PLAN, strata)
    assert (verdict.roll_back, verdict.guilty, verdict.unreliable) == (False, (), ("errors",))
    assert "errors cannot be trusted" in verdict.sentence
    believed = judged(PLAN, [replace(one, control=None) for one in strata])
    assert (believed.roll_back, believed.unreliable) == (True, ())


def test_labels_that_come_for_one_arm_only_promote_nobody():
    """Half of stable's requests are labelled, a tenth of the canary's: what is known of its quality is a choice."""
    strata = [
        stratum(
            n,
            ArmCounts(25, scores={900: 10}),
            ArmCounts(225, scores={850: 90}),
            cohorts=(Cohort(10.0, 25, 2, 225, 110),),
        )
        for n in range(200)
    ]
    verdict = judged(WITH_QUALITY, strata)
    assert (verdict.promote, verdict.unreliable) == (False, ("quality",))
    fair = [replace(one, cohorts=(Cohort(10.0, 25, 12, 225, 110),)) for one in strata]
    assert judged(WITH_QUALITY, fair).promote


def test_cohorts_of_different_shares_are_never_merged():
    """Four labelled canary requests at 5 % and four at 50 % are no stratum."""
    few = [stratum(n, ArmCounts(), ArmCounts(), cohorts=(Cohort((5.0, 50.0)[n % 2], 4, 4, 40, 0),)) for n in range(9)]
    state = CanaryState()
    for one in few:
        state = absorb(PLAN, state, one)
    assert state.guards.labels.log_e[0] == 0.0


def test_the_other_half_is_what_is_left():
    """Counts and latencies of stable without its control half."""
    whole, half = ArmCounts(10, 3, 1, {5: 4, 9: 1}), ArmCounts(4, 1, 0, {5: 1, 7: 0})
    assert without(whole, half) == ArmCounts(6, 2, 1, {5: 3, 7: 4, 9: 1})


def test_guards_survive_json():
    """A resumed release doubts what it doubted before."""
    rng = np.random.default_rng(3)
    state = CanaryState()
    for number in range(6):
        halves = ArmCounts(100, 2, 0, {number: 50})
        cohort = Cohort(10.0, int(rng.integers(5, 9)), 2, 40, 9)
        one = stratum(
            number, ArmCounts(25, 1, 0, {4: 3}), ArmCounts(225, 4, 0, {4: 60}), control=halves, cohorts=(cohort,)
        )
        state = absorb(CanaryPlan(), state, Stratum.from_dict(json.loads(json.dumps(one.as_dict()))))
    assert CanaryState.from_dict(json.loads(json.dumps(state.as_dict()))) == state


@pytest.mark.parametrize(("name", "value"), list(product(("canary_labelled", "stable_labelled"), (-1, 99))))
def test_impossible_cohorts_are_refused(name, value):
    """More labels than requests are no evidence."""
    with pytest.raises(ValueError, match="impossible labels"):
        Cohort(
            **(
                {"canary_pct": 5.0, "canary": 9, "canary_labelled": 1, "stable": 20, "stable_labelled": 2}
                | {name: value}
            )
        )
