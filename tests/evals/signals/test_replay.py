"""Do pairs of answers prove what they should, and no more than that?"""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.canary.judgement import judge_canary
from evals.canary.plan import CanaryPlan
from evals.canary.state import CanaryState
from evals.signals.replay import Pair, ReplayState, allowed_disagreement, pairs_to_promote, sign_log_e

PLAN = CanaryPlan(has_replay=True, drift_ratio=2.0)


def state(**counts: int) -> CanaryState:
    """A canary that no user has met, after a replay."""
    return CanaryState(replay=ReplayState(**counts))


def chance(n: int, k: int, p: float) -> float:
    """P(k of n)."""
    return math.comb(n, k) * p**k * (1 - p) ** (n - k)


@pytest.mark.parametrize("n", [1, 4, 20])
@pytest.mark.parametrize("p", [0.0, 0.1, 0.4, 0.5])
def test_a_fair_coin_is_no_evidence(n, p):
    """Where at most half of the differing pairs are worse, the expectation is at most one; at one half it is one."""
    expected = sum(chance(n, k, p) * math.exp(sign_log_e(k, n - k)) for k in range(n + 1))
    assert expected <= 1 + 1e-9
    assert p < 0.5 or expected == pytest.approx(1)


@pytest.mark.parametrize("n", [1, 5, 12])
@pytest.mark.parametrize("margin", [0.01, 0.1, 0.5])
@pytest.mark.parametrize("stable_only", [0.0, 0.05, 0.3])
@pytest.mark.parametrize("beyond", [0.0, 0.1])
def test_a_canary_worse_by_the_margin_is_no_bet_to_win(n, margin, stable_only, beyond):
    """E[e] over every outcome of n pairs is at most one wherever the canary fails that much more often."""
    canary_only = stable_only + margin + beyond
    if canary_only + stable_only > 1:
        return
    total = 0.0
    for worse in range(n + 1):
        for better in range(n + 1 - worse):
            ways = math.comb(n, worse) * math.comb(n - worse, better)
            odds = canary_only**worse * stable_only**better * (1 - canary_only - stable_only) ** (n - worse - better)
            found = ReplayState(n, canary_only=worse, stable_only=better)
            total += ways * odds * math.exp(found.harmless_log_e(margin))
    assert total <= 1 + 1e-9


@pytest.mark.parametrize("n", [1, 6, 25])
@pytest.mark.parametrize("ratio", [1.2, 2.0, 9.0])
@pytest.mark.parametrize("part", [0.0, 0.5, 1.0])
def test_an_allowed_share_of_other_answers_is_no_shift(n, ratio, part):
    """E[e] is at most one for every share of other answers up to what the drift gate allows."""
    p = part * allowed_disagreement(ratio)
    states = (ReplayState(n, other_class=k, same_class=n - k) for k in range(n + 1))
    total = sum(chance(n, k, p) * math.exp(s.shifted_log_e(ratio)) for k, s in enumerate(states))
    assert total <= 1 + 1e-9


pairs = st.lists(
    st.builds(
        Pair,
        st.none() | st.floats(0.1, 1e4),
        st.none() | st.floats(0.1, 1e4),
        st.none() | st.booleans(),
        st.booleans(),
    ),
    max_size=30,
)


@given(pairs, st.randoms(use_true_random=False))
def test_the_order_does_not_matter(found, random):
    """Evidence is a function of counts."""
    shuffled = [*found]
    random.shuffle(shuffled)
    assert ReplayState.of(shuffled) == ReplayState.of(found)


@given(pairs, st.integers(0, 30))
def test_a_replay_that_was_interrupted_is_the_same_replay(found, at):
    """Two parts, with the record between them, count like one."""
    kept = ReplayState.from_dict(json.loads(json.dumps(ReplayState.of(found[:at]).as_dict())))
    assert kept.plus(ReplayState.of(found[at:])) == ReplayState.of(found)


@given(pairs)
def test_swapped_arms_are_a_mirror(found):
    """What was worse is better, and what agreed agrees."""
    there = ReplayState.of(found)
    back = ReplayState.of([replace(p, canary_ms=p.stable_ms, stable_ms=p.canary_ms) for p in found])
    assert (back.canary_only, back.stable_only, back.both) == (there.stable_only, there.canary_only, there.both)
    assert (back.slower, back.faster) == (there.faster, there.slower)
    assert back.agreement == there.agreement


@given(pairs)
def test_a_replay_without_a_difference_accuses_nobody(found):
    """The same answer, time and failure on both sides: evidence of harm stays one."""
    same = ReplayState.of([replace(p, stable_ms=p.canary_ms) for p in found])
    assert (same.errors_log_e, same.latency_log_e) == (pytest.approx(0), pytest.approx(0))


def test_the_tolerance_is_not_slower():
    """A canary that takes 4 % longer is within 5 %."""
    found = ReplayState.of([Pair(104.0, 100.0)], tolerance=0.05)
    assert (found.slower, found.faster) == (0, 1)


def test_enough_pairs_promote_without_a_live_error():
    """As many pairs as are said to be needed, and no live evidence at all, prove harmlessness; one less does not."""
    need = pairs_to_promote(0.05, 0.01)
    assert need == 430
    assert judge_canary(PLAN, state(pairs=need)).promote
    assert not judge_canary(PLAN, state(pairs=need - 1)).promote


def test_a_canary_that_fails_alone_is_guilty():
    """Thirteen of twenty replayed requests are proof enough for both halves."""
    verdict = judge_canary(PLAN, state(pairs=20, canary_only=13))
    assert verdict.roll_back
    assert verdict.guilty == ("errors",)
    assert "13 failed at the canary alone" in verdict.sentence
    assert verdict.canary_requests == 0


def test_a_slow_canary_is_guilty():
    """Slower on nearly all requests."""
    verdict = judge_canary(PLAN, state(pairs=60, slower=50, faster=10))
    assert verdict.roll_back
    assert verdict.guilty == ("latency",)


def test_both_failing_says_nothing():
    """A request that no model can answer speaks against neither."""
    assert not judge_canary(PLAN, state(pairs=400, both=400)).roll_back


def test_other_classes_shift_predictions():
    """Half of the requests in another class are more than a drift of two could explain."""
    assert "20 of 40 replayed requests" in judge_canary(PLAN, state(pairs=40, other_class=20, same_class=20)).shifted
    assert judge_canary(PLAN, state(pairs=40, other_class=4, same_class=36)).shifted == ""


def test_other_outputs_are_only_reported():
    """Texts and numbers differ between any two models."""
    verdict = judge_canary(PLAN, state(pairs=40, other_output=40))
    assert verdict.shifted == ""
    assert "0.0% have the same answer" in verdict.sentence


def test_without_a_replay_nothing_changes():
    """A plan that was declared without one ignores what a state may hold."""
    found = state(pairs=500, canary_only=200)
    assert judge_canary(CanaryPlan(), found) == judge_canary(CanaryPlan(), CanaryState())


def test_a_state_survives_its_record():
    """A release that is resumed goes on with exactly this state."""
    found = state(pairs=9, canary_only=1, same_class=8)
    assert CanaryState.from_dict(json.loads(json.dumps(found.as_dict()))) == found


@pytest.mark.parametrize(
    "counts",
    [
        {"pairs": -1},
        {"pairs": 3, "canary_only": 4},
        {"pairs": 3, "slower": 2, "faster": 2},
        {"pairs": 3, "same_class": 2, "other_output": 2},
        {"pairs": 3.5},
        {"pairs": True},
    ],
)
def test_counts_that_cannot_be_are_refused(counts):
    """They never become evidence."""
    with pytest.raises(ValueError, match="replay"):
        ReplayState(**counts)
