"""Does the whole judge keep the promises that its parts keep?"""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import nchypergeom_fisher

from evals.canary.absorb import absorb
from evals.canary.judgement import judge_canary
from evals.canary.plan import CanaryPlan
from evals.canary.standing import standing
from evals.canary.state import CanaryState
from evals.gate import Gate
from evals.maths.e_processes import Bank, OddsRatio
from evals.maths.e_processes import absorb as absorb_counts
from evals.signals.strata import ArmCounts, Stratum

PLAN = CanaryPlan(latency_tolerance=None)


def stratum(number, canary, stable, pct=10.0):
    """(requests, errors) of both arms in five seconds."""
    return Stratum(number, "boot", 5.0 * number, 5.0 * number + 5, pct, ArmCounts(*stable), ArmCounts(*canary))


def state_after(strata, plan=PLAN):
    """What is known after these strata."""
    state = CanaryState()
    for one in strata:
        state = absorb(plan, state, one)
    return state


@pytest.mark.parametrize("ratio", [1.15, 1.5, 4.0])
@pytest.mark.parametrize("counts", [(12, 5, 88, 4), (300, 9, 5700, 31), (50_000, 700, 950_000, 9_300)])
def test_one_bet_is_the_likelihood_ratio_of_an_independent_implementation(counts, ratio):
    """Scipy's noncentral hypergeometric distribution gives the same number, for small and for large strata."""
    canary, canary_bad, stable, stable_bad = counts
    given = (canary + stable, canary, canary_bad + stable_bad)
    expected = nchypergeom_fisher.logpmf(canary_bad, *given, ratio) - nchypergeom_fisher.logpmf(canary_bad, *given, 1.0)
    bet = OddsRatio(ratios=(ratio,), prior=(1.0,))
    found = absorb_counts(bet, Bank.of(bet), np.array([counts])).log_e[0]
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_a_million_errors_in_an_interval_are_numbers():
    """Both arms of a very busy service fail at once, the canary a little more."""
    state = state_after([stratum(n, (500_000, 60_000), (9_500_000, 1_000_000), 5.0) for n in range(3)])
    verdict = judge_canary(PLAN, state)
    assert verdict.roll_back
    assert all(math.isfinite(value) for value in standing(PLAN, state).values())


@pytest.mark.parametrize("nothing", [(0, 0), (5, 0)])
def test_a_stratum_without_information_changes_nothing(nothing):
    """Nobody was routed, or nobody failed anywhere: evidence of harm is what it was."""
    before = [stratum(n, (25, 1), (225, 1)) for n in range(10)]
    more = [stratum(n, nothing, (nothing[0] * 9, 0)) for n in range(10, 20)]
    assert standing(PLAN, state_after([*before, *more]))["errors"] == standing(PLAN, state_after(before))["errors"]


COUNTS = st.tuples(st.integers(5, 40), st.integers(0, 5), st.integers(5, 40), st.integers(0, 5))


@given(st.lists(COUNTS, min_size=1, max_size=1))
def test_better_and_worse_are_mirror_images(counts):
    """Where the arms change places at an even share, one stratum never proves harm both ways."""
    forward = [stratum(n, (n_c, k_c), (n_s, k_s), 50.0) for n, (n_c, k_c, n_s, k_s) in enumerate(counts)]
    mirrored = [replace(s, stable=s.canary, canary=s.stable) for s in forward]
    one, other = (judge_canary(PLAN, state_after(strata)) for strata in (forward, mirrored))
    assert not (one.roll_back and other.roll_back)
    assert (one.canary_errors, one.stable_errors) == (other.stable_errors, other.canary_errors)


@given(st.lists(COUNTS, min_size=2, max_size=10), st.integers(1, 9))
def test_a_judge_that_was_resumed_says_the_same(counts, at):
    """Its state goes through JSON in the middle, and every word of the verdict is the same."""
    strata = [stratum(n, (n_c, k_c), (n_s, k_s)) for n, (n_c, k_c, n_s, k_s) in enumerate(counts)]
    half = CanaryState.from_dict(json.loads(json.dumps(state_after(strata[:at]).as_dict())))
    for one in strata[at:]:
        half = absorb(PLAN, half, one)
    assert judge_canary(PLAN, half) == judge_canary(PLAN, state_after(strata))


def test_errors_that_begin_in_the_bake_are_found():
    """After an hour of good steps the canary has 95 %, and a fault is held against the five that stable kept."""
    hour = [stratum(n, (250, 1), (250, 1), 50.0) for n in range(720)]
    bake = [stratum(n, (475, 24), (25, 0), 95.0) for n in range(720, 740)]
    assert judge_canary(PLAN, state_after(hour)).promote
    found = judge_canary(PLAN, state_after([*hour, *bake]))
    assert (found.roll_back, found.promote, found.guilty) == (True, False, ("errors",))


def test_gates_are_the_ones_of_the_evaluation():
    """The same objects, in any order; what is not named is not judged."""
    gates = [
        Gate("quality", margin=0.03),
        Gate("errors", margin=0.02),
        Gate("latency", margin=0.2, tolerance=0.1, quantiles=(0.5, 0.95)),
        Gate("first_token", tolerance=0.1, quantiles=(0.9,)),
    ]
    plan = CanaryPlan.of(gates, alpha=0.02)
    assert (plan.alpha, plan.error_margin, plan.quality_margin) == (0.02, 0.02, 0.03)
    assert (plan.latency.quantiles, plan.latency.tolerance, plan.latency.margin) == ((0.5, 0.95), 0.1, 0.2)
    assert {name: test.margin for name, test in plan.streams.items()} == {"first_token": None}
    alone = CanaryPlan.of([Gate("errors", margin=0.01)])
    assert (alone.latency, alone.quality_margin, dict(alone.streams)) == (None, None, {})


@pytest.mark.parametrize("gates", [[], [Gate("latency", margin=0.1, quantiles=(0.5,))], [Gate("errors", max=0.1)]])
def test_errors_are_always_judged(gates):
    """A plan without a margin on errors promotes on nothing."""
    with pytest.raises(ValueError, match="errors"):
        CanaryPlan.of(gates)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"alpha": a} for a in (0.0, -0.1, 0.51, math.nan)),
        *({"alpha_promote": a} for a in (0.0, 1.0)),
        *({name: m} for name in ("error_margin", "quality_margin") for m in (0.0, 1.0, -0.1, math.nan)),
        {"latency_margin": 0.0},
    ],
)
def test_budgets_and_margins_that_mean_nothing_are_refused(wrong):
    """By name."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        CanaryPlan(**wrong)
