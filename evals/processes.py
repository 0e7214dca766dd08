"""What is one more stratum of counts worth as evidence, at a look that may come at any time?

Two e-processes over strata of counts. Under its null each has expectation at most 1 at every look, so by Ville's
inequality it ever reaches 1/α with probability at most α, whatever the schedule of looks and whatever the past decided
about the weights. A stratum is judged against its own counts only: an incident or a drift that both arms share says
nothing.

States are frozen and plain numbers; `absorb` gives the next one. Everything is in logarithms.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

MIN_CANARY, MIN_STABLE = 5, 1
"""Strata are merged until they hold this many requests: closed by counts only, so what they show cannot choose them."""

SHARE = 0.001
"""Fixed share (Herbster & Warmuth 1998): this much of the weight returns to the prior at each stratum, so that a leak
that begins late is still seen."""

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Counts:
    """Requests and bad outcomes of both arms."""

    canary: int = 0
    canary_bad: int = 0
    stable: int = 0
    stable_bad: int = 0

    def plus(self, other: Counts) -> Counts:
        """Both together."""
        return Counts(
            self.canary + other.canary,
            self.canary_bad + other.canary_bad,
            self.stable + other.stable,
            self.stable_bad + other.stable_bad,
        )

    @property
    def is_stratum(self) -> bool:
        """Whether there are enough requests to judge."""
        return self.canary >= MIN_CANARY and self.stable >= MIN_STABLE


@dataclass(frozen=True)
class Process:
    """The state of an e-process: log E, the log weights of its bets, counts that wait to be a stratum, and the past."""

    log_e: float = 0.0
    log_weights: tuple[float, ...] = ()
    waiting: Counts = Counts()
    past: Counts = Counts()

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        waiting, past = vars(self.waiting), vars(self.past)
        return {"log_e": self.log_e, "log_weights": list(self.log_weights), "waiting": waiting, "past": past}

    def cut(self) -> Process:
        """The state without the counts that wait: requests routed at different shares never share a stratum."""
        return replace(self, waiting=Counts())

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Process:
        """The state of `as_dict`."""
        waiting, past = Counts(**raw["waiting"]), Counts(**raw["past"])
        return cls(float(raw["log_e"]), tuple(map(float, raw["log_weights"])), waiting, past)


@dataclass(frozen=True)
class OddsRatio:
    """Null: in every stratum the odds of a bad outcome are at most `rho0` times higher at the canary than at stable.

    Given how many requests each arm got and how many were bad in all, the canary's share of the bad ones follows
    Fisher's noncentral hypergeometric distribution; the e-value is the likelihood ratio of an odds ratio ρ to ρ0.
    No baseline is estimated. Sources: Lindon & Malek 2022; Turner, Ly & Grünwald 2024 (arXiv 2106.02693).
    """

    ratios: tuple[float, ...] = (1.5, 4.0, 11.0, 40.0)
    prior: tuple[float, ...] = (0.05, 0.4, 0.45, 0.1)
    """Most weight where half a percent of errors becomes two or five; any other ratio is found by its neighbours."""
    rho0: float = 1.0

    def absorb(self, state: Process, counts: Counts) -> Process:
        """The state after more counts."""
        together = state.waiting.plus(counts)
        if not together.is_stratum:
            return replace(state, waiting=together)
        return _judged(state, together, np.log(self.prior), self._log_factors(together))

    def _log_factors(self, counts: Counts) -> Values:
        """Log e of every ratio for one stratum."""
        bad = counts.canary_bad + counts.stable_bad
        if bad == 0 or bad == counts.canary + counts.stable:
            return np.zeros(len(self.ratios))
        support = np.arange(max(0, bad - counts.stable), min(bad, counts.canary) + 1)
        log_h = _log_choose(counts.canary, support) + _log_choose(counts.stable, bad - support)
        null = _log_sum(log_h + support * math.log(self.rho0))
        log_ratios = np.log(np.asarray(self.ratios) * self.rho0)
        alternatives = np.array([_log_sum(log_h + support * log_ratio) for log_ratio in log_ratios])
        return np.asarray(counts.canary_bad * (log_ratios - math.log(self.rho0)) + null - alternatives)


@dataclass(frozen=True)
class NonInferiority:
    """Null: the canary's rate of bad outcomes is at least `margin` above stable's, as a difference of fractions.

    Each request is a small bet against the null, on the canary that it is good and on stable that it is bad; the
    logarithm of the product has expectation at most 0 whatever the two rates are. Sources: Waudby-Smith & Ramdas 2024
    (arXiv 2010.09686); Turner & Grünwald 2023 (arXiv 2302.11401).
    """

    margin: float
    bets: tuple[float, ...] = tuple(0.9 * 2.0**-k for k in range(8))

    def absorb(self, state: Process, counts: Counts) -> Process:
        """The state after more counts."""
        together = state.waiting.plus(counts)
        if not together.is_stratum:
            return replace(state, waiting=together)
        prior = np.full(len(self.bets), -math.log(len(self.bets)))
        return _judged(state, together, prior, self._log_factors(state.past, together))

    def _log_factors(self, past: Counts, counts: Counts) -> Values:
        """Log e of every bet for one stratum; the baseline is estimated from the past only."""
        p, weight = _baseline(past), counts.canary / counts.stable
        bets = np.asarray(self.bets) * self._largest_bet(p, weight)
        good, bad = counts.canary - counts.canary_bad, counts.canary_bad
        canary = bad * np.log1p(-bets * (1 - p - self.margin)) + good * np.log1p(bets * (p + self.margin))
        good, bad = counts.stable - counts.stable_bad, counts.stable_bad
        stable = bad * np.log1p(bets * weight * (1 - p)) + good * np.log1p(-bets * weight * p)
        return np.asarray(canary + stable)

    def _largest_bet(self, p: float, weight: float) -> float:
        """The bet at which some outcome would cost everything."""
        return min(1 / max(1 - p - self.margin, 1e-9), 1 / max(weight * p, 1e-9))


def _baseline(past: Counts) -> float:
    """Stable's rate in the past, drawn a little towards half a percent, so that the first strata have one."""
    return (past.stable_bad + 0.1) / (past.stable + 20)


def _judged(state: Process, counts: Counts, log_prior: Values, log_factors: Values) -> Process:
    """The state after a stratum of these counts."""
    return replace(mixed(state, log_prior, log_factors), waiting=Counts(), past=state.past.plus(counts))


def mixed(state: Process, log_prior: Values, log_factors: Values) -> Process:
    """One step of the fixed-share mixture."""
    log_weights = np.asarray(state.log_weights) if state.log_weights else log_prior
    log_bets = log_weights + log_factors
    gained = _log_sum(log_bets)
    kept = math.log1p(-SHARE) + log_bets - gained
    shared = np.logaddexp(kept, math.log(SHARE) + log_prior)
    return replace(state, log_e=state.log_e + gained, log_weights=tuple(shared.tolist()))


def _log_sum(values: Values) -> float:
    top = float(values.max())
    return top + math.log(float(np.exp(values - top).sum()))


def log_mean(values: Sequence[float], weights: Sequence[float]) -> float:
    """Log of the weighted mean of exp(values); an average of e-processes is one, however they depend on each other.

    Source: Vovk & Wang, Annals of Statistics 49 (2021).
    """
    return _log_sum(np.asarray(values) + np.log(weights))


def _log_choose(n: int, k: npt.NDArray[np.int64]) -> Values:
    table = _log_factorials(1 << max(10, n.bit_length()))
    return np.asarray(table[n] - table[k] - table[n - k])


@functools.lru_cache(maxsize=4)
def _log_factorials(size: int) -> Values:
    """log(0!) … log(size!)."""
    return np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, size + 1)))])
