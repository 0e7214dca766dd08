"""Are the textbook's tests what the textbook says?"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm

from benchmarks.textbook_rules import Z_99, Counts, Cusum, PeekingZ, PooledMsprt
from evals.planning.worlds import ArmSeen, IntervalSeen

RULES = (PeekingZ, Cusum, PooledMsprt)


def interval(t, stable, canary):
    """Counts alone."""
    arms = (ArmSeen(n, errors, np.empty(0), np.empty(0)) for n, errors in (stable, canary))
    return IntervalSeen(t, 0.1, *arms)


@pytest.mark.parametrize("make", RULES)
def test_many_errors_go_home(make):
    """Half of all requests fail."""
    assert make(1800).observe(interval(5, (1000, 5), (100, 50))) == "rollback"


@pytest.mark.parametrize("make", RULES)
def test_fewer_errors_stay_and_the_end_promotes(make):
    """A canary that is better is never sent home."""
    rule = make(10)
    assert rule.observe(interval(5, (1000, 50), (1000, 5))) == "wait"
    assert rule.observe(interval(10, (1000, 50), (1000, 5))) == "promote"


@pytest.mark.parametrize("make", RULES)
def test_nothing_is_no_evidence(make):
    """Neither arm has requests, one has none, or all fail on both."""
    rule = make(60)
    for number, arms in enumerate([((0, 0), (0, 0)), ((100, 1), (0, 0)), ((0, 0), (0, 0))]):
        assert rule.observe(interval(5.0 + number, *arms)) == "wait"


def test_the_z_test_is_the_pooled_one():
    """Against the formula, at its boundary."""
    assert pytest.approx(norm.ppf(0.99)) == Z_99
    counts = Counts()
    counts.add(interval(5, (1000, 10), (500, 8)))
    difference, variance = counts.difference()
    assert difference == pytest.approx(0.016 - 0.01)
    assert variance == pytest.approx(0.012 * 0.988 * (1 / 1000 + 1 / 500))


def test_too_few_expected_errors_are_no_evidence():
    """A normal distribution is no likeness of one error."""
    counts = Counts()
    counts.add(interval(5, (10_000, 10), (100, 5)))
    assert counts.difference() is None


def test_cusum_starts_anew():
    """An hour without errors does not pay for an error later."""
    rule = Cusum(1e9)
    for number in range(700):
        rule.observe(interval(5.0 * number, (1000, 10), (100, 0)))
    assert [rule.observe(interval(4000.0, (1000, 10), (100, 7)))] == ["wait"]
    assert [rule.observe(interval(4005.0, (1000, 10), (100, 7)))] == ["rollback"]


def test_the_mixture_is_an_average_of_likelihood_ratios():
    """Its closed form equals the integral over the normal mixing distribution."""
    difference, variance = 0.012, 0.00002
    sizes = np.linspace(-0.08, 0.08, 40_001)
    ratios = np.exp((sizes * difference - sizes**2 / 2) / variance)
    expected = np.trapezoid(ratios * norm.pdf(sizes, scale=0.01), sizes)
    assert math.exp(PooledMsprt(60)._log_ratio(difference, variance)) == pytest.approx(expected, rel=1e-6)
