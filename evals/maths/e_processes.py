"""What is one more stratum of counts worth as evidence, at a look that may come at any time?

E-processes over strata of counts. Under its null each has expectation at most 1 at every look, so by Ville's inequality
it ever reaches 1/α with probability at most α, whatever the schedule of looks and whatever the past decided about the
weights. A stratum is judged against its own counts only: an incident or a drift that both arms share says nothing.

A `Bank` holds many processes of one kind side by side, as arrays with a row each: the metrics and slices of a release,
or the same metric of ten thousand simulated releases. Everything is in logarithms; `absorb` gives the next bank.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

MIN_CANARY, MIN_STABLE = 5, 1
"""Strata are merged until they hold this many requests: closed by counts only, so what they show cannot choose them."""

SHARE = 0.001
"""Fixed share (Herbster & Warmuth 1998): this much of the weight returns to the prior at each stratum, so that a leak
that begins late is still seen."""

Values = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class Bets(Protocol):
    """A kind of e-process: bets that are mixed, and what each of them gains in a stratum."""

    @property
    def columns(self) -> int:
        """How many counts a stratum has; the first is the canary's requests, the one at half of them stable's."""
        ...

    @property
    def log_prior(self) -> Values:
        """Log weights of the bets at the beginning, shape [bets]."""
        ...

    def log_factors(self, past: Ints, counts: Ints) -> Values:
        """Log e of every bet for a stratum of every row, shape [rows, bets]; `past` is what came before."""
        ...


@dataclass(frozen=True, eq=False)
class Bank:
    """Log E [rows], log weights of the bets [rows, bets], counts that wait to be a stratum, and the past's."""

    log_e: Values
    log_weights: Values
    waiting: Ints
    past: Ints

    @classmethod
    def of(cls, bets: Bets, rows: int = 1) -> Bank:
        """Processes that have seen nothing."""
        counts = np.zeros((rows, bets.columns), dtype=np.int64)
        return cls(np.zeros(rows), np.tile(bets.log_prior, (rows, 1)), counts, counts)

    @property
    def rows(self) -> int:
        """How many processes."""
        return len(self.log_e)

    def grown(self, bets: Bets, rows: int) -> Bank:
        """The bank with new processes at its end, up to this many."""
        if rows <= self.rows:
            return self
        fresh = Bank.of(bets, rows - self.rows)
        return Bank(**{name: np.concatenate([array, vars(fresh)[name]]) for name, array in vars(self).items()})

    def cut(self) -> Bank:
        """The bank without the counts that wait: requests routed at different shares never share a stratum."""
        return replace(self, waiting=np.zeros_like(self.waiting))

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        shapes = {"bets": self.log_weights.shape[1], "columns": self.waiting.shape[1]}
        return {**{name: array.tolist() for name, array in vars(self).items()}, **shapes}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Bank:
        """The bank of `as_dict`, bit for bit."""
        log_weights = np.asarray(raw["log_weights"], dtype=np.float64).reshape(-1, raw["bets"])
        waiting, past = (np.asarray(raw[k], dtype=np.int64).reshape(-1, raw["columns"]) for k in ("waiting", "past"))
        return cls(np.asarray(raw["log_e"], dtype=np.float64), log_weights, waiting, past)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Bank):
            return NotImplemented
        return all(np.array_equal(array, vars(other)[name]) for name, array in vars(self).items())

    __hash__ = None  # type: ignore[assignment]  # arrays have none


def absorb(bets: Bets, bank: Bank, counts: Ints, temper: Values | float = 1.0) -> Bank:
    """The bank after more counts, shape [rows, columns]; only rows whose strata are large enough are judged.

    `temper` in (0, 1], of all rows or of each, is the power to which a stratum's e-values are taken: what is left of
    them has an expectation of at most 1 as well (Jensen), and outcomes that move together weigh less.
    """
    together = bank.waiting + counts
    ready = np.flatnonzero(
        (together[:, 0] >= MIN_CANARY) & (together[:, together.shape[1] // 2] >= MIN_STABLE),
    )
    if not ready.size:
        return replace(bank, waiting=together)
    judged = together[ready]
    factors = bets.log_factors(bank.past[ready], judged) * np.broadcast_to(temper, bank.rows)[ready, None]
    together[ready] = 0
    return replace(_after(bets, bank, ready, judged, factors), waiting=together)


def absorb_parts(
    bets: Bets, bank: Bank, waiting: Ints, counts: Ints, temper: Values | float = 1.0
) -> tuple[Bank, Ints]:
    """The bank after counts of several parts of one stratum, and what waits in each part, [parts, rows, columns].

    No request is in two parts, and each part waits to be large enough by itself. Given what came before, the parts say
    something independently of each other, so that a bet's e-value is the product of theirs: the order of the parts has
    no part in it, and weights return to the prior once in a stratum, however many parts it has.
    """
    together = waiting + counts
    ready = (together[..., 0] >= MIN_CANARY) & (together[..., together.shape[-1] // 2] >= MIN_STABLE)
    parts, rows = np.nonzero(ready)
    if not rows.size:
        return bank, together
    judged = together[parts, rows]
    tempered = np.broadcast_to(temper, bank.rows)[rows, None]
    touched, place = np.unique(rows, return_inverse=True)
    factors = _sums(bets.log_factors(bank.past[rows], judged) * tempered, place, len(touched))
    bank = _after(bets, bank, touched, _sums(judged, place, len(touched)), factors)
    together[parts, rows] = 0
    return bank, together


def _sums(values: npt.NDArray[Any], place: Ints, rows: int) -> npt.NDArray[Any]:
    """The sums of the values that belong to each row."""
    total = np.zeros((rows, values.shape[1]), dtype=values.dtype)
    np.add.at(total, place, values)
    return total


def _after(bets: Bets, bank: Bank, rows: Ints, judged: Ints, factors: Values) -> Bank:
    """The bank whose rows have gained what their bets did, and count what was judged to the past."""
    gained, weights = mixed(bank.log_weights[rows], bets.log_prior, factors)
    log_e, log_weights, past = bank.log_e.copy(), bank.log_weights.copy(), bank.past.copy()
    log_e[rows] += gained
    log_weights[rows] = weights
    past[rows] += judged
    return replace(bank, log_e=log_e, log_weights=log_weights, past=past)


def mixed(log_weights: Values, log_prior: Values, log_factors: Values) -> tuple[Values, Values]:
    """One step of the fixed-share mixture: what each row gained, and its weights after that."""
    log_bets = log_weights + log_factors
    gained = log_sum(log_bets)
    kept = math.log1p(-SHARE) + log_bets - gained[:, None]
    return gained, np.logaddexp(kept, math.log(SHARE) + log_prior)


@dataclass(frozen=True)
class OddsRatio:
    """Null: in every stratum the odds of a bad outcome are at most `rho0` times higher at the canary than at stable.

    Given how many requests each arm got and how many were bad in all, the canary's share of the bad ones follows
    Fisher's noncentral hypergeometric distribution; the e-value is the likelihood ratio of an odds ratio ρ to ρ0.
    No baseline is estimated. Counts: canary, its bad ones, stable, its bad ones. Sources: Lindon & Malek 2022; Turner,
    Ly & Grünwald 2024 (arXiv 2106.02693).
    """

    ratios: tuple[float, ...] = (1.0, 1.15, 1.5, 4.0, 11.0, 40.0)
    prior: tuple[float, ...] = (0.05, 0.02, 0.04, 0.37, 0.43, 0.09)
    """Most weight where half a percent of errors becomes two or five; any other ratio is found by its neighbours. The
    ratio of 1 bets nothing: what it holds is there still when a fault begins after hours without one."""
    rho0: float = 1.0
    columns: int = 4

    @property
    def log_prior(self) -> Values:
        """Log weights of the ratios."""
        return np.log(self.prior)

    def log_factors(self, past: Ints, counts: Ints) -> Values:  # noqa: ARG002  nothing is estimated from the past
        """Log e of every ratio for a stratum of every row."""
        log_ratios = np.log(np.asarray(self.ratios) * self.rho0)
        found = np.zeros((len(counts), len(log_ratios)))
        bad = counts[:, 1] + counts[:, 3]
        telling = np.flatnonzero((bad > 0) & (bad < counts[:, 0] + counts[:, 2]))
        if telling.size:
            found[telling] = self._likelihood_ratios(counts[telling], log_ratios)
        return found

    def _likelihood_ratios(self, counts: Ints, log_ratios: Values) -> Values:
        """The supports of all rows lie behind each other in one array, so that a row costs what its own needs."""
        canary, canary_bad, stable, stable_bad = counts.T
        bad = canary_bad + stable_bad
        least = np.maximum(0, bad - stable)
        sizes = np.minimum(bad, canary) - least + 1
        starts = np.cumsum(sizes) - sizes
        row = np.repeat(np.arange(len(counts)), sizes)
        j = np.arange(sizes.sum()) - starts[row] + least[row]
        log_h = log_choose(canary[row], j) + log_choose(stable[row], (bad[row] - j))
        null, *alternatives = (
            log_sums(log_h + j * tilt, starts, row) for tilt in (math.log(self.rho0), *log_ratios.tolist())
        )
        gains = canary_bad[:, None] * (log_ratios - math.log(self.rho0))
        return np.asarray(gains + null[:, None] - np.stack(alternatives, axis=1))


@dataclass(frozen=True)
class NonInferiority:
    """Null: the canary's rate of bad outcomes is at least a margin above stable's, as a difference of fractions.

    Each request is a small bet against the null, on the canary that it is good and on stable that it is bad; the
    logarithm of the product has expectation at most 0 whatever the two rates are. Row i is judged by margin i. Sources:
    Waudby-Smith & Ramdas 2024 (arXiv 2010.09686); Turner & Grünwald 2023 (arXiv 2302.11401).
    """

    margins: tuple[float, ...]
    bets: tuple[float, ...] = tuple(0.9 * 2.0**-k for k in range(8))
    columns: int = 4

    @property
    def log_prior(self) -> Values:
        """Log weights of the bets."""
        return np.full(len(self.bets), -math.log(len(self.bets)))

    def log_factors(self, past: Ints, counts: Ints) -> Values:
        """Log e of every bet for a stratum of every row; the baseline is estimated from the past only."""
        margins = np.asarray(self.margins)[:, None]
        canary, canary_bad, stable, stable_bad = (counts[:, column, None] for column in range(4))
        p = (past[:, 3, None] + 0.1) / (past[:, 2, None] + 20)  # drawn a little towards half a percent
        weight = canary / stable
        bets = np.asarray(self.bets) * _largest_bet(p, weight, margins)
        at_canary = canary_bad * np.log1p(-bets * (1 - p - margins))
        at_canary += (canary - canary_bad) * np.log1p(bets * (p + margins))
        at_stable = stable_bad * np.log1p(bets * weight * (1 - p))
        at_stable += (stable - stable_bad) * np.log1p(-bets * weight * p)
        return np.asarray(at_canary + at_stable)


def _largest_bet(p: Values, weight: Values, margins: Values) -> Values:
    """The bet at which some outcome would cost everything."""
    return np.asarray(np.minimum(1 / np.maximum(1 - p - margins, 1e-9), 1 / np.maximum(weight * p, 1e-9)))


def log_sum(values: Values) -> Values:
    """Log of the sum of exp over the last axis."""
    top = values.max(axis=-1)
    return np.asarray(top + np.log(np.exp(values - top[..., None]).sum(axis=-1)))


def log_mean(values: Sequence[float] | Values, weights: Sequence[float] | Values) -> float:
    """Log of the weighted mean of exp(values); an average of e-processes is one, however they depend on each other.

    Source: Vovk & Wang, Annals of Statistics 49 (2021).
    """
    return float(log_sum(np.asarray(values) + np.log(weights)))


def log_choose(n: Ints, k: Ints) -> Values:
    """Log of n over k, for 0 ≤ k ≤ n."""
    table = _log_factorials(1 << max(10, int(np.max(n, initial=0)).bit_length()))
    return np.asarray(table[n] - table[k] - table[n - k])


def log_sums(values: Values, starts: Ints, row: Ints) -> Values:
    """Log of the sum of exp over each row's part of a flat array."""
    top = np.maximum.reduceat(values, starts)
    return np.asarray(top + np.log(np.add.reduceat(np.exp(values - top[row]), starts)))


@functools.lru_cache(maxsize=4)
def _log_factorials(size: int) -> Values:
    """log(0!) … log(size!)."""
    return np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, size + 1)))])
