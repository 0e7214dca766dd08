"""Are the canary's scores lower than stable's, or proven not to be: late labels, ratings, anything in [0, 1]?

An e-process on bounded means: each score is a small bet, on the canary against the null and on stable with it. The
product's expectation is at most 1 whatever the two distributions are, because it is linear in each score. Sources:
Waudby-Smith & Ramdas 2024 (arXiv 2010.09686); Turner & Grünwald 2023 (arXiv 2302.11401).

Scores are counted on a grid of thousandths, so that the state is bounded; the counts are those of the interval in which
the scores *arrived*.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from evals.maths.e_processes import MIN_CANARY, MIN_STABLE, Values, mixed
from evals.signals.counting import GRID

Histogram = Mapping[int, int]


def histogram_of(scores: npt.ArrayLike) -> dict[int, int]:
    """Scores in [0, 1] by thousandths. ValueError where one is none."""
    values = np.asarray(scores, dtype=float)
    if values.size and not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
        raise ValueError("a score must be a number from 0 to 1")
    steps, counts = np.unique(np.rint(values * GRID).astype(int), return_counts=True)
    return dict(zip(steps.tolist(), counts.tolist(), strict=True))


@dataclass(frozen=True)
class ScoreState:
    """Log E and log weights of the bets, the scores that wait to be a stratum, and what stable's were in the past."""

    log_e: float = 0.0
    log_weights: tuple[float, ...] = ()
    canary: Histogram = field(default_factory=dict)
    stable: Histogram = field(default_factory=dict)
    past_sum: float = 0.0
    past_n: int = 0

    @property
    def stable_mean(self) -> float:
        """The mean of stable's scores so far."""
        return 1 - self.past_sum / self.past_n if self.past_n else 0.0

    def cut(self) -> ScoreState:
        """The state without the scores that wait."""
        return replace(self, canary={}, stable={})

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        waiting = {arm: sorted(map(list, getattr(self, arm).items())) for arm in ("canary", "stable")}
        process = {"log_e": self.log_e, "log_weights": list(self.log_weights)}
        return {**process, **waiting, "past_sum": self.past_sum, "past_n": self.past_n}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> ScoreState:
        """The state of `as_dict`."""
        canary, stable = ({int(step): int(n) for step, n in raw[arm]} for arm in ("canary", "stable"))
        weights = tuple(map(float, raw["log_weights"]))
        return cls(float(raw["log_e"]), weights, canary, stable, float(raw["past_sum"]), int(raw["past_n"]))


@dataclass(frozen=True)
class MeanScore:
    """A bet about the difference of two means, `margin` in the unit of the scores.

    `worse`: the null says that the canary's mean is at most `margin` below stable's; evidence sends home.
    Otherwise the null says that it is at least `margin` below stable's; evidence promotes.
    """

    margin: float = 0.0
    worse: bool = True
    bets: tuple[float, ...] = tuple(0.9 * 2.0**-k for k in range(8))
    prior: tuple[float, ...] = (0.04, 0.12, 0.24, 0.26, 0.18, 0.1, 0.04, 0.02)
    """Most weight where a loss of some points of a typical score is found fastest."""

    def absorb(self, state: ScoreState, canary: Histogram, stable: Histogram) -> ScoreState:
        """The state after more scores; strata are closed by counts only."""
        canary, stable = _sum(state.canary, canary), _sum(state.stable, stable)
        if sum(canary.values()) < MIN_CANARY or sum(stable.values()) < MIN_STABLE:
            return replace(state, canary=canary, stable=stable)
        log_factors = self._log_factors(_mean(state), canary, stable)
        log_prior = np.log(self.prior)
        weights = np.asarray(state.log_weights or log_prior)
        gained, (weights,) = mixed(weights[None, :], log_prior, log_factors[None, :])
        x, n = _badness(stable)
        past_sum, past_n = state.past_sum + float(x @ n), state.past_n + int(n.sum())
        return ScoreState(state.log_e + float(gained[0]), tuple(weights.tolist()), {}, {}, past_sum, past_n)

    def _log_factors(self, p: float, canary: Histogram, stable: Histogram) -> Values:
        """Log e of every bet for one stratum, with stable's mean badness `p` estimated from the past only."""
        (x_c, n_c), (x_s, n_s) = _badness(canary), _badness(stable)
        weight = n_c.sum() / n_s.sum()
        bets = np.asarray(self.bets) * self._largest_bet(p, weight)
        signed = (bets if self.worse else -bets)[:, None]
        return np.asarray(
            np.log1p(signed * (x_c - p - self.margin)) @ n_c + np.log1p(-signed * weight * (x_s - p)) @ n_s
        )

    def _largest_bet(self, p: float, weight: float) -> float:
        """The bet at which some score would cost everything."""
        least = (p + self.margin, weight * (1 - p)) if self.worse else (1 - p - self.margin, weight * p)
        return 1 / max(*least, 1e-9)


def _badness(counts: Histogram) -> tuple[Values, Values]:
    """1 - score, and how often."""
    steps, n = np.array(sorted(counts.items()), dtype=float).reshape(-1, 2).T
    return 1 - steps / GRID, n


def _mean(state: ScoreState) -> float:
    """Stable's mean badness in the past, drawn a little towards a quarter, so that the first strata have one."""
    return (state.past_sum + 0.25 * 4) / (state.past_n + 4)


def _sum(a: Histogram, b: Histogram) -> dict[int, int]:
    return {step: a.get(step, 0) + b.get(step, 0) for step in {*a, *b}}
