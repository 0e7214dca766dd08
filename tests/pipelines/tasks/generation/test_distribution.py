"""How likely is a token, and how far are two models from each other, where only the likeliest are named?"""

from __future__ import annotations

from math import log

import pytest

from pipelines.tasks.generation.reading.distribution import Distribution


def distribution(**probabilities: float) -> Distribution:
    """Of tokens by number, as `t3=0.5`."""
    return Distribution([(int(name[1:]), log(probability)) for name, probability in probabilities.items()])


HALF = distribution(t3=0.5, t1=0.25, t7=0.125)


def test_the_first_is_the_likeliest():
    """As greedy decoding takes it."""
    assert HALF.likeliest == 3
    assert HALF.log_probability(1) == pytest.approx(log(0.25))


def test_what_is_not_named_is_at_most_as_likely_as_the_last():
    """Whatever engine left it out."""
    assert HALF.log_probability(99) == pytest.approx(log(0.125))


def test_nothing_is_lost_between_a_model_and_itself():
    """In whatever order it names its tokens."""
    other = distribution(t1=0.25, t3=0.5, t7=0.125)
    assert HALF.divergence_from(other.top()) == pytest.approx(0.0, abs=1e-12)


def test_divergence_is_that_of_kullback_and_leibler():
    """Where everything is named: 0.5 log(0.5/0.25) + 0.5 log(0.5/0.75), from the other to this one."""
    champion, candidate = distribution(t0=0.5, t1=0.5), distribution(t1=0.75, t0=0.25)
    assert candidate.divergence_from(champion.top()) == pytest.approx(0.5 * log(4 / 3))
    assert champion.divergence_from(candidate.top()) == pytest.approx(0.75 * log(1.5) + 0.25 * log(0.5))


def test_all_that_is_not_told_apart_counts_as_one():
    """Only the champion's two likeliest: 0.5, 0.25 and 0.25 for the rest, against 0.25, 0.25 and 0.5."""
    candidate = distribution(t4=0.3, t3=0.25, t1=0.25, t7=0.1)
    said = 0.5 * log(2) + 0.25 * log(0.5)
    assert candidate.divergence_from(HALF.top(2)) == pytest.approx(said)


def test_a_sure_model_has_no_rest():
    """Rounding may leave it a little less than nothing."""
    sure = Distribution([(5, 0.0), (6, -40.0)])
    assert sure.divergence_from(sure.top()) == 0.0
    assert 0 < HALF.divergence_from(sure.top()) < 100
