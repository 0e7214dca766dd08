"""What is known of a canary so far?

`absorb` takes one stratum after the other; what that proves is said by `evals/judgement.py`. All of the state is
counts, histograms and log evidence: it does not grow with the number of requests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from evals.drift import Drift, DriftState
from evals.guards import Guards, absorb_guards
from evals.latency import LatencyState, LatencyTest
from evals.processes import Bank, Ints, NonInferiority, OddsRatio
from evals.processes import absorb as absorb_counts
from evals.replay import ReplayState
from evals.scores import MeanScore, ScoreState
from evals.strata import ArmCounts, Stratum, threshold_ms

ALPHA_SHARES = {"errors": 0.4, "latency": 0.3, "quality": 0.3}
"""The share of a metric that is not judged is handed to the others."""

MOST_SLICES = 50
"""Values of declared attributes that are judged; later ones are not, and the source may gather them under one name."""

ERRORS = OddsRatio()
WORSE_SCORES = MeanScore()

EXCESS = (0.5, 0.3, 0.2, 0.1, 0.05, 0.03, 0.02, 0.01, 0.005)
"""Margins that are asked one after the other: how many more errors may the canary still have?"""


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
    drift_ratio: float | None = None
    """The odds of a predicted class may change by this; beyond it the release waits."""
    has_slices: bool = False
    """Whether attributes of requests are declared: half of each metric's share of α then goes to their values."""
    labels_arrive: bool = True
    """Whether scores are expected; where none come, the share of quality is handed to the others beforehand."""
    has_replay: bool = False
    """Whether recorded requests were replayed: half of the evidence on errors, latency and drift is then theirs."""
    replicas: tuple[int, int] | None = None
    """Stable's and the canary's servers, where load may explain a difference."""
    alpha_shares: Mapping[str, float] = field(default_factory=lambda: ALPHA_SHARES)

    def __post_init__(self) -> None:
        """Raises ValueError for a budget or a margin that means nothing."""
        for name in ("alpha", "alpha_promote"):
            if not 0 < getattr(self, name) <= 0.5:
                raise ValueError(f"{name} must be above 0 and at most 0.5, not {getattr(self, name)!r}")
        for name in ("error_margin", "quality_margin", "latency_margin"):
            margin = getattr(self, name)
            if margin is not None and not 0 < margin < (10 if name == "latency_margin" else 1):
                raise ValueError(f"{name} must be above 0 and below 1, not {margin!r}")

    @property
    def latency(self) -> LatencyTest | None:
        """The test of latency, where there is one."""
        if self.latency_tolerance is None:
            return None
        return LatencyTest(self.latency_quantiles, self.latency_tolerance, self.latency_margin)

    @property
    def harmless(self) -> NonInferiority:
        """The tests of harmlessness of errors: the margin first, then those that bound the excess."""
        return NonInferiority((self.error_margin, *EXCESS))

    @property
    def shares(self) -> dict[str, float]:
        """The share of α of each metric that is judged; they sum to one."""
        is_judged = {
            "errors": True,
            "latency": self.latency_tolerance is not None,
            "quality": self.quality_margin is not None and self.labels_arrive,
        }
        mine = {name: share for name, share in self.alpha_shares.items() if share > 0 and is_judged.get(name, True)}
        return {name: share / sum(mine.values()) for name, share in mine.items()}


@dataclass(frozen=True)
class Totals:
    """Plain sums over all judged requests, for people's reading. Latency is in ms, each rounded up to its grid step."""

    requests: int = 0
    errors: int = 0
    timeouts: int = 0
    timed: int = 0
    latency_ms: float = 0.0

    def plus(self, arm: ArmCounts, cap_ms: float = float("inf")) -> Totals:
        """With one more stratum of an arm."""
        steps, left, spent_ms = sorted(arm.over), arm.timed, 0.0
        for step in steps:
            spent_ms += (left - arm.over[step]) * min(threshold_ms(step), cap_ms)
            left = arm.over[step]
        return Totals(
            self.requests + arm.routed,
            self.errors + arm.errors,
            self.timeouts + arm.timeouts,
            self.timed + arm.timed - left,
            self.latency_ms + spent_ms,
        )

    @property
    def mean_ms(self) -> float | None:
        """The mean latency; None where nothing was timed."""
        return self.latency_ms / self.timed if self.timed else None


@dataclass(frozen=True)
class CanaryState:
    """Everything that was seen, as far as the judge needs it. Row 0 of `errors` is all requests, then each slice."""

    errors: Bank = field(default_factory=lambda: Bank.of(ERRORS))
    harmless: Bank = field(default_factory=lambda: Bank.of(NonInferiority((0.01, *EXCESS)), 1 + len(EXCESS)))
    timeouts: Bank = field(default_factory=lambda: Bank.of(ERRORS))
    latency: LatencyState = field(default_factory=LatencyState)
    quality: ScoreState = field(default_factory=ScoreState)
    quality_harmless: ScoreState = field(default_factory=ScoreState)
    drift: DriftState = field(default_factory=DriftState)
    guards: Guards = field(default_factory=Guards)
    replay: ReplayState = field(default_factory=ReplayState)
    """Recorded requests that were asked of both arms before any user was: none of them is in the totals below."""
    slices: tuple[str, ...] = ()
    canary: Totals = Totals()
    stable: Totals = Totals()
    boot: str = ""
    interval: int = -1
    routed_to_s: float = 0.0
    canary_pct: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data: a release that is resumed goes on with exactly this state."""
        parts = {name: getattr(self, name).as_dict() for name in _PARTS}
        totals = {name: vars(getattr(self, name)) for name in ("canary", "stable")}
        plain = {name: getattr(self, name) for name in ("boot", "interval", "routed_to_s", "canary_pct")}
        return {**parts, **totals, **plain, "slices": list(self.slices)}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> CanaryState:
        """The state of `as_dict`."""
        values: dict[str, Any] = {name: raw[name] for name in ("boot", "interval", "routed_to_s", "canary_pct")}
        values |= {name: kind.from_dict(raw[name]) for name, kind in _PARTS.items()}
        values |= {name: Totals(**raw[name]) for name in ("canary", "stable")}
        return cls(**values, slices=tuple(raw["slices"]))

    def cut(self) -> CanaryState:
        """The state at a new share or a new gateway, where strata that are still too small are given up."""
        cut = {name: getattr(self, name).cut() for name in _PARTS if name not in {"drift", "replay"}}
        return replace(self, **cut, drift=replace(self.drift, bank=self.drift.bank.cut()))


_PARTS: Mapping[str, Any] = {
    "errors": Bank,
    "harmless": Bank,
    "timeouts": Bank,
    "latency": LatencyState,
    "quality": ScoreState,
    "quality_harmless": ScoreState,
    "drift": DriftState,
    "guards": Guards,
    "replay": ReplayState,
}


def absorb(plan: CanaryPlan, state: CanaryState, stratum: Stratum) -> CanaryState:
    """The state after one more stratum. ValueError where it was seen before: evidence counts once.

    Small strata are merged, which is exact while requests are routed at one share: then which arm a request met says
    nothing about when it came. So merging ends at a change of share.
    """
    _refuse_repeated(state, stratum)
    if (stratum.boot, stratum.canary_pct) != (state.boot, state.canary_pct):
        state = state.cut()
    test = plan.latency
    steps = test.steps(state.latency.window) if test else ()
    slices = _slices(plan, state, stratum)
    return replace(
        _absorb_scores(plan, state, stratum),
        errors=_absorb_errors(state.errors, stratum, slices),
        harmless=absorb_counts(plan.harmless, state.harmless, _repeated(_failures(stratum), state.harmless.rows)),
        timeouts=absorb_counts(ERRORS, state.timeouts, np.array([_timeouts(stratum)])),
        latency=test.absorb(state.latency, stratum, slices) if test else state.latency,
        drift=Drift(plan.drift_ratio).absorb(state.drift, stratum) if plan.drift_ratio else state.drift,
        guards=absorb_guards(state.guards, stratum, steps, test.shift(test.tolerance) if test else 0),
        slices=slices,
        canary=state.canary.plus(stratum.canary),
        stable=state.stable.plus(stratum.stable),
        boot=stratum.boot,
        interval=stratum.interval,
        routed_to_s=stratum.routed_to_s,
        canary_pct=stratum.canary_pct,
    )


def _refuse_repeated(state: CanaryState, stratum: Stratum) -> None:
    if stratum.boot != state.boot:
        return
    if stratum.interval <= state.interval:
        raise ValueError(f"interval {stratum.interval} was judged before")
    if stratum.routed_from_s < state.routed_to_s - 1e-6:
        raise ValueError(f"interval {stratum.interval} begins before the last one ended")


def _slices(plan: CanaryPlan, state: CanaryState, stratum: Stratum) -> tuple[str, ...]:
    """Which values get a place depends on both arms together, never on one."""
    if not plan.has_slices:
        return ()
    fresh = sorted({*stratum.canary.by_slice, *stratum.stable.by_slice} - {*state.slices})
    return (*state.slices, *fresh)[:MOST_SLICES]


def _absorb_errors(bank: Bank, stratum: Stratum, slices: tuple[str, ...]) -> Bank:
    nobody = ArmCounts()
    arms = [(stratum.canary.by_slice.get(s, nobody), stratum.stable.by_slice.get(s, nobody)) for s in slices]
    counts = [_failures(stratum), *((c.routed, c.errors, s.routed, s.errors) for c, s in arms)]
    return absorb_counts(ERRORS, bank.grown(ERRORS, len(counts)), np.array(counts))


def _failures(stratum: Stratum) -> tuple[int, int, int, int]:
    canary, stable = stratum.canary, stratum.stable
    return canary.routed, canary.errors, stable.routed, stable.errors


def _timeouts(stratum: Stratum) -> tuple[int, int, int, int]:
    canary, stable = stratum.canary, stratum.stable
    return canary.routed, canary.timeouts, stable.routed, stable.timeouts


def _repeated(counts: tuple[int, ...], rows: int) -> Ints:
    return np.tile(np.array(counts, dtype=np.int64), (rows, 1))


def _absorb_scores(plan: CanaryPlan, state: CanaryState, stratum: Stratum) -> CanaryState:
    if plan.quality_margin is None:
        return state
    canary, stable = stratum.canary.scores, stratum.stable.scores
    harmless = MeanScore(plan.quality_margin, worse=False).absorb(state.quality_harmless, canary, stable)
    return replace(state, quality=WORSE_SCORES.absorb(state.quality, canary, stable), quality_harmless=harmless)
