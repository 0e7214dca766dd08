"""How much slower are the slowest, when those past one threshold are graded by a second one further out?

A canary whose tail is stretched has somewhat more requests past stable's p99, and far more past its p99.9: one bet on
both finds it with fewer requests than a bet on either.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evals.maths.e_processes import Ints, Values, log_choose, log_sums

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
        found = np.zeros((len(counts), len(self.ratios)))
        telling = np.flatnonzero(counts[:, 1] + counts[:, 4] > 0)
        if telling.size:
            found[telling] = self._likelihood_ratios(counts[telling])
        return found

    def _likelihood_ratios(self, counts: Ints) -> Values:
        """Which outcomes are summed over is chosen by what is given: the sizes, and how many are slow in all.

        The outcomes of all rows lie behind each other in one array, so that a row costs what its own need.
        """
        counts = np.where((_terms(counts) > MOST_TERMS)[:, None] & _OF_THE_SLOWEST, 0, counts)
        canary, canary_slow, canary_slowest, stable, stable_slow, stable_slowest = counts.T
        slow, slowest = canary_slow + stable_slow, canary_slowest + stable_slowest
        middle, sizes = slow - slowest, _terms(counts)
        row = np.repeat(np.arange(len(counts)), sizes)
        number = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        j, k = np.divmod(number, np.minimum(slowest, canary)[row] + 1)
        rest, fast = canary[row] - j - k, canary + stable - slow
        inside = (j <= middle[row]) & (rest >= 0) & (rest <= fast[row])
        row, j, k, rest = row[inside], j[inside], k[inside], rest[inside]
        starts = np.searchsorted(row, np.arange(len(counts)))
        log_h = log_choose(fast[row], rest) + log_choose(middle[row], j) + log_choose(slowest[row], k)
        log_ratios = np.log(self.ratios)
        alternatives = [log_sums(log_h + r1 * j + r2 * k, starts, row) for r1, r2 in log_ratios.tolist()]
        gains = np.stack([canary_slow - canary_slowest, canary_slowest], axis=1) @ log_ratios.T
        return np.asarray(gains + log_sums(log_h, starts, row)[:, None] - np.stack(alternatives, axis=1))


_OF_THE_SLOWEST = np.array([False, False, True, False, False, True])


def _terms(counts: Ints) -> Ints:
    """How many outcomes a row's stratum may have: so many of the slow and of the slowest may be the canary's."""
    canary, slow, slowest = counts[:, 0], counts[:, 1] + counts[:, 4], counts[:, 2] + counts[:, 5]
    return np.asarray((np.minimum(slow, canary) + 1) * (np.minimum(slowest, canary) + 1))


TAIL = GradedOdds(
    ratios=((1.0, 1.0), (1.2, 1.4), (1.5, 2.5), (1.9, 6.0), (2.5, 12.0), (5.0, 25.0)),
    prior=(0.06, 0.1, 0.24, 0.32, 0.19, 0.09),
)
"""Most weight where a tail is stretched by a third to two thirds; a shift of everything is between the first two."""
