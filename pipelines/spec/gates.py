"""What may be required on live traffic, in the words of the evaluation's gates?"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from evals.canary.plan import ALPHA_SHARES, GOODPUT
from evals.gate import Gate
from evals.signals.binned import RateTest
from evals.signals.counting import COST
from evals.signals.means import MeanTest
from pipelines.spec.values import Number, Part, Quantiles, SpecProblem

BadAnswer = Literal["empty", "cut", "refused", "rejected", "invalid_json", "invalid_tool_call"]
BAD_ANSWERS: tuple[BadAnswer, ...] = get_args(BadAnswer)
LATER_SHARES = ("goodput", "answers", "cost")
LATER_GATES = (*LATER_SHARES, "length")
"""What was added to a form that is recorded."""


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
    metric: Literal["accuracy", "macro_f1", "exact_match", "regex_match"] | None = "accuracy"

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


class GoodputGate(Part):
    """How much more often than stable the canary may miss `serve.objective`."""

    tolerance: Annotated[
        Number, Field(ge=0, le=10, description="odds of a miss that are higher by more than this send home")
    ] = RateTest.tolerance
    margin: Annotated[Number, Field(gt=0, lt=1)] | None = Field(
        default=0.05, description="promote only when this many more misses are disproven; null: not asked"
    )

    def gate(self) -> Gate:
        """The same for `evals`."""
        return Gate(GOODPUT, margin=self.margin, tolerance=self.tolerance)


class LengthGate(Part):
    """How much shorter or longer than stable's the canary's usual answer may be, in tokens, as fractions."""

    shorter: Annotated[Number, Field(gt=0, lt=1, description="answers with fewer tokens by more send home")] | None = (
        0.25
    )
    longer: Annotated[Number, Field(gt=0, le=10, description="answers with more tokens by more send home")] | None = (
        None
    )

    @model_validator(mode="after")
    def _asks_something(self) -> LengthGate:
        if self.shorter is None and self.longer is None:
            raise SpecProblem("E_THRESHOLD", "a gate on length says shorter, longer, or both")
        return self

    def gates(self) -> tuple[Gate, ...]:
        """The same for `evals`, where an answer is shorter as its inverse is longer."""
        shorter = 1 / (1 - self.shorter) - 1 if self.shorter is not None else None
        said = {"shorter": shorter, "longer": self.longer}
        return tuple(Gate(name, tolerance=by, quantiles=(0.5,)) for name, by in said.items() if by is not None)


class AnswersGate(Part):
    """How much more often than stable's the canary's answers may be bad in one of these ways."""

    tolerance: Annotated[Number, Field(ge=0, le=10, description="odds that are higher by more than this send home")] = (
        RateTest.tolerance
    )
    about: Annotated[tuple[BadAnswer, ...], Field(min_length=1, max_length=len(BAD_ANSWERS))] = BAD_ANSWERS

    def gates(self) -> tuple[Gate, ...]:
        """The same for `evals`."""
        return tuple(Gate(what, tolerance=self.tolerance) for what in dict.fromkeys(self.about))


class CostGate(Part):
    """How much dearer than stable's the canary's answers may be in the mean, by `serve.price`, as fractions."""

    tolerance: Annotated[Number, Field(ge=0, le=10, description="dearer by more than this sends home")] = (
        MeanTest.tolerance
    )
    margin: Annotated[Number, Field(gt=0, le=10)] | None = Field(
        default=0.1, description="promote only when dearer by this much is disproven; null: not asked"
    )

    @model_validator(mode="after")
    def _margin_above_tolerance(self) -> CostGate:
        if self.margin is not None and self.margin <= self.tolerance:
            raise SpecProblem("E_THRESHOLD", f"margin {self.margin:g} must exceed the tolerance of {self.tolerance:g}")
        return self

    def gate(self) -> Gate:
        """The same for `evals`."""
        return Gate(COST, margin=self.margin, tolerance=self.tolerance)


class RolloutGates(Part):
    """What is judged on live traffic."""

    errors: ErrorsGate = ErrorsGate()
    latency: LatencyGate | None = Field(
        default=LatencyGate(),
        description="of whole answers; where serve.api is openai and nothing is said, null and the next two instead",
    )
    first_token: LatencyGate | None = Field(
        default=None, description="of streamed answers: the time to the first piece"
    )
    between_tokens: LatencyGate | None = Field(
        default=None, description="of streamed answers: the mean time between pieces"
    )
    quality: QualityGate | None = None
    drift: DriftGate | None = DriftGate()
    goodput: GoodputGate | None = Field(default=None, description="of language models: the part that misses objective")
    answers: AnswersGate | None = Field(default=None, description="of language models: answers that are bad by kind")
    length: LengthGate | None = Field(default=None, description="of language models: how many tokens answers have")
    cost: CostGate | None = Field(default=None, description="of language models: what an answer costs, by serve.price")

    @model_serializer(mode="wrap")
    def _as_ever(self, dumped: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A key that came later is written where it is said: a release that an older Shipway began is found again."""
        return {key: value for key, value in dumped(self).items() if value is not None or key not in LATER_GATES}

    def gates(self) -> tuple[Gate, ...]:
        """The same for `evals`."""
        timed = {"latency": self.latency, "first_token": self.first_token, "between_tokens": self.between_tokens}
        found = [self.errors.gate(), *(gate.gate(name) for name, gate in timed.items() if gate)]
        found += [gate.gate() for gate in (self.goodput, self.quality, self.cost) if gate]
        return (*found, *(gate for part in (self.answers, self.length) if part for gate in part.gates()))


class AlphaShares(Part):
    """What each metric has of alpha, in proportion; what is not judged hands its share to the others."""

    errors: Annotated[Number, Field(gt=0, le=1)] = 0.4
    latency: Annotated[Number, Field(ge=0, le=1, description="of whole answers, streams and lengths together")] = 0.3
    quality: Annotated[Number, Field(ge=0, le=1)] = 0.3
    timeouts: Annotated[Number, Field(ge=0, le=1, description="answers after serve.timeout, by themselves")] = 0.0
    goodput: Annotated[Number, Field(ge=0, le=1)] = ALPHA_SHARES["goodput"]
    answers: Annotated[Number, Field(ge=0, le=1, description="of all kinds of bad answers together")] = ALPHA_SHARES[
        "answers"
    ]

    cost: Annotated[Number, Field(ge=0, le=1)] = ALPHA_SHARES["cost"]

    @model_serializer(mode="wrap")
    def _as_ever(self, dumped: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A share that came later is written where it is unusual."""
        later = {key: ALPHA_SHARES[key] for key in LATER_SHARES}
        return {key: value for key, value in dumped(self).items() if later.get(key) != value}
