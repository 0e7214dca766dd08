"""Thousands of releases at once, judged on errors alone by the judge's own odds-ratio process, in arrays."""

from __future__ import annotations

import math

import numpy as np

from benchmarks.simulated_release import INTERVAL_S, Values, World, error_rates
from evals.processes import MIN_CANARY, MIN_STABLE, SHARE, OddsRatio


def first_alarms(world: World, releases: int, seed: int, alpha: float = 0.01) -> Values:
    """Canary requests until each release goes home; NaN where it never does."""
    rng = np.random.default_rng(seed)
    test = OddsRatio()
    prior = np.log(test.prior)
    log_e, weights = np.zeros(releases), np.tile(prior, (releases, 1))
    waiting = np.zeros((4, releases), dtype=int)
    requests, found = np.zeros(releases), np.full(releases, np.nan)
    count = round(world.lasts_s / INTERVAL_S)
    share = 0.0
    for number in range(count):
        was, share = share, world.shares[number * len(world.shares) // count]
        waiting[:, :] = waiting if was == share else 0
        p_s, p_c = error_rates(world, number * INTERVAL_S)
        total = rng.poisson(world.requests_per_s * INTERVAL_S, releases)
        canary = rng.binomial(total, share)
        waiting += np.array([canary, rng.binomial(canary, p_c), total - canary, rng.binomial(total - canary, p_s)])
        requests += canary
        ready = (waiting[0] >= MIN_CANARY) & (waiting[2] >= MIN_STABLE) & np.isnan(found)
        if not ready.any():
            continue
        bets = weights[ready] + _log_factors(test, *waiting[:, ready])
        gained = _log_sum(bets)
        log_e[ready] += gained
        weights[ready] = np.logaddexp(math.log1p(-SHARE) + bets - gained[:, None], math.log(SHARE) + prior)
        waiting[:, ready] = 0
        found = np.where(np.isnan(found) & (log_e >= math.log(1 / alpha)), requests, found)
    return found


def _log_factors(test: OddsRatio, n_c: Values, k_c: Values, n_s: Values, k_s: Values) -> Values:
    """Of every ratio, for one stratum of each release: shape [releases, ratios]."""
    bad = (k_c + k_s)[:, None]
    j = np.arange(int(np.minimum(bad[:, 0], n_c).max()) + 1)[None, :]
    log_h = _log_choose(n_c[:, None], j) + _log_choose(n_s[:, None], bad - j)
    null = _log_sum(log_h)
    alternatives = [_log_sum(log_h + j * math.log(ratio)) for ratio in test.ratios]
    gains = [k_c * math.log(ratio) + null - z for ratio, z in zip(test.ratios, alternatives, strict=True)]
    return np.stack(gains, axis=1)


LOG_FACTORIALS = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, 1 << 14)))])


def _log_choose(n: Values, k: Values) -> Values:
    """-inf where it cannot be."""
    inside = np.clip(k, 0, n)
    log = LOG_FACTORIALS[n] - LOG_FACTORIALS[inside] - LOG_FACTORIALS[n - inside]
    return np.where(inside == k, log, -np.inf)


def _log_sum(values: Values) -> Values:
    top = values.max(axis=1)
    return np.asarray(top + np.log(np.exp(values - top[:, None]).sum(axis=1)))
