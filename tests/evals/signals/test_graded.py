"""Does the graded bet keep its promise, and is it worth its second threshold?"""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest

from evals.maths.e_processes import Bank, OddsRatio, absorb
from evals.signals import graded
from evals.signals.graded import TAIL, GradedOdds

ONE = GradedOdds(ratios=((2.0, 7.0),), prior=(1.0,))


def factor(bets, canary, stable):
    """E after one stratum; an arm is (requests, past the first threshold, past both)."""
    return math.exp(absorb(bets, Bank.of(bets), np.array([(*canary, *stable)])).log_e[0])


def outcomes(n, p_slow, p_slowest):
    """((n, past the first, past both), its chance), for independent requests."""
    for slow, slowest in product(range(n + 1), repeat=2):
        if slowest <= slow:
            ways = math.comb(n, slow) * math.comb(slow, slowest)
            chance = (1 - p_slow) ** (n - slow) * (p_slow - p_slowest) ** (slow - slowest) * p_slowest**slowest
            yield (n, slow, slowest), ways * chance


def expectation(bets, canary, stable, n_c=5, n_s=4):
    """E[factor] where an arm is (P(past the first), P(past both))."""
    pairs = product(outcomes(n_c, *canary), outcomes(n_s, *stable))
    return sum(p_c * p_s * factor(bets, c, s) for (c, p_c), (s, p_s) in pairs)


@pytest.mark.parametrize("arm", [(0.1, 0.02), (0.5, 0.1), (0.6, 0.6), (0.9, 0.0)])
@pytest.mark.parametrize("sizes", [(5, 1), (5, 4), (6, 2)])
def test_equal_arms_give_an_expectation_of_one(arm, sizes):
    """Whatever the shared tail is, the bets are fair."""
    assert expectation(TAIL, arm, arm, *sizes) == pytest.approx(1)


@pytest.mark.parametrize(
    ("canary", "stable"),
    [((0.1, 0.05), (0.3, 0.05)), ((0.3, 0.0), (0.3, 0.2)), ((0.1, 0.01), (0.5, 0.1)), ((0.2, 0.2), (0.9, 0.2))],
)
def test_a_canary_that_is_nowhere_slower_gains_nothing(canary, stable):
    """The null is larger than equality: faster at either threshold is inside it."""
    assert expectation(TAIL, canary, stable) <= 1 + 1e-12


def test_a_stretched_tail_gains():
    """Slower at both thresholds."""
    assert expectation(TAIL, (0.4, 0.3), (0.1, 0.01)) > 1.5


def test_it_is_the_mean_over_all_ways_to_deal_the_requests():
    """One case, dealt by hand: 9 requests with weights 1, 2 and 7, five of them to the canary."""
    from itertools import combinations

    weights = [1] * 5 + [2] * 3 + [7]
    dealt = np.mean([math.prod(weights[i] for i in hand) for hand in combinations(range(9), 5)])
    assert factor(ONE, (5, 3, 1), (4, 1, 0)) == pytest.approx(2 * 2 * 7 / dealt)


def test_one_threshold_is_an_odds_ratio():
    """Where nothing is past the second one, it is Fisher's noncentral hypergeometric likelihood ratio."""
    odds = OddsRatio(ratios=(2.0,), prior=(1.0,))
    plain = math.exp(absorb(odds, Bank.of(odds), np.array([(30, 7, 50, 4)])).log_e[0])
    assert factor(ONE, (30, 7, 0), (50, 4, 0)) == pytest.approx(plain)


def test_too_many_outcomes_are_judged_at_the_first_threshold(monkeypatch):
    """Which threshold is looked at depends on both arms together, so the bet stays fair."""
    monkeypatch.setattr(graded, "MOST_TERMS", 5)
    assert factor(ONE, (30, 7, 3), (50, 4, 1)) == pytest.approx(factor(ONE, (30, 7, 0), (50, 4, 0)))
    assert expectation(ONE, (0.5, 0.1), (0.5, 0.1)) == pytest.approx(1)


def test_nothing_slow_says_nothing():
    """A stratum without a slow request leaves the stake as it was."""
    assert factor(TAIL, (40, 0, 0), (60, 0, 0)) == pytest.approx(1)


def test_an_outage_of_a_busy_service_does_not_overflow():
    """A million requests, nearly all of them slow."""
    assert math.isfinite(absorb(TAIL, Bank.of(TAIL), np.array([(500_000, 499_000, 400_000, 500_000, 9, 3)])).log_e[0])
