"""Does the canary predict something else than stable? A warning about quality that needs no label.

A new model is supposed to predict somewhat differently, so the null allows the odds of each class, and of each tenth of
stable's values, to change by a declared ratio, up or down; beyond that the release waits for a person, and nobody is
accused.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from evals.maths.e_processes import Bank, Ints, OddsRatio, absorb, log_mean
from evals.signals.strata import Stratum
from evals.signals.window import Window

MOST_CLASSES, OTHER = 9, "other classes"
TENTHS = 10


@dataclass(frozen=True)
class DriftState:
    """The classes in the order in which they were first seen, and two processes for each: more, and fewer of them."""

    classes: tuple[str, ...] = ()
    bank: Bank = field(default_factory=lambda: Bank.of(Drift(1.0).test, 0))
    window: Window = field(default_factory=Window)
    """Stable's recent values, whose tenths the canary's are counted in."""
    tenths: Bank = field(default_factory=lambda: Bank.of(Drift(1.0).test, 2 * TENTHS))
    """Two processes for each tenth: more, and fewer values in it."""

    @property
    def log_e(self) -> float:
        """Log of the mean of two: over all places of classes, those that nobody has seen included, and over tenths."""
        unseen = np.zeros(2 * (MOST_CLASSES + 1) - self.bank.rows)
        parts = (np.concatenate([self.bank.log_e, unseen]), self.tenths.log_e)
        return log_mean([log_mean(logs, np.full(len(logs), 1 / len(logs))) for logs in parts], np.array([0.5, 0.5]))

    @property
    def worst(self) -> str:
        """The class, or the tenth of the values, whose share changed most surely."""
        of_tenths = int(np.argmax(self.tenths.log_e))
        if not self.bank.rows or self.tenths.log_e[of_tenths] > self.bank.log_e.max():
            return f"the values in stable's tenth number {of_tenths // 2 + 1}"
        return f"the class {self.classes[int(np.argmax(self.bank.log_e)) // 2]!r}"

    def cut(self) -> DriftState:
        """The state without the counts that wait for a stratum."""
        return replace(self, bank=self.bank.cut(), tenths=self.tenths.cut())

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        parts = {name: getattr(self, name).as_dict() for name in ("bank", "window", "tenths")}
        return {"classes": list(self.classes), **parts}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> DriftState:
        """The state of `as_dict`."""
        banks = {name: Bank.from_dict(raw[name]) for name in ("bank", "tenths")}
        return cls(tuple(raw["classes"]), window=Window.from_dict(raw["window"]), **banks)


@dataclass(frozen=True)
class Drift:
    """The null allows each class's odds to be `ratio` times higher or lower at the canary."""

    ratio: float

    @property
    def test(self) -> OddsRatio:
        """What judges one class in one direction."""
        return OddsRatio((1.0, 1.25, 1.6, 2.5, 6.0), (0.2,) * 5, self.ratio)

    def absorb(self, state: DriftState, stratum: Stratum) -> DriftState:
        """The state after one stratum."""
        return self._of_values(self._of_classes(state, stratum), stratum)

    def _of_classes(self, state: DriftState, stratum: Stratum) -> DriftState:
        """Which classes have a slot depends on both arms together, never on one."""
        canary, stable = stratum.canary.classes, stratum.stable.classes
        classes = state.classes
        for name in sorted({*canary, *stable} - {*classes}):
            if OTHER not in classes:
                classes = (*classes, name if len(classes) < MOST_CLASSES else OTHER)
        if not classes:
            return state
        arms = [[_of(arm, name, classes) for name in classes] for arm in (canary, stable)]
        rows = _both_ways(arms[0], arms[1], sum(canary.values()), sum(stable.values()))
        return replace(state, classes=classes, bank=absorb(self.test, state.bank.grown(self.test, len(rows)), rows))

    def _of_values(self, state: DriftState, stratum: Stratum) -> DriftState:
        """The limits of the tenths come from stable's earlier values; those that fall together leave a tenth empty."""
        canary, stable = stratum.canary.values, stratum.stable.values
        if not canary and not stable:
            return state
        after = replace(state, window=state.window.after(stratum, stable))
        limits = state.window.quantile_steps(tuple(n / TENTHS for n in range(1, TENTHS)))
        if not limits:
            return after
        arms = [_by_tenth(arm, limits) for arm in (canary, stable)]
        rows = _both_ways(arms[0], arms[1], sum(canary.values()), sum(stable.values()))
        return replace(after, tenths=absorb(self.test, state.tenths, rows))


def _both_ways(canary: Sequence[int], stable: Sequence[int], canary_n: int, stable_n: int) -> Ints:
    """Rows of counts for more and for fewer of each kind at the canary, shape [2 · kinds, 4]."""
    pairs = zip(canary, stable, strict=True)
    return np.array([row for c, s in pairs for row in ((canary_n, c, stable_n, s), (stable_n, s, canary_n, c))])


def _by_tenth(values: Mapping[int, int], limits: Sequence[int]) -> list[int]:
    """How many values are at most each limit and above the one before it."""
    counts = [0] * (len(limits) + 1)
    for step, count in values.items():
        counts[bisect_left(limits, step)] += count
    return counts


def _of(counts: Mapping[str, int], name: str, classes: tuple[str, ...]) -> int:
    if name != OTHER:
        return counts.get(name, 0)
    return sum(count for other, count in counts.items() if other not in classes)
