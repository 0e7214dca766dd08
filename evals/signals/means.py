"""Is the canary dearer than stable, by the mean cost of an answer, or proven not to be?

An e-process on means, as that of scores: each answer is a small bet, on the canary against the null and on stable with
it; the product's expectation is at most 1 whatever the two distributions are, because it is linear in each cost. What a
release may be dearer by is a part of stable's mean, so the bets on stable weigh that much more. Sources:
Waudby-Smith & Ramdas 2024 (arXiv 2010.09686); Turner & Grünwald 2023 (arXiv 2302.11401).

A bet needs a largest outcome. So each cost counts up to a cap, `CAP` times stable's own p99 of the last minutes, known
before the answers that it holds for: what is compared are the means of costs up to there. Costs are counted on the grid
of latencies, rounded up or down by chance so that their mean is kept (`pipelines/serving/evidence/intervals.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from evals.maths.e_processes import MIN_CANARY, MIN_STABLE, Values, mixed
from evals.signals.counting import COST
from evals.signals.latency import histogram
from evals.signals.strata import GRID_RATIO, ArmCounts, Stratum
from evals.signals.window import Histogram, Window

CAP = 4.0
"""An answer that never ends may not outweigh all others, and must weigh enough to be seen."""

BETS = tuple(0.9 * 2.0**-k for k in range(8))
PRIOR = (0.06, 0.12, 0.18, 0.2, 0.18, 0.14, 0.08, 0.04)
"""Parts of the largest bet: most weight where a tenth more is found fastest, with costs as uneven as those of chats."""


@dataclass(frozen=True)
class Stake:
    """Log E of one process, and the log weights of its bets."""

    log_e: float = 0.0
    log_weights: tuple[float, ...] = tuple(math.log(weight) for weight in PRIOR)

    def after(self, log_factors: Values) -> Stake:
        """The stake after one stratum."""
        gained, (weights,) = mixed(np.asarray(self.log_weights)[None, :], np.log(PRIOR), log_factors[None, :])
        return Stake(self.log_e + float(gained[0]), tuple(weights.tolist()))


@dataclass(frozen=True)
class MeanState:
    """Evidence of harm and of harmlessness, what waits to be a stratum, and what costs were like."""

    harm: Stake = field(default_factory=Stake)
    harmless: Stake = field(default_factory=Stake)
    window: Window = field(default_factory=Window)
    scale: tuple[int, float] | None = None
    """The grid step of the cap for what waits, and stable's mean until then as a part of it."""
    canary: Histogram = field(default_factory=dict)
    stable: Histogram = field(default_factory=dict)
    seen: tuple[int, float, int, float] = (0, 0.0, 0, 0.0)
    """Answers and the sum of their costs, whole ones, of the canary and of stable."""

    @property
    def means(self) -> tuple[float, float]:
        """The mean cost at the canary and at stable; 0 where there was none."""
        n_c, sum_c, n_s, sum_s = self.seen
        return sum_c / n_c if n_c else 0.0, sum_s / n_s if n_s else 0.0

    def cut(self) -> MeanState:
        """The state without what waits: requests routed at different shares never share a stratum."""
        return replace(self, canary={}, stable={}, scale=None)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        stakes = {
            name: [s.log_e, list(s.log_weights)] for name, s in (("harm", self.harm), ("harmless", self.harmless))
        }
        waiting = {arm: sorted(map(list, getattr(self, arm).items())) for arm in ("canary", "stable")}
        scale = list(self.scale) if self.scale else None
        return {**stakes, **waiting, "window": self.window.as_dict(), "scale": scale, "seen": list(self.seen)}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> MeanState:
        """The state of `as_dict`."""
        harm, harmless = (Stake(float(log_e), tuple(weights)) for log_e, weights in (raw["harm"], raw["harmless"]))
        canary, stable = ({int(step): int(n) for step, n in raw[arm]} for arm in ("canary", "stable"))
        scale = (int(raw["scale"][0]), float(raw["scale"][1])) if raw["scale"] else None
        n_c, sum_c, n_s, sum_s = raw["seen"]
        seen = (int(n_c), float(sum_c), int(n_s), float(sum_s))
        return cls(harm, harmless, Window.from_dict(raw["window"]), scale, canary, stable, seen)


@dataclass(frozen=True)
class MeanTest:
    """Harm: the canary's mean is more than 1 + `tolerance` times stable's.

    Harmless: it is less than 1 + `margin` times stable's. A margin of None does not ask.
    """

    tolerance: float = 0.05
    margin: float | None = None

    def absorb(self, state: MeanState, stratum: Stratum) -> MeanState:
        """The state after one stratum: judged by what was known before it, then part of what is known."""
        canary, stable = (histogram(arm.timings.get(COST, ArmCounts())) for arm in (stratum.canary, stratum.stable))
        scale = state.scale or _scale(state.window)
        known = replace(state, window=state.window.after(stratum, stable), seen=_seen(state.seen, canary, stable))
        if scale is None:
            return known
        canary, stable = _sum(state.canary, canary), _sum(state.stable, stable)
        if sum(canary.values()) < MIN_CANARY or sum(stable.values()) < MIN_STABLE:
            return replace(known, canary=canary, stable=stable, scale=scale)
        harm = known.harm.after(self._log_factors(scale, canary, stable, 1 + self.tolerance, worse=True))
        harmless = known.harmless
        if self.margin is not None:
            harmless = harmless.after(self._log_factors(scale, canary, stable, 1 + self.margin, worse=False))
        return replace(known, harm=harm, harmless=harmless, canary={}, stable={}, scale=None)

    @staticmethod
    def _log_factors(
        scale: tuple[int, float], canary: Histogram, stable: Histogram, ratio: float, *, worse: bool
    ) -> Values:
        """Log e of every bet for one stratum, on the canary's mean being `ratio` times stable's."""
        cap, p = scale
        (x_c, n_c), (x_s, n_s) = _parts(canary, cap), _parts(stable, cap)
        weight = ratio * n_c.sum() / n_s.sum()
        least = (ratio * p, weight * (1 - p)) if worse else (1 - ratio * p, weight * p)
        bets = np.asarray(BETS) / max(*least, 1e-9)
        signed = (bets if worse else -bets)[:, None]
        return np.asarray(np.log1p(signed * (x_c - ratio * p)) @ n_c + np.log1p(-signed * weight * (x_s - p)) @ n_s)


def _scale(window: Window) -> tuple[int, float] | None:
    """The cap, and stable's mean below it; None while too little has been seen."""
    steps = window.quantile_steps((0.99,))
    if not steps:
        return None
    cap = steps[0] + round(math.log(CAP) / math.log(GRID_RATIO))
    whole: dict[int, int] = {}
    for _, counts in window.chunks:
        whole = _sum(whole, counts)
    x, n = _parts(whole, cap)
    return cap, float(x @ n / n.sum())


def _parts(counts: Histogram, cap: int) -> tuple[Values, Values]:
    """Costs as parts of the cap, and how often."""
    steps, n = np.array(sorted(counts.items()), dtype=float).reshape(-1, 2).T
    return np.minimum(1.0, GRID_RATIO ** (steps - cap)), n


def _seen(seen: tuple[int, float, int, float], canary: Histogram, stable: Histogram) -> tuple[int, float, int, float]:
    n_c, sum_c, n_s, sum_s = seen
    of_canary, of_stable = (sum(n * GRID_RATIO**step for step, n in sorted(one.items())) for one in (canary, stable))
    return n_c + sum(canary.values()), sum_c + of_canary, n_s + sum(stable.values()), sum_s + of_stable


def _sum(a: Histogram, b: Histogram) -> dict[int, int]:
    return {step: a.get(step, 0) + b.get(step, 0) for step in {*a, *b}}
