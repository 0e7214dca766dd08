"""Is the canary harmful, or proven harmless?

Harm: the weighted mean of the e-values of errors, latency and quality reaches 1/α; then it goes home, wrongly with
probability at most α over the whole release. Harmless: the non-inferiority process of *every* metric that has a margin
reaches 1/α_promote; a release that is worse by a margin is promoted with probability at most α_promote.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from evals.latency import LatencyState, absorb_latency
from evals.processes import Counts, NonInferiority, OddsRatio, Process, log_mean
from evals.scores import MeanScore, ScoreState
from evals.strata import Stratum

ALPHA_SHARES = {"errors": 0.4, "latency": 0.3, "quality": 0.3}
"""The share of a metric that is not judged is handed to the others."""

ERRORS = OddsRatio()
WORSE_SCORES = MeanScore()


@dataclass(frozen=True)
class CanaryPlan:
    """What is judged and how strictly: a tolerance may be so, a margin must be disproven before a promotion.

    All are fractions; those of errors and scores are absolute, those of latency relative. None does not judge.
    """

    alpha: float = 0.01
    alpha_promote: float = 0.05
    error_margin: float = 0.01
    latency_tolerance: float | None = 0.05
    latency_margin: float | None = None
    latency_quantiles: tuple[float, ...] = (0.5, 0.9, 0.99)
    quality_margin: float | None = None
    alpha_shares: Mapping[str, float] = field(default_factory=lambda: ALPHA_SHARES)


@dataclass(frozen=True)
class CanaryState:
    """Everything that was seen, as far as the judge needs it."""

    errors: Process = field(default_factory=Process)
    harmless: Process = field(default_factory=Process)
    latency: LatencyState = field(default_factory=LatencyState)
    quality: ScoreState = field(default_factory=ScoreState)
    quality_harmless: ScoreState = field(default_factory=ScoreState)
    seen: Counts = field(default_factory=Counts)
    boot: str = ""
    interval: int = -1
    canary_pct: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data: a release that is resumed goes on with exactly this state."""
        return {
            "errors": self.errors.as_dict(),
            "harmless": self.harmless.as_dict(),
            "latency": self.latency.as_dict(),
            "quality": self.quality.as_dict(),
            "quality_harmless": self.quality_harmless.as_dict(),
            "seen": vars(self.seen),
            "boot": self.boot,
            "interval": self.interval,
            "canary_pct": self.canary_pct,
        }

    def cut(self) -> CanaryState:
        """The state at a new share or a new gateway, where strata that are still too small are given up."""
        return replace(
            self,
            errors=self.errors.cut(),
            harmless=self.harmless.cut(),
            latency=self.latency.cut(),
            quality=self.quality.cut(),
            quality_harmless=self.quality_harmless.cut(),
        )

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> CanaryState:
        """The state of `as_dict`."""
        return cls(
            Process.from_dict(raw["errors"]),
            Process.from_dict(raw["harmless"]),
            LatencyState.from_dict(raw["latency"]),
            ScoreState.from_dict(raw["quality"]),
            ScoreState.from_dict(raw["quality_harmless"]),
            Counts(**raw["seen"]),
            str(raw["boot"]),
            int(raw["interval"]),
            float(raw["canary_pct"]),
        )


@dataclass(frozen=True)
class CanaryVerdict:
    """What is proven so far. `progress` is log E over log 1/α for each process: 1 is proof."""

    roll_back: bool
    promote: bool
    guilty: tuple[str, ...]
    sentence: str
    progress: Mapping[str, float]
    canary_requests: int
    canary_errors: int
    stable_requests: int
    stable_errors: int

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data for the ledger."""
        return asdict(self)


def absorb(plan: CanaryPlan, state: CanaryState, stratum: Stratum) -> CanaryState:
    """The state after one more stratum. ValueError where it was seen before: evidence counts once.

    Small strata are merged, which is exact while requests are routed at one share: then which arm a request met says
    nothing about when it came. So merging ends at a change of share.
    """
    if stratum.boot == state.boot and stratum.interval <= state.interval:
        raise ValueError(f"interval {stratum.interval} was judged before")
    if (stratum.boot, stratum.canary_pct) != (state.boot, state.canary_pct):
        state = state.cut()
    counts = Counts(stratum.canary.routed, stratum.canary.errors, stratum.stable.routed, stratum.stable.errors)
    return replace(
        _absorb_scores(plan, state, stratum),
        errors=ERRORS.absorb(state.errors, counts),
        harmless=NonInferiority(plan.error_margin).absorb(state.harmless, counts),
        latency=_absorb_latency(plan, state.latency, stratum),
        seen=state.seen.plus(counts),
        boot=stratum.boot,
        interval=stratum.interval,
        canary_pct=stratum.canary_pct,
    )


def _absorb_latency(plan: CanaryPlan, state: LatencyState, stratum: Stratum) -> LatencyState:
    if plan.latency_tolerance is None:
        return state
    return absorb_latency(state, stratum, plan.latency_quantiles, plan.latency_tolerance, plan.latency_margin)


def _absorb_scores(plan: CanaryPlan, state: CanaryState, stratum: Stratum) -> CanaryState:
    if plan.quality_margin is None:
        return state
    canary, stable = stratum.canary.scores, stratum.stable.scores
    harmless = MeanScore(plan.quality_margin, worse=False).absorb(state.quality_harmless, canary, stable)
    return replace(state, quality=WORSE_SCORES.absorb(state.quality, canary, stable), quality_harmless=harmless)


def judge_canary(plan: CanaryPlan, state: CanaryState) -> CanaryVerdict:
    """What does the evidence prove so far?"""
    logs, weights = _harm(plan, state)
    threshold, harmless_at = math.log(1 / plan.alpha), math.log(1 / plan.alpha_promote)
    harm = log_mean(list(logs.values()), list(weights.values()))
    roll_back = harm >= threshold
    guilty = tuple(m for m in logs if logs[m] + math.log(weights[m]) >= threshold)
    suspects = guilty or ((max(logs, key=lambda m: logs[m] + math.log(weights[m])),) if roll_back else ())
    seen, harmless = state.seen, _harmless(plan, state)
    return CanaryVerdict(
        roll_back=roll_back,
        promote=not roll_back and min(harmless.values()) >= harmless_at,
        guilty=guilty,
        sentence=_sentence(plan, state, harm, suspects),
        progress={
            **{name: round(log / threshold, 4) for name, log in logs.items()},
            **{f"{name}_noninferior": round(log / harmless_at, 4) for name, log in harmless.items()},
        },
        canary_requests=seen.canary,
        canary_errors=seen.canary_bad,
        stable_requests=seen.stable,
        stable_errors=seen.stable_bad,
    )


def _harm(plan: CanaryPlan, state: CanaryState) -> tuple[dict[str, float], dict[str, float]]:
    """Log e-values and weights of what can send the canary home."""
    logs = {"errors": state.errors.log_e}
    if plan.latency_tolerance is not None:
        logs["latency"] = state.latency.log_e
    if plan.quality_margin is not None:
        logs["quality"] = state.quality.log_e
    total = sum(plan.alpha_shares[name] for name in logs)
    return logs, {name: plan.alpha_shares[name] / total for name in logs}


def _harmless(plan: CanaryPlan, state: CanaryState) -> dict[str, float]:
    """Log e-values of what a promotion needs, each of them."""
    logs = {"errors": state.harmless.log_e}
    if plan.latency_tolerance is not None and plan.latency_margin is not None:
        logs["latency"] = state.latency.harmless_log_e
    if plan.quality_margin is not None:
        logs["quality"] = state.quality_harmless.log_e
    return logs


def _sentence(plan: CanaryPlan, state: CanaryState, harm: float, suspects: tuple[str, ...]) -> str:
    if suspects:
        what = "; ".join(_said(plan, state, metric) for metric in suspects)
        return f"{what}; evidence of harm {_shown(harm)} where {1 / plan.alpha:g} sends home"
    counts = _failures(state.seen) if state.seen.canary else "no judged requests yet"
    harmless = _harmless(plan, state)
    last = min(harmless, key=lambda name: harmless[name])
    what = f" ({last})" if len(harmless) > 1 else ""
    evidence = f"evidence of harmlessness{what} {_shown(harmless[last])} of {1 / plan.alpha_promote:g}"
    return f"{counts}; {evidence}, of harm {_shown(harm)} of {1 / plan.alpha:g}"


def _said(plan: CanaryPlan, state: CanaryState, metric: str) -> str:
    """The counts behind an accusation."""
    if metric == "errors":
        return f"errors: {_failures(state.seen)}"
    if metric == "quality":
        return f"quality: the canary's scores are lower; stable's mean is {state.quality.stable_mean:.3f}"
    pairs = zip(plan.latency_quantiles, state.latency.processes, strict=True)
    quantile, worst = max(pairs, key=lambda pair: pair[1].log_e)
    past, tolerance = worst.past, plan.latency_tolerance or 0.0
    slower = f"canary {past.canary_bad} of {past.canary} slower than stable's p{100 * quantile:g} plus {tolerance:.0%}"
    return f"latency: {slower}, stable {past.stable_bad} of {past.stable} slower than it"


def _failures(seen: Counts) -> str:
    return f"canary {seen.canary_bad} of {seen.canary} failed, stable {seen.stable_bad} of {seen.stable}"


def _shown(log_e: float) -> str:
    """An e-value for people: three digits, and no overflow."""
    return f"{math.exp(log_e):.3g}" if log_e < 20 else f"1e{log_e / math.log(10):.0f}"
