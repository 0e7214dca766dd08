"""How much slower are the slowest, when those past one threshold are graded by a second one further out?

A canary whose tail is stretched has somewhat more requests past stable's p99, and far more past its p99.9: one bet on
both finds it with fewer requests than a bet on either.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evals.maths.e_processes import Ints, Values, log_choose, log_sum

MOST_TERMS = 200_000
"""Outcomes that are summed over at one stratum; where there are more, the second threshold is not looked at."""


@dataclass(frozen=True)
class GradedOdds:
    """Null: the canary is stochastically no slower than stable, at both thresholds.

    A request that is past neither threshold weighs 1, one past the first r1, one past both r2 ≥ r1; the e-value is
    the product of the canary's weights, over the mean of that over all ways to deal the stratum's requests to the arms.
    It falls with each request of the canary that gets faster and with each of stable's that gets slower, so its
    expectation is 1 for equal arms and at most 1 under the null. Counts of an arm: requests, past the first, past
    both.
    """

    ratios: tuple[tuple[float, float], ...]
    prior: tuple[float, ...]
    columns: int = 6

    @property
    def log_prior(self) -> Values:
        """Log weights of the pairs of ratios."""
        return np.log(self.prior)

    def log_factors(self, past: Ints, counts: Ints) -> Values:  # noqa: ARG002  nothing is estimated from the past
        """Log e of every pair of ratios for a stratum of every row."""
        return np.stack([self._of_row(row) for row in counts])

    def _of_row(self, row: Ints) -> Values:
        """Which outcomes are summed over is chosen by what is given: the sizes, and how many are slow in all."""
        canary, canary_slow, canary_slowest, stable, stable_slow, stable_slowest = row.tolist()
        slow, slowest = canary_slow + stable_slow, canary_slowest + stable_slowest
        if slow == 0:
            return np.zeros(len(self.ratios))
        if (min(slow, canary) + 1) * (min(slowest, canary) + 1) > MOST_TERMS:
            slowest = canary_slowest = 0
        log_r1, log_r2 = np.log(self.ratios).T
        middle = slow - slowest
        j, k = np.meshgrid(np.arange(min(middle, canary) + 1), np.arange(min(slowest, canary) + 1), indexing="ij")
        rest = canary - j - k
        inside = (rest >= 0) & (rest <= canary + stable - slow)
        j, k, rest = j[inside], k[inside], rest[inside]
        log_h = log_choose(np.full_like(rest, canary + stable - slow), rest)
        log_h += log_choose(np.full_like(j, middle), j) + log_choose(np.full_like(k, slowest), k)
        log_z = log_sum(log_h + np.multiply.outer(log_r1, j) + np.multiply.outer(log_r2, k))
        gain = (canary_slow - canary_slowest) * log_r1 + canary_slowest * log_r2
        return np.asarray(gain + float(log_sum(log_h)) - log_z)


TAIL = GradedOdds(
    ratios=((1.0, 1.0), (1.2, 1.4), (1.5, 2.5), (1.9, 6.0), (2.5, 12.0), (5.0, 25.0)),
    prior=(0.06, 0.1, 0.24, 0.32, 0.19, 0.09),
)
"""Most weight where a tail is stretched by a third to two thirds; a shift of everything is between the first two."""
