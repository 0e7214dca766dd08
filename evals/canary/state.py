"""What is known of a canary so far?

All of it is counts, histograms and log evidence: it does not grow with the number of requests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from evals.canary.guards import Guards
from evals.canary.plan import EXCESS
from evals.maths.e_processes import Bank, NonInferiority, OddsRatio
from evals.maths.pace import Pace
from evals.signals.binned import RateState
from evals.signals.drift import DriftState
from evals.signals.latency import LatencyState
from evals.signals.means import MeanState
from evals.signals.replay import ReplayState
from evals.signals.scores import ScoreState
from evals.signals.strata import ArmCounts, threshold_ms

ERRORS = OddsRatio()


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
    streams: Mapping[str, LatencyState] = field(default_factory=dict)
    """Of streamed answers, by what is timed."""
    rates: Mapping[str, RateState] = field(default_factory=dict)
    """Of what answers are asked about, by its name."""
    cost: MeanState | None = None
    """Of what answers cost; None where nothing was judged of it."""
    pace: Pace = field(default_factory=Pace)
    replay: ReplayState = field(default_factory=ReplayState)
    """Recorded requests that were asked of both arms before any user was: none of them is in the totals below."""
    period: int = 0
    earlier: Mapping[str, float] = field(default_factory=dict)
    """Where users are counted: log of the weighted sum of the evidence of earlier steps, by name."""
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
        plain = {name: getattr(self, name) for name in _PLAIN}
        streams = {name: state.as_dict() for name, state in self.streams.items()}
        rates = {"rates": {name: state.as_dict() for name, state in self.rates.items()}} if self.rates else {}
        cost = {"cost": self.cost.as_dict()} if self.cost is not None else {}
        return {**parts, **totals, **plain, "streams": streams, **rates, **cost, "slices": list(self.slices)}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> CanaryState:
        """The state of `as_dict`."""
        values: dict[str, Any] = {name: raw[name] for name in _PLAIN}
        values |= {name: kind.from_dict(raw[name]) for name, kind in _PARTS.items()}
        values |= {name: Totals(**raw[name]) for name in ("canary", "stable")}
        values["streams"] = {name: LatencyState.from_dict(state) for name, state in raw["streams"].items()}
        values["rates"] = {name: RateState.from_dict(state) for name, state in raw.get("rates", {}).items()}
        values["cost"] = MeanState.from_dict(raw["cost"]) if raw.get("cost") else None
        return cls(**values, slices=tuple(raw["slices"]))

    def cut(self) -> CanaryState:
        """The state at a new share or a new gateway, where strata that are still too small are given up."""
        cut = {name: getattr(self, name).cut() for name in _BANKS}
        streams = {name: state.cut() for name, state in self.streams.items()}
        rates = {name: state.cut() for name, state in self.rates.items()}
        return replace(self, **cut, streams=streams, rates=rates, cost=self.cost.cut() if self.cost else None)

    def afresh(self) -> CanaryState:
        """The state with new processes, which know what is slow at stable, and nothing that is evidence."""
        fresh = CanaryState()
        windows = {name: state.afresh() for name, state in self.streams.items()}
        processes = {name: getattr(fresh, name) for name in _BANKS if name != "latency"}
        return replace(
            self, **processes, latency=self.latency.afresh(), streams=windows, rates={}, cost=None, slices=()
        )


_PARTS: Mapping[str, Any] = {
    "errors": Bank,
    "harmless": Bank,
    "timeouts": Bank,
    "latency": LatencyState,
    "quality": ScoreState,
    "quality_harmless": ScoreState,
    "drift": DriftState,
    "guards": Guards,
    "pace": Pace,
    "replay": ReplayState,
}
_BANKS = tuple(name for name in _PARTS if name not in {"pace", "replay"})
_PLAIN = ("boot", "interval", "routed_to_s", "canary_pct", "period", "earlier")
