"""Thousands of releases at once, judged on errors alone by the judge's own odds-ratio process, in arrays."""

from __future__ import annotations

import math

import numpy as np

from evals.canary.state import ERRORS
from evals.maths.e_processes import Bank, absorb
from evals.planning.worlds import INTERVAL_S, Values, World, error_rates


def first_alarms(world: World, releases: int, seed: int, alpha: float = 0.01) -> Values:
    """Canary requests until each release goes home; NaN where it never does."""
    rng = np.random.default_rng(seed)
    bank = Bank.of(ERRORS, releases)
    requests, found = np.zeros(releases), np.full(releases, np.nan)
    count = round(world.lasts_s / INTERVAL_S)
    share = 0.0
    for number in range(count):
        was, share = share, world.shares[number * len(world.shares) // count]
        bank = bank if was == share else bank.cut()
        p_s, p_c = error_rates(world, number * INTERVAL_S)
        total = rng.poisson(world.requests_per_s * INTERVAL_S, releases)
        canary = rng.binomial(total, share)
        counts = [canary, rng.binomial(canary, p_c), total - canary, rng.binomial(total - canary, p_s)]
        bank = absorb(ERRORS, bank, np.stack(counts, axis=1))
        requests += canary
        found = np.where(np.isnan(found) & (bank.log_e >= math.log(1 / alpha)), requests, found)
    return found
