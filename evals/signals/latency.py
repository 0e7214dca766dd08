"""Is the canary slower than stable, at stable's own recent quantiles?

Thresholds come from stable's *previous* strata, so they are known before the requests that are judged by them; the
judge counts in each arm how many requests took longer. Nothing is assumed about the distribution's shape.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from evals.maths.e_processes import Bank, Ints, OddsRatio, Values, absorb, log_mean
from evals.signals.graded import TAIL
from evals.signals.strata import GRID_RATIO, ArmCounts, Stratum
from evals.signals.window import Window

EXCEEDANCE = OddsRatio(ratios=(1.0, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0), prior=(0.1, *[0.15] * 6))

HARMLESS = OddsRatio(ratios=(1 / 1.2, 1 / 1.5, 1 / 2.0, 1 / 3.0), prior=(0.25,) * 4)
"""Ratios below one turn the null over: it says that the canary exceeds the threshold at least as often as stable."""


@dataclass(frozen=True)
class LatencyState:
    """E-processes of harm and harmlessness at stable's quantiles, and the window that sets their thresholds."""

    window: Window = field(default_factory=Window)
    body: Bank = field(default_factory=lambda: Bank.of(EXCEEDANCE, 0))
    """Of harm, a row for each quantile but the highest."""
    tail: Bank = field(default_factory=lambda: Bank.of(TAIL))
    """Of harm, at the highest quantile and beyond."""
    slices: Bank = field(default_factory=lambda: Bank.of(EXCEEDANCE, 0))
    """Of harm, a row for each quantile of each slice."""
    harmless: Bank = field(default_factory=lambda: Bank.of(HARMLESS, 0))
    bins: Mapping[str, LatencyState] = field(default_factory=dict)
    """Where requests are compared within bins only: each one's window, and its counts that wait (`binned.py`)."""

    @property
    def log_e(self) -> float:
        """Log of the weighted mean of the quantiles' e-values: half of the weight is at the tail."""
        return log_mean(self.quantiles_log_e, quantile_weights(self.body.rows + 1))

    @property
    def quantiles_log_e(self) -> Values:
        """Log E of harm at each quantile."""
        return np.concatenate([self.body.log_e, self.tail.log_e])

    @property
    def harmless_log_e(self) -> float:
        """Log E of the quantile that is furthest from being proven harmless."""
        return min(self.harmless.log_e.tolist(), default=0.0)

    def cut(self) -> LatencyState:
        """The state without the counts that wait for a stratum."""
        bins = {name: part.cut() for name, part in self.bins.items()}
        return replace(self, **{name: getattr(self, name).cut() for name in _BANKS}, bins=bins)

    def with_harm_of(self, earlier: LatencyState) -> LatencyState:
        """The same with no more evidence of harm than an earlier state has."""
        bins = {name: part.with_harm_of(earlier.bins.get(name, LatencyState())) for name, part in self.bins.items()}
        return replace(self, body=earlier.body, tail=earlier.tail, slices=earlier.slices, bins=bins)

    def afresh(self) -> LatencyState:
        """A state that knows what is slow at stable, and has no evidence."""
        return LatencyState(self.window, bins={name: part.afresh() for name, part in self.bins.items()})

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        bins = {"bins": {name: part.as_dict() for name, part in self.bins.items()}} if self.bins else {}
        return {"window": self.window.as_dict(), **{name: getattr(self, name).as_dict() for name in _BANKS}, **bins}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> LatencyState:
        """The state of `as_dict`."""
        bins = {name: cls.from_dict(part) for name, part in raw.get("bins", {}).items()}
        return cls(Window.from_dict(raw["window"]), **{n: Bank.from_dict(raw[n]) for n in _BANKS}, bins=bins)


_BANKS = ("body", "tail", "slices", "harmless")


class AtQuantiles(NamedTuple):
    """Counts of one stratum at stable's quantiles, each with the shape [rows, columns] of its bank."""

    body: Ints
    tail: Ints
    harmless: Ints


@dataclass(frozen=True)
class LatencyTest:
    """Harm is being slower by more than `tolerance`; harmless is being slower by less than `margin`.

    `quantiles` rise. A margin of None does not ask.
    """

    quantiles: tuple[float, ...]
    tolerance: float
    margin: float | None = None

    def steps(self, window: Window) -> tuple[int, ...]:
        """The grid steps of the quantiles, and of one as far beyond the highest; () while too little has been seen."""
        return window.quantile_steps((*self.quantiles, 1 - (1 - self.quantiles[-1]) / 10))

    def absorb(self, state: LatencyState, stratum: Stratum, slices: Sequence[str] = ()) -> LatencyState:
        """The state after one stratum: judged at the old thresholds first, then part of the window."""
        window = state.window.after(stratum, histogram(stratum.stable))
        steps, after = self.steps(state.window), replace(state, window=window)
        if not steps:
            return after
        *quantiles, _ = steps
        counts, body = self.counted(stratum, steps), after.body.grown(EXCEEDANCE, len(quantiles) - 1)
        after = replace(
            after,
            body=absorb(EXCEEDANCE, body, counts.body, tempers(self.quantiles[:-1])),
            tail=absorb(TAIL, after.tail, counts.tail),
            slices=self._in_slices(after.slices, stratum, slices, quantiles) if slices else after.slices,
        )
        if self.margin is None:
            return after
        harmless = after.harmless.grown(HARMLESS, len(quantiles))
        return replace(after, harmless=absorb(HARMLESS, harmless, counts.harmless))

    def counted(self, stratum: Stratum, steps: Sequence[int]) -> AtQuantiles:
        """What is counted at stable's quantiles, and at the step beyond them (see `steps`)."""
        *quantiles, beyond = steps
        slower, less = self.shift(self.tolerance), self.shift(self.margin or 0.0)
        arms = stratum.canary, stratum.stable
        return AtQuantiles(
            np.array([slower_than(*arms, s, slower) for s in quantiles[:-1]]).reshape(-1, 4),
            np.array([_graded(stratum, quantiles[-1], beyond, slower)]),
            np.array([slower_than(*arms, s, less) for s in quantiles]),
        )

    def _in_slices(self, bank: Bank, stratum: Stratum, slices: Sequence[str], steps: Sequence[int]) -> Bank:
        """A slice is held against the thresholds of all of stable's requests: any known threshold is a fair one."""
        nobody, shift = ArmCounts(), self.shift(self.tolerance)
        arms = [(stratum.canary.by_slice.get(s, nobody), stratum.stable.by_slice.get(s, nobody)) for s in slices]
        counts = np.array([slower_than(*arm, step, shift) for arm in arms for step in steps])
        tempered = np.tile(tempers(self.quantiles), len(slices))
        return absorb(EXCEEDANCE, bank.grown(EXCEEDANCE, len(counts)), counts, tempered)

    @staticmethod
    def shift(slower: float) -> int:
        """By how many grid steps is a threshold higher that may be exceeded by this fraction?"""
        return math.ceil(math.log1p(slower) / math.log(GRID_RATIO) - 1e-9)


def tempers(quantiles: Sequence[float]) -> Values:
    """By how much is the evidence at each quantile weakened?

    A pod that is slower for a minute is slower for all of its requests: they are no independent pieces, and there are
    most of them at the median. So no quantile says more about such a shift than p81 does, by its exceedances' variance.
    """
    p = np.asarray(quantiles)
    return np.asarray(np.minimum(1.0, 0.15 / (p * (1 - p))))


def quantile_weights(quantiles: int) -> Values:
    """The weights of so many quantiles in their mean: the highest has as much as all others."""
    if quantiles == 1:
        return np.ones(1)
    return np.array([*[0.5 / (quantiles - 1)] * (quantiles - 1), 0.5])


def slower_than(canary: ArmCounts, stable: ArmCounts, step: int, shift: int) -> tuple[int, int, int, int]:
    """Requests over a threshold in each arm; the canary's threshold is `shift` grid steps higher."""
    return canary.timed, canary.exceeding(step + shift), stable.timed, stable.exceeding(step)


def _graded(stratum: Stratum, step: int, beyond: int, shift: int) -> tuple[int, ...]:
    """Requests of each arm, those over the first threshold, those over the second one."""
    canary, stable = stratum.canary, stratum.stable
    at_canary = (canary.timed, canary.exceeding(step + shift), canary.exceeding(beyond + shift))
    return (*at_canary, stable.timed, stable.exceeding(step), stable.exceeding(beyond))


def histogram(arm: ArmCounts) -> dict[int, int]:
    """How many requests ended at each grid step (the inverse of the survival steps of `over`)."""
    found, left, step = {}, arm.timed, 0
    for step, over in sorted(arm.over.items()):
        if left > over:
            found[step] = left - over
        left = over
    if arm.over and left:
        found[step + 1] = left  # slower than the last threshold that was counted
    return found
