"""Do the e-processes keep their promise? Expectations by exact enumeration, and promises over simulated releases."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.maths.e_processes import Bank, NonInferiority, OddsRatio, absorb, absorb_parts, log_mean
from evals.maths.rates import requests_to_tell

ERRORS = OddsRatio()


class Counts(NamedTuple):
    """What a bank's row is given."""

    canary: int
    canary_bad: int
    stable: int
    stable_bad: int


def run(test, counts, bank=None):
    """The bank of one process after these counts."""
    bank = bank or Bank.of(test)
    for one in counts:
        bank = absorb(test, bank, np.array([one]))
    return bank


def log_e(test, *counts):
    """Log E after these counts."""
    return run(test, counts).log_e[0]


def expectation(test, n_c, n_s, p_c, p_s, state=None):
    """E[factor of one stratum] over every outcome of two independent binomials."""
    before = state or Bank.of(test)
    total = 0.0
    for k_c in range(n_c + 1):
        for k_s in range(n_s + 1):
            chance = binomial(n_c, k_c, p_c) * binomial(n_s, k_s, p_s)
            total += chance * math.exp((run(test, [Counts(n_c, k_c, n_s, k_s)], before).log_e - before.log_e)[0])
    return total


def binomial(n, k, p):
    """P(k of n)."""
    return math.comb(n, k) * p**k * (1 - p) ** (n - k)


@pytest.mark.parametrize(("n_c", "n_s"), [(5, 1), (5, 20), (12, 9), (20, 5)])
@pytest.mark.parametrize("p", [0.01, 0.2, 0.5, 0.9])
def test_equal_arms_give_an_odds_ratio_expectation_of_one(n_c, n_s, p):
    """Under its null the e-value neither gains nor loses, whatever the shared error rate is."""
    assert expectation(ERRORS, n_c, n_s, p, p) == pytest.approx(1)


@pytest.mark.parametrize(("p_c", "p_s"), [(0.01, 0.1), (0.3, 0.6), (0.0, 0.05)])
def test_a_better_canary_loses_evidence_of_harm(p_c, p_s):
    """Inside the null the expectation is below one."""
    assert expectation(ERRORS, 10, 15, p_c, p_s) < 1


def test_a_worse_canary_gains_evidence_of_harm():
    """Outside the null it grows."""
    assert expectation(ERRORS, 10, 15, 0.4, 0.05) > 2


def test_an_expectation_of_one_survives_the_past():
    """Weights that were moved by the past change the bets, not the promise."""
    past = run(ERRORS, [Counts(10, 4, 50, 1), Counts(8, 0, 40, 3)])
    assert expectation(ERRORS, 8, 12, 0.2, 0.2, past) == pytest.approx(1)


def test_a_tolerated_odds_ratio_has_expectation_one_at_its_edge():
    """With rho0 = 1.5, a canary with 1.5 times stable's odds is the edge of the null."""
    p_s = 0.2
    odds = 1.5 * p_s / (1 - p_s)
    assert expectation(OddsRatio(rho0=1.5), 9, 11, odds / (1 + odds), p_s) == pytest.approx(1)


@pytest.mark.parametrize(("n_c", "n_s"), [(5, 1), (6, 18), (15, 8)])
@pytest.mark.parametrize("p_s", [0.0, 0.05, 0.5, 0.9])
@pytest.mark.parametrize("worse_by", [0.05, 0.08])
def test_a_canary_worse_by_the_margin_is_no_bet_to_win(n_c, n_s, p_s, worse_by):
    """The non-inferiority e-value has expectation at most 1 wherever the canary is worse by the margin or more."""
    past = run(NonInferiority((0.05,)), [Counts(10, 0, 90, 4), Counts(10, 3, 90, 1)])
    for state in (None, past):
        assert expectation(NonInferiority((0.05,)), n_c, n_s, p_s + worse_by, p_s, state) <= 1 + 1e-9


def test_an_odds_ratio_is_the_formula_of_fishers_distribution():
    """One bet on one stratum is the likelihood ratio of the noncentral hypergeometric distribution."""
    n_c, k_c, n_s, k_s, ratio = 7, 3, 11, 2, 5.0
    bad = k_c + k_s
    support = range(max(0, bad - n_s), min(bad, n_c) + 1)
    weights = [math.comb(n_c, j) * math.comb(n_s, bad - j) for j in support]
    z = sum(w * ratio**j for w, j in zip(weights, support, strict=True))
    expected = ratio**k_c * sum(weights) / z
    one_bet = OddsRatio(ratios=(ratio,), prior=(1.0,))
    assert math.exp(log_e(one_bet, Counts(n_c, k_c, n_s, k_s))) == pytest.approx(expected)


counts = st.builds(
    lambda n_c, n_s, share_c, share_s: Counts(n_c, round(n_c * share_c), n_s, round(n_s * share_s)),
    st.integers(5, 60),
    st.integers(5, 400),
    st.floats(0, 1),
    st.floats(0, 1),
)


@given(counts, st.sampled_from([1.5, 5.0, 40.0]))
def test_swapped_arms_turn_the_ratio_over(one, ratio):
    """The evidence that the canary's odds are ρ times stable's is the evidence that stable's are 1/ρ of them."""
    swapped = Counts(one.stable, one.stable_bad, one.canary, one.canary_bad)
    forward = log_e(OddsRatio(ratios=(ratio,), prior=(1.0,)), one)
    backward = log_e(OddsRatio(ratios=(1 / ratio,), prior=(1.0,)), swapped)
    assert forward == pytest.approx(backward, abs=1e-6)


@given(st.lists(counts, max_size=12), st.integers(0, 12), st.sampled_from([ERRORS, NonInferiority((0.01,))]))
def test_a_resumed_process_is_the_uninterrupted_one(many, at, test):
    """A state that went through JSON goes on to the same bits."""
    first = run(test, many[:at])
    resumed = Bank.from_dict(json.loads(json.dumps(first.as_dict())))
    assert run(test, many[at:], resumed) == run(test, many)


@given(st.permutations([Counts(1, 1, 0, 0), Counts(1, 0, 3, 1), Counts(2, 0, 9, 0), Counts(0, 0, 4, 2)]))
def test_the_order_within_a_stratum_does_not_matter(parts):
    """Too small parts wait until they make one stratum together; how they came says nothing."""
    closing = Counts(5, 0, 1, 0)
    assert log_e(ERRORS, *parts, closing) == pytest.approx(log_e(ERRORS, Counts(9, 1, 17, 3)))


@given(st.lists(counts, max_size=20))
def test_numbers_stay_finite(many):
    """Whatever was counted, evidence is a finite number, and the weights of the bets sum to one."""
    for test in (ERRORS, NonInferiority((0.01,))):
        state = run(test, many)
        assert math.isfinite(state.log_e[0])
        assert np.exp(state.log_weights).sum() == pytest.approx(1)


def test_extreme_counts_stay_finite():
    """An outage of a busy service does not overflow."""
    outage = [Counts(40_000, 39_999, 2_000_000, 3)] * 5
    assert log_e(ERRORS, *outage) > 1e4
    assert math.isfinite(log_e(NonInferiority((0.01,)), *outage))


def test_what_both_arms_share_says_nothing():
    """A stratum without errors, and one with nothing else, leave the evidence as it was."""
    assert run(ERRORS, [Counts(20, 0, 380, 0), Counts(20, 20, 380, 380)]).log_e == pytest.approx(0, abs=1e-9)


def test_small_strata_wait():
    """Fewer than five canary requests, or none on stable, are kept and not judged."""
    state = run(ERRORS, [Counts(4, 4, 50, 0)])
    assert (state.log_e[0], tuple(state.waiting[0])) == (0.0, Counts(4, 4, 50, 0))
    assert log_e(ERRORS, Counts(500, 250, 0, 0)) == 0.0
    assert not state.cut().waiting.any()


def test_a_late_fault_is_seen():
    """Fixed share: after an hour of good strata a fault is found within about as many requests as at once."""
    hour = run(ERRORS, [Counts(10, 0, 190, 1)] * 720)
    fault = [Counts(10, 2, 190, 1)] * 12
    assert run(ERRORS, fault, hour).log_e - hour.log_e > math.log(100)


@pytest.mark.parametrize("temper", [0.3, 0.6])
def test_tempered_evidence_is_fair_and_weaker(temper):
    """Over all outcomes of an equal canary its expectation stays at most 1, and a worse one gains less by it."""
    cases = [np.array([[8, a, 12, b]]) for a in range(9) for b in range(13)]
    chances = [
        math.comb(8, a) * math.comb(12, b) * 0.2 ** (a + b) * 0.8 ** (20 - a - b)
        for _, a, _, b in (case[0] for case in cases)
    ]
    logs = [absorb(ERRORS, Bank.of(ERRORS), case, temper).log_e[0] for case in cases]
    assert sum(p * math.exp(log) for p, log in zip(chances, logs, strict=True)) <= 1 + 1e-9
    outage = np.array([[50, 25, 950, 5]])
    assert (
        0 < absorb(ERRORS, Bank.of(ERRORS), outage, temper).log_e[0] < absorb(ERRORS, Bank.of(ERRORS), outage).log_e[0]
    )


def test_the_mean_of_e_values_is_weighted():
    """0.25 · e² + 0.75 · e⁰."""
    assert math.exp(log_mean([2.0, 0.0], [0.25, 0.75])) == pytest.approx(0.25 * math.e**2 + 0.75)
    assert log_mean([5000.0, 0.0], [0.5, 0.5]) == pytest.approx(5000 + math.log(0.5))


def releases(rng, how_many, looks, p_c, p_s, weight, rps=100):
    """Counts of simulated releases, shape [looks, releases, 4]."""
    n = rng.poisson(rps, (how_many, looks))
    n_c = rng.binomial(n, weight)
    return np.stack([n_c, rng.binomial(n_c, p_c), n - n_c, rng.binomial(n - n_c, p_s)], axis=-1).swapaxes(0, 1)


def requests_until(test, looks, threshold):
    """Canary requests of each release until log E reaches the threshold at some look; NaN where it never does."""
    bank = Bank.of(test, looks.shape[1])
    found = np.full(looks.shape[1], np.nan)
    for counts, seen in zip(looks, looks[:, :, 0].cumsum(axis=0), strict=True):
        bank = absorb(test, bank, counts)
        found = np.where(np.isnan(found) & (bank.log_e >= threshold), seen, found)
    return found


def test_good_canaries_stay():
    """Of 1,500 releases without a difference, looked at 40 times each through an incident, under 1 % go home."""
    rng = np.random.default_rng(7)
    incident = np.where((np.arange(40) > 20) & (np.arange(40) < 30), 0.08, 0.005)
    weight = np.repeat([0.05, 0.1, 0.25, 0.5], 10)
    home = requests_until(ERRORS, releases(rng, 1500, 40, incident, incident, weight), math.log(100))
    assert np.mean(~np.isnan(home)) <= 0.01


def test_an_error_jump_is_found_near_the_bound():
    """0.5 % to 5 % at 5 % weight: all found; the median within 1.3 times the two-sample information bound (74)."""
    rng = np.random.default_rng(8)
    found = requests_until(ERRORS, releases(rng, 200, 200, 0.05, 0.005, 0.05), math.log(100))
    assert not np.isnan(found).any()
    assert np.median(found) <= 1.3 * requests_to_tell(0.005, 0.05, 0.05, alpha=0.01)


def test_half_broken_is_found_at_once():
    """50 % errors among a dozen canary requests are enough at the first look."""
    rng = np.random.default_rng(9)
    found = requests_until(ERRORS, releases(rng, 200, 1, 0.5, 0.005, 0.05, rps=250), math.log(100))
    assert np.mean(~np.isnan(found)) >= 0.95


@pytest.mark.parametrize("weight", [0.1, 0.5, 0.95])
def test_without_errors_harmlessness_is_proven_in_600_requests(weight):
    """Zero errors in both arms: the margin of one point is excluded after about 600 canary requests."""
    rng = np.random.default_rng(10)
    found = requests_until(NonInferiority((0.01,)), releases(rng, 30, 120, 0.0, 0.0, weight), math.log(20))
    assert not np.isnan(found).any()
    assert np.median(found) <= 650


def test_worse_by_the_margin_is_rarely_promoted():
    """A canary worse by the margin is proven harmless in at most 5 % of 400 releases (never in most)."""
    rng = np.random.default_rng(11)
    weight = np.repeat([0.05, 0.25, 0.5], 20)
    runs = releases(rng, 400, 60, 0.015, 0.005, weight)
    promoted = requests_until(NonInferiority((0.01,)), runs, math.log(20))
    assert np.mean(~np.isnan(promoted)) <= 0.05


def test_one_part_is_a_stratum():
    """What it gains, what waits and what is past are as without parts."""
    rng = np.random.default_rng(5)
    bets, bank, whole = OddsRatio(), Bank.of(OddsRatio(), 3), Bank.of(OddsRatio(), 3)
    waiting = np.zeros((1, 3, 4), dtype=np.int64)
    for _ in range(30):
        canary, stable = rng.poisson(4, 3), rng.poisson(40, 3)
        counts = np.stack([canary, rng.binomial(canary, 0.3), stable, rng.binomial(stable, 0.2)], axis=1)
        bank, waiting = absorb_parts(bets, bank, waiting, counts[None])
        whole = absorb(bets, whole, counts)
    assert replace(bank, waiting=waiting[0]) == whole


def test_the_order_of_parts_says_nothing():
    """Each waits until it is large enough by itself; those that are speak together."""
    bets = OddsRatio()
    parts = np.array([[[20, 9, 90, 3]], [[4, 4, 90, 0]], [[30, 3, 20, 2]]])
    banks = []
    for order in ([0, 1, 2], [2, 0, 1]):
        bank, waiting = absorb_parts(bets, Bank.of(bets), np.zeros_like(parts), parts[order])
        assert [int(part.sum()) for part in waiting[np.argsort(order)]] == [0, 98, 0]
        banks.append(bank)
    assert banks[0].log_e == pytest.approx(banks[1].log_e)
    assert banks[0].past.tolist() == banks[1].past.tolist() == [[50, 12, 110, 5]]
