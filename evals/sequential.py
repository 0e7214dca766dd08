"""Feeds the judge of a canary with raw intervals, one after the other: the judge as a rule that answers at every look.

For simulations, and for whoever has his own numbers. What users meet is judged by the same `absorb` and `judge_canary`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from evals.canary.absorb import absorb
from evals.canary.judgement import CanaryVerdict, judge_canary
from evals.canary.plan import CanaryPlan
from evals.canary.state import CanaryState
from evals.signals.scores import histogram_of
from evals.signals.strata import GRID_RATIO, ArmCounts, Stratum


class RawArm(Protocol):
    """One arm in one interval."""

    @property
    def n(self) -> int:
        """Requests."""
        ...

    @property
    def errors(self) -> int:
        """Those that failed."""
        ...

    @property
    def latency(self) -> npt.ArrayLike:
        """In ms; of those that did not fail first."""
        ...

    @property
    def quality(self) -> npt.ArrayLike:
        """Scores in [0, 1] that arrived in this interval."""
        ...


class RawInterval(Protocol):
    """Both arms in one interval that ended at `t` seconds; `weight` is the canary's share as a fraction."""

    t: float
    weight: float
    stable: RawArm
    canary: RawArm


@dataclass
class SequentialTest:
    """Answers `wait`, `rollback` or `promote` after each interval."""

    plan: CanaryPlan = field(default_factory=CanaryPlan)
    state: CanaryState = field(default_factory=CanaryState)

    def observe(self, interval: RawInterval) -> str:
        """The decision after one more interval. ValueError where its numbers cannot be."""
        self.state = absorb(self.plan, self.state, stratum_of(interval, self.state.interval + 1))
        verdict = self.verdict()
        return "rollback" if verdict.roll_back else "promote" if verdict.promote else "wait"

    def verdict(self) -> CanaryVerdict:
        """What is proven so far, and in words."""
        return judge_canary(self.plan, self.state)


def default_test() -> SequentialTest:
    """Errors (margin 1 point), latency p50, p90, p99 (tolerance 5 %, margin 15 %) and quality (margin 2 points)."""
    return SequentialTest(CanaryPlan(latency_margin=0.15, quality_margin=0.02))


def errors_test() -> SequentialTest:
    """All of α on errors."""
    return SequentialTest(CanaryPlan(latency_tolerance=None))


def stratum_of(interval: RawInterval, number: int) -> Stratum:
    """The wire form of a raw interval."""
    began_s = 5.0 * number
    arms = (arm_of(interval.stable), arm_of(interval.canary))
    return Stratum(number, "raw", began_s, began_s + 5.0, 100 * interval.weight, *arms)


def arm_of(raw: RawArm) -> ArmCounts:
    """Counts on the judge's grids."""
    if not 0 <= raw.errors <= raw.n:
        raise ValueError(f"{raw.errors} errors among {raw.n} requests")
    latencies = np.asarray(raw.latency, dtype=float)
    if latencies.size and not (np.isfinite(latencies).all() and latencies.min() > 0):
        raise ValueError("a latency must be a positive number of ms")
    timed = min(raw.n - raw.errors, latencies.size)
    steps, counts = np.unique(np.ceil(np.log(latencies[:timed]) / np.log(GRID_RATIO)).astype(int), return_counts=True)
    left = (raw.n - raw.errors) - np.cumsum(counts)
    over = {int(step): int(more) for step, more in zip(steps, left, strict=True)}
    return ArmCounts(raw.n, raw.errors, 0, over, histogram_of(raw.quality))
