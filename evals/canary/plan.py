"""What is judged on live traffic, and how strictly?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from evals.gate import Gate
from evals.maths.e_processes import NonInferiority
from evals.signals.binned import RateTest
from evals.signals.counting import COST
from evals.signals.latency import LatencyTest
from evals.signals.means import MeanTest

ALPHA_SHARES = {"errors": 0.4, "latency": 0.3, "quality": 0.3, "goodput": 0.3, "answers": 0.2, "cost": 0.2}
"""The share of a metric that is not judged is handed to the others; `answers` is for all that can be wrong in them."""

STREAM_TIMINGS = ("first_token", "between_tokens")
"""What is timed in a streamed answer; latency's share of α is divided among them and the latency of whole answers."""

LENGTHS = ("shorter", "longer")
"""How many tokens an answer has, as it is and by its inverse: judged as times are, and of the same share of α."""

IN_STREAMS = (*STREAM_TIMINGS, *LENGTHS)

GOODPUT = "goodput"
RATES = (GOODPUT, "empty", "cut", "refused", "rejected", "invalid_json", "invalid_tool_call")
"""What each answer is asked, where it could be bad so: did it miss the service's objective, say nothing, end at its
length, refuse, come as 4xx, hold JSON of another schema than was asked for, call a tool wrongly?"""

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
    streams: Mapping[str, LatencyTest] = field(default_factory=dict)
    """The tests of streamed answers, by what is timed in them, and of their lengths."""
    rates: Mapping[str, RateTest] = field(default_factory=dict)
    """The tests of what answers are asked about, by its name."""
    cost: MeanTest | None = None
    """The test of the mean cost of an answer; None judges none."""
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
    unit: Literal["request", "user"] = "request"
    """What is counted: each request, or where users stay at an arm each user, once in each step."""
    periods: int = 1
    """How many steps the plan has, where users are counted once in each."""
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
        if not set(self.streams) <= set(IN_STREAMS):
            raise ValueError(f"of a stream {', '.join(IN_STREAMS)} are judged, not {sorted(self.streams)}")
        if not set(self.rates) <= set(RATES):
            raise ValueError(f"answers are asked about {', '.join(RATES)}, not {sorted(self.rates)}")

    @classmethod
    def of(cls, gates: Sequence[Gate], **others: Any) -> CanaryPlan:
        """The plan of gates, the same objects that hold on an evaluation's rows; `others` are the other fields."""
        by_metric = {gate.metric: gate for gate in gates}
        errors, latency, quality = (by_metric.get(name) for name in ("errors", "latency", "quality"))
        if errors is None or errors.margin is None:
            raise ValueError("errors are always judged, and need a margin")
        return cls(
            error_margin=errors.margin,
            latency_tolerance=latency.tolerance if latency else None,
            latency_margin=latency.margin if latency else None,
            latency_quantiles=latency.quantiles if latency else cls.latency_quantiles,
            quality_margin=quality.margin if quality else None,
            streams={name: timing_test(by_metric[name]) for name in IN_STREAMS if name in by_metric},
            rates={name: rate_test(by_metric[name]) for name in RATES if name in by_metric},
            cost=MeanTest(by_metric[COST].tolerance, by_metric[COST].margin) if COST in by_metric else None,
            **others,
        )

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
        timed = [name for name in ("latency", *IN_STREAMS) if self._is_judged(name)]
        mine = {name: share for name, share in self.alpha_shares.items() if share > 0 and self._is_judged(name)}
        mine |= {name: self.alpha_shares.get("latency", 0.0) / len(timed) for name in timed}
        wrong = [name for name in self.rates if name != GOODPUT]
        mine |= {name: self.alpha_shares.get("answers", 0.0) / len(wrong) for name in wrong}
        return {name: share / sum(mine.values()) for name, share in mine.items() if share > 0}

    def _is_judged(self, metric: str) -> bool:
        match metric:
            case "latency":
                return self.latency_tolerance is not None
            case "quality":
                return self.quality_margin is not None and self.labels_arrive
            case _ if metric in IN_STREAMS:
                return metric in self.streams
            case "goodput":
                return metric in self.rates
            case "cost":
                return self.cost is not None
        return metric != "answers"


def rate_test(gate: Gate) -> RateTest:
    """The test of a gate on a rate of bad answers; its tolerance is one of their odds."""
    return RateTest(gate.tolerance, gate.margin)


def timing_test(gate: Gate) -> LatencyTest:
    """The test of a gate on something that is timed."""
    return LatencyTest(gate.quantiles, gate.tolerance, gate.margin)
