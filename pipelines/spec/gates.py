"""What may be required on live traffic, in the words of the evaluation's gates?"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from evals.gate import Gate
from pipelines.spec.values import Number, Part, Quantiles, SpecProblem


class ErrorsGate(Part):
    """How much worse than stable the canary's error rate may be to be promoted, as a fraction of requests."""

    margin: Annotated[Number, Field(gt=0, lt=1)] = 0.01

    def gate(self) -> Gate:
        """The same for `evals`."""
        return Gate("errors", margin=self.margin)


class QualityGate(Part):
    """How much lower than stable's the canary's scores may be, in [0, 1]: labels and ratings sent to `/feedback`.

    The same gate holds before that, on the evaluation's rows, for `metric` (null: on live labels only).
    """

    margin: Annotated[Number, Field(gt=0, lt=1, description="promote only when a loss of this much is disproven")] = (
        0.02
    )
    metric: Literal["accuracy", "macro_f1"] | None = "accuracy"

    def gate(self) -> Gate:
        """The same for `evals`, on live labels."""
        return Gate("quality", margin=self.margin)


class DriftGate(Part):
    """How much the canary may predict other classes than stable."""

    max_ratio: Annotated[Number, Field(gt=1, le=100, description="the odds of each class may change this much")] = 2.0
    action: Annotated[
        Literal["hold", "warn"], Field(description="hold: wait for `shipway approve`; nobody is accused")
    ] = "hold"


class LatencyGate(Part):
    """How much slower than stable the canary may be, as fractions: `tolerance` is allowed, `margin` is not."""

    tolerance: Annotated[Number, Field(ge=0, le=10, description="slower by more than this sends home")] = 0.05
    margin: Annotated[Number, Field(gt=0, le=10)] | None = Field(
        default=None,
        description="promote only when slower by this much is disproven at every quantile; null: not asked",
    )
    quantiles: Quantiles = (0.5, 0.9, 0.99)

    def gate(self, metric: str = "latency") -> Gate:
        """The same for `evals`."""
        return Gate(metric, margin=self.margin, tolerance=self.tolerance, quantiles=self.quantiles)

    @model_validator(mode="after")
    def _margin_above_tolerance(self) -> LatencyGate:
        if self.margin is not None and self.margin <= self.tolerance:
            raise SpecProblem("E_THRESHOLD", f"margin {self.margin:g} must exceed the tolerance of {self.tolerance:g}")
        return self


class RolloutGates(Part):
    """What is judged on live traffic."""

    errors: ErrorsGate = ErrorsGate()
    latency: LatencyGate | None = LatencyGate()
    first_token: LatencyGate | None = Field(
        default=None, description="of streamed answers: the time to the first piece"
    )
    between_tokens: LatencyGate | None = Field(
        default=None, description="of streamed answers: the mean time between pieces"
    )
    quality: QualityGate | None = None
    drift: DriftGate | None = DriftGate()

    def gates(self) -> tuple[Gate, ...]:
        """The same for `evals`."""
        timed = {"latency": self.latency, "first_token": self.first_token, "between_tokens": self.between_tokens}
        found = [self.errors.gate(), *(gate.gate(name) for name, gate in timed.items() if gate)]
        return (*found, self.quality.gate()) if self.quality else tuple(found)


class AlphaShares(Part):
    """What each metric has of alpha, in proportion; what is not judged hands its share to the others."""

    errors: Annotated[Number, Field(gt=0, le=1)] = 0.4
    latency: Annotated[Number, Field(ge=0, le=1, description="of whole answers and of streams together")] = 0.3
    quality: Annotated[Number, Field(ge=0, le=1)] = 0.3
    timeouts: Annotated[Number, Field(ge=0, le=1, description="answers after serve.timeout, by themselves")] = 0.0
