"""Where users stay at their arm: is each of them one piece of evidence, however busy he is?"""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.canary.absorb import absorb
from evals.canary.judgement import judge_canary
from evals.canary.plan import CanaryPlan
from evals.canary.standing import standing
from evals.canary.state import CanaryState
from evals.signals.strata import ArmCounts, Stratum

PLAN = CanaryPlan(latency_tolerance=None, unit="user", periods=3)


def stratum(number, canary, stable, pct=10.0):
    """Requests and users of both arms: (requests, failed, users, users with a failure)."""
    arms = [ArmCounts(n, bad, users=ArmCounts(users, bad_users)) for n, bad, users, bad_users in (stable, canary)]
    return Stratum(number, "boot", 5.0 * number, 5.0 * number + 5, pct, *arms)


def state_after(strata, plan=PLAN, state=None):
    """What is known after these strata."""
    state = state or CanaryState()
    for one in strata:
        state = absorb(plan, state, one)
    return state


def test_one_heavy_bad_client_accuses_nobody():
    """Fifty failed requests of one user in each interval are one failed user."""
    strata = [stratum(n, (100, 50, 10, int(n == 0)), (900, 0, 90, 0)) for n in range(20)]
    verdict = judge_canary(PLAN, state_after(strata))
    assert (verdict.roll_back, verdict.canary_errors) == (False, 1_000)
    by_request = judge_canary(replace(PLAN, unit="request"), state_after(strata, replace(PLAN, unit="request")))
    assert by_request.roll_back


def test_many_failing_users_send_home():
    """Half of the canary's users have a failure."""
    strata = [stratum(n, (100, 10, 10, 5), (900, 0, 90, 0)) for n in range(20)]
    assert judge_canary(PLAN, state_after(strata)).roll_back


def test_a_fault_of_a_later_step_is_found():
    """Users that were fine in the first step count again in the next one."""
    fine = [stratum(n, (100, 0, 10, 0), (900, 0, 90, 0)) for n in range(20)]
    failing = [stratum(n, (500, 50, 50, 25), (500, 0, 50, 0), pct=50.0) for n in range(20, 30)]
    state = state_after([*fine, *failing])
    assert (state.period, judge_canary(PLAN, state).roll_back) == (1, True)


def test_steps_are_averaged_not_multiplied():
    """The same users are met in each step, so what they say twice counts once, by weight."""
    step = [stratum(n, (100, 0, 10, 2), (900, 0, 90, 1)) for n in range(5)]
    again = [replace(s, interval=s.interval + 5, routed_from_s=s.routed_from_s + 25, canary_pct=20.0) for s in step]
    again = [replace(s, routed_to_s=s.routed_to_s + 25) for s in again]
    single = state_after(step, replace(PLAN, unit="request", periods=1)) and state_after(step)
    alone = float(single.errors.log_e[0])
    both = standing(PLAN, state_after([*step, *again]))["errors"]
    expected = math.log(0.3 * math.exp(alone) + 0.3 * math.exp(alone) + 0.4)
    assert both == pytest.approx(expected)


def test_the_weights_of_all_steps_are_one():
    """Where nothing was seen the evidence is 1 in every step, those that interruptions add included."""
    state = CanaryState()
    for pct in range(1, 40):
        state = absorb(PLAN, state, stratum(pct, (0, 0, 0, 0), (0, 0, 0, 0), pct=float(pct)))
        assert standing(PLAN, state)["errors"] == pytest.approx(0.0, abs=1e-12)


def test_misrouted_users_void_the_comparison():
    """The sample-ratio guard counts users, too: a fifth of them where a tenth was ordered."""
    strata = [stratum(n, (100, 0, 20, 0), (900, 0, 80, 0)) for n in range(30)]
    assert "sample-ratio" in judge_canary(PLAN, state_after(strata)).void


def test_without_user_counts_nothing_is_decided():
    """A source that counts no users gives no evidence about them."""
    bare = [Stratum(n, "boot", 5.0 * n, 5.0 * n + 5, 10.0, ArmCounts(900), ArmCounts(100, 90)) for n in range(20)]
    verdict = judge_canary(PLAN, state_after(bare))
    assert (verdict.roll_back, verdict.promote) == (False, False)


COUNTS = st.tuples(st.integers(0, 20), st.integers(0, 20), st.sampled_from([5.0, 10.0, 50.0]))


@given(st.lists(COUNTS, max_size=12), st.integers(0, 12))
def test_a_resumed_judge_is_the_uninterrupted_one(counts, at):
    """Through JSON at any point, over any changes of the share."""
    strata = [stratum(n, (40, 0, 20, bad_c), (40, 0, 20, bad_s), pct) for n, (bad_c, bad_s, pct) in enumerate(counts)]
    half = CanaryState.from_dict(json.loads(json.dumps(state_after(strata[:at]).as_dict())))
    resumed, whole = state_after(strata[at:], state=half), state_after(strata)
    assert standing(PLAN, resumed) == standing(PLAN, whole)


def test_good_users_stay_over_many_releases():
    """100 releases of three steps with the same heavy bad clients in each: α is 1 %."""
    home = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        place, bad = rng.random(400), rng.random(400) < 0.05
        state, number = CanaryState(), 0
        for pct in (10.0, 25.0, 50.0):
            at_canary, order = place < pct / 100, rng.permutation(400)
            for some in np.array_split(order, 5):
                arms = [(some[at_canary[some] == is_canary]) for is_canary in (True, False)]
                counts = [(5 * len(a), 0, len(a), int(bad[a].sum())) for a in arms]
                state, number = absorb(PLAN, state, stratum(number, *counts, pct=pct)), number + 1
            if judge_canary(PLAN, state).roll_back:
                home += 1
                break
    assert home <= 4
