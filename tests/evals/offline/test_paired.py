"""Do the paired intervals hold the truth as often as they say?"""

from __future__ import annotations

import math
from functools import partial
from statistics import NormalDist

import numpy as np
import pytest

from evals.offline.paired import bootstrap_difference, mean_difference

Z = NormalDist().inv_cdf(0.975)


def pairs(plus, minus, n):
    """Outcomes of n rows of which `plus` are bad in the first model only, `minus` in the second only."""
    a = np.array([1.0] * plus + [0.0] * (n - plus))
    b = np.array([0.0] * plus + [1.0] * minus + [0.0] * (n - plus - minus))
    return a, b


@pytest.mark.parametrize("n", [30, 412, 1500])
def test_no_discordant_pair_is_not_certainty(n):
    """Two models that agree on all rows may still differ by z²/(n + z²), the closed form of the score interval."""
    point, (low, high) = mean_difference(*pairs(0, 0, n), 0.95)
    assert point == 0
    assert high == pytest.approx(Z * Z / (n + Z * Z))
    assert low == pytest.approx(-high)


@pytest.mark.parametrize(("plus", "minus", "n"), [(5, 2, 40), (31, 12, 200), (0, 9, 60), (40, 0, 40), (7, 7, 90)])
def test_the_ends_are_where_the_score_test_turns(plus, minus, n):
    """At both ends the score statistic, with its variance restricted by an independent maximisation, is ±z."""
    point, (low, high) = mean_difference(*pairs(plus, minus, n), 0.95)
    assert point == pytest.approx((plus - minus) / n)
    assert -1 <= low <= point <= high <= 1
    for end, sign in ((low, 1), (high, -1)):
        if abs(end) < 1 - 1e-9:
            assert score(plus, minus, n, end) == pytest.approx(sign * Z, rel=1e-3)


def score(plus, minus, n, delta):
    """(p10 − p01 − δ) over its standard error at the likeliest p01 given δ, found by search."""
    q = np.linspace(max(0.0, -delta), (1 - delta) / 2, 400_001)[1:-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        likelihood = plus * np.log(q + delta) + minus * np.log(q) + (n - plus - minus) * np.log(1 - 2 * q - delta)
    best = float(q[np.nanargmax(likelihood)])
    return (plus - minus - n * delta) / math.sqrt(n * (2 * best + delta * (1 - delta)))


@pytest.mark.parametrize(("p_plus", "p_minus", "n"), [(0.1, 0.05, 60), (0.02, 0.02, 100), (0.3, 0.05, 40)])
def test_the_score_interval_covers(p_plus, p_minus, n):
    """Over 2,000 draws the 95 % interval holds the true difference in at least 93 %."""
    rng = np.random.default_rng(1)
    interval = partial(mean_difference, confidence=0.95)
    held = 0
    for plus, minus, _ in rng.multinomial(n, [p_plus, p_minus, 1 - p_plus - p_minus], 2000):
        low, high = interval(*pairs(plus, minus, n))[1]
        held += low <= p_plus - p_minus <= high
    assert held / 2000 >= 0.93


def test_swapped_models_mirror_the_interval():
    """Worse by x one way is better by x the other way."""
    a, b = pairs(9, 3, 80)
    point, (low, high) = mean_difference(a, b, 0.95)
    mirrored, (mirrored_low, mirrored_high) = mean_difference(b, a, 0.95)
    assert (mirrored, mirrored_low, mirrored_high) == pytest.approx((-point, -high, -low))


def test_the_bootstrap_agrees_with_the_normal_interval():
    """For a mean of many rows it is point ± z standard errors, and it is the same at every call."""
    values = np.random.default_rng(2).normal(0.3, 1.0, 2000)
    point, (low, high) = bootstrap_difference(2000, lambda rows: float(values[rows].mean()), 0.95)
    error = values.std() / math.sqrt(2000)
    assert point == pytest.approx(values.mean())
    assert (low, high) == pytest.approx((point - Z * error, point + Z * error), abs=0.1 * error)
    assert bootstrap_difference(2000, lambda rows: float(values[rows].mean()), 0.95) == (point, (low, high))


def test_more_confidence_is_a_wider_interval():
    """99 % encloses 80 %, in both methods."""
    a, b = pairs(9, 3, 80)
    for interval in (
        lambda c: mean_difference(a, b, c)[1],
        lambda c: bootstrap_difference(80, lambda rows: float((a - b)[rows].mean()), c)[1],
    ):
        assert interval(0.99)[0] < interval(0.8)[0] < interval(0.8)[1] < interval(0.99)[1]
