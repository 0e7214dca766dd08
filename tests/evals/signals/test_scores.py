"""Does the process on bounded scores keep its promise, and find what it should?"""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.signals.scores import GRID, MeanScore, ScoreState, histogram_of

WORSE = MeanScore()
HARMLESS = MeanScore(0.05, worse=False)
PAST = ScoreState(past_sum=4.0, past_n=20)


def expectation(test, n_c, n_s, canary, stable, state):
    """E[factor of one stratum] over every outcome; an arm is {score in thousandths: probability}."""
    total = 0.0
    for outcome in itertools.product(*[canary] * n_c, *[stable] * n_s):
        ours, theirs = outcome[:n_c], outcome[n_c:]
        chance = math.prod([canary[x] for x in ours] + [stable[x] for x in theirs])
        after = test.absorb(state, counted(ours), counted(theirs))
        total += chance * math.exp(after.log_e - state.log_e)
    return total


def counted(scores):
    """Scores in thousandths as a histogram."""
    return {step: scores.count(step) for step in set(scores)}


def run(test, strata, state=None):
    """The state after these strata."""
    state = state or ScoreState()
    for canary, stable in strata:
        state = test.absorb(state, canary, stable)
    return state


ARMS = [
    {0: 0.2, 1000: 0.8},
    {500: 0.5, 900: 0.3, 1000: 0.2},
    {0: 0.9, 700: 0.1},
    {300: 1.0},
]


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("state", [ScoreState(), PAST])
def test_equal_arms_give_no_evidence_of_harm(arm, state):
    """Whatever the distribution, and whatever was thought of it before."""
    assert expectation(WORSE, 5, 2, arm, arm, state) <= 1 + 1e-9


@pytest.mark.parametrize("state", [ScoreState(), PAST])
def test_a_better_canary_gives_none_either(state):
    """Inside the null."""
    assert expectation(WORSE, 5, 2, {900: 0.5, 1000: 0.5}, {0: 0.4, 1000: 0.6}, state) <= 1


@pytest.mark.parametrize("state", [ScoreState(), PAST])
@pytest.mark.parametrize(
    ("canary", "stable"),
    [
        ({0: 0.25, 1000: 0.75}, {0: 0.2, 1000: 0.8}),
        ({650: 0.5, 850: 0.5}, {800: 1.0}),
        ({100: 1.0}, {0: 0.5, 1000: 0.5}),
    ],
)
def test_worse_by_the_margin_is_no_bet_to_win(canary, stable, state):
    """By the margin, or by more."""
    assert expectation(HARMLESS, 5, 2, canary, stable, state) <= 1 + 1e-9


def test_outside_the_null_evidence_grows():
    """In both directions."""
    good, bad = {900: 0.5, 1000: 0.5}, {100: 0.5, 300: 0.5}
    assert expectation(WORSE, 5, 3, bad, good, PAST) > 1.5
    assert expectation(HARMLESS, 5, 3, good, good, PAST) > 1


def strata_of(rng, mean_c, mean_s, count, n_c=20, n_s=60):
    """Beta scores, as the judge counts them."""
    return [
        (
            histogram_of(rng.beta(mean_c * 5, (1 - mean_c) * 5, n_c)),
            histogram_of(rng.beta(mean_s * 5, 5 - mean_s * 5, n_s)),
        )
        for _ in range(count)
    ]


def test_a_loss_is_found_and_a_tie_is_proven():
    """Ten points are found within a few hundred scores; no loss at all is proven within a few thousand."""
    rng = np.random.default_rng(1)
    assert run(WORSE, strata_of(rng, 0.75, 0.85, 40)).log_e > math.log(100)
    assert run(MeanScore(0.02, worse=False), strata_of(rng, 0.85, 0.85, 300)).log_e > math.log(20)


def test_equal_canaries_stay_for_a_whole_release():
    """At most one in a hundred would go home; of forty at most two."""
    rng = np.random.default_rng(2)
    ended = 0
    for _ in range(40):
        state, highest = ScoreState(), 0.0
        for canary, stable in strata_of(rng, 0.85, 0.85, 100):
            state = WORSE.absorb(state, canary, stable)
            highest = max(highest, state.log_e)
        ended += highest > math.log(100)
    assert ended <= 2


histograms = st.dictionaries(st.integers(0, GRID), st.integers(1, 30), min_size=1, max_size=6)


@given(st.lists(st.tuples(histograms, histograms), max_size=8), st.integers(0, 8), st.sampled_from([WORSE, HARMLESS]))
def test_a_resumed_process_is_the_uninterrupted_one(strata, at, test):
    """To the bit, through JSON."""
    first = run(test, strata[:at])
    resumed = ScoreState.from_dict(json.loads(json.dumps(first.as_dict())))
    assert run(test, strata[at:], resumed) == run(test, strata)


@given(st.lists(st.tuples(histograms, histograms), max_size=8))
def test_evidence_is_a_number(strata):
    """Whatever came."""
    for test in (WORSE, HARMLESS):
        assert math.isfinite(run(test, strata).log_e)


def test_few_scores_wait():
    """They are merged by counts, and given up at a change of share."""
    waiting = WORSE.absorb(ScoreState(), {1000: 2}, {900: 40})
    assert waiting.log_e == 0.0
    assert WORSE.absorb(waiting, {0: 3}, {}).log_e > 0
    assert waiting.cut() == ScoreState()


@pytest.mark.parametrize("scores", [[1.5], [-0.1], [float("nan")], [float("inf")]])
def test_what_is_no_score_is_refused(scores):
    """Before it is counted."""
    with pytest.raises(ValueError, match="score"):
        histogram_of(scores)
