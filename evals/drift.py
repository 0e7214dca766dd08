"""Does the canary predict other classes than stable? A warning about quality that needs no label.

A new model is supposed to predict somewhat differently, so the null allows the odds of each class to change by a
declared ratio, up or down; beyond that the release waits for a person, and nobody is accused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from evals.processes import Bank, OddsRatio, absorb, log_mean
from evals.strata import Stratum

MOST_CLASSES, OTHER = 9, "other classes"


@dataclass(frozen=True)
class DriftState:
    """The classes in the order in which they were first seen, and two processes for each: more, and fewer of them."""

    classes: tuple[str, ...] = ()
    bank: Bank = field(default_factory=lambda: Bank.of(OddsRatio(), 0))

    @property
    def log_e(self) -> float:
        """Log of the mean over all slots of classes, those that nobody has seen included."""
        unseen = np.zeros(2 * (MOST_CLASSES + 1) - self.bank.rows)
        logs = np.concatenate([self.bank.log_e, unseen])
        return log_mean(logs, np.full(len(logs), 1 / len(logs)))

    @property
    def worst(self) -> str:
        """The class whose share changed most surely."""
        return self.classes[int(np.argmax(self.bank.log_e)) // 2] if self.bank.rows else ""

    def cut(self) -> DriftState:
        """The state without the counts that wait for a stratum."""
        return replace(self, bank=self.bank.cut())

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {"classes": list(self.classes), "bank": self.bank.as_dict()}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> DriftState:
        """The state of `as_dict`."""
        return cls(tuple(raw["classes"]), Bank.from_dict(raw["bank"]))


@dataclass(frozen=True)
class Drift:
    """The null allows each class's odds to be `ratio` times higher or lower at the canary."""

    ratio: float

    @property
    def test(self) -> OddsRatio:
        """What judges one class in one direction."""
        return OddsRatio(ratios=(1.25, 1.6, 2.5, 6.0), prior=(0.25,) * 4, rho0=self.ratio)

    def absorb(self, state: DriftState, stratum: Stratum) -> DriftState:
        """The state after one stratum. Which classes have a slot depends on both arms together, never on one."""
        canary, stable = stratum.canary.classes, stratum.stable.classes
        classes = state.classes
        for name in sorted({*canary, *stable} - {*classes}):
            if OTHER not in classes:
                classes = (*classes, name if len(classes) < MOST_CLASSES else OTHER)
        if not classes:
            return state
        rows = []
        for name in classes:
            at_canary, at_stable = ((sum(arm.values()), _of(arm, name, classes)) for arm in (canary, stable))
            rows += [(*at_canary, *at_stable), (*at_stable, *at_canary)]
        return DriftState(classes, absorb(self.test, state.bank.grown(self.test, len(rows)), np.array(rows)))


def _of(counts: Mapping[str, int], name: str, classes: tuple[str, ...]) -> int:
    if name != OTHER:
        return counts.get(name, 0)
    return sum(count for other, count in counts.items() if other not in classes)
