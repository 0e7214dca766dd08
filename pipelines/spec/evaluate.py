"""What is the candidate asked before any user is, and what must it show?"""

from __future__ import annotations

from typing import Annotated, Any, get_args

from pydantic import AliasChoices, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from evals.gate import Gate
from pipelines.spec.judging import JudgeSpec
from pipelines.spec.values import CostMetric, LanguageMetric, MetricName, Number, Part, SpecProblem

MAX_TOKENS = 128
OF_CHAMPION = ("kl", "top1_agreement")
"""What only a comparison with the champion says, token by token."""

JUDGE = "judge"
COSTS = get_args(CostMetric)


class GateSpec(Part):
    """One gate on the evaluation's rows: an absolute bound (`min`, `max`), a `margin` to the champion, or both."""

    metric: MetricName
    min: Number | None = None
    max: Number | None = None
    margin: Number | None = Field(
        default=None,
        description="pass only where a loss of this much is disproven on the same rows (formerly max_drop)",
        validation_alias=AliasChoices("margin", "max_drop"),  # records of earlier releases must stay readable
    )
    tolerance: Annotated[Number, Field(description="a loss within this accuses nobody")] = 0.0
    slices: str | None = Field(None, description="a column named in evaluate.slices: the gate holds for each value")

    @model_validator(mode="after")
    def _says_something(self) -> GateSpec:
        if self.min is None and self.max is None and self.margin is None:
            raise SpecProblem("E_THRESHOLD", f"the gate on {self.metric} needs min, max or margin")
        if self.metric in {*OF_CHAMPION, JUDGE} and (self.min, self.max) != (None, None):
            raise SpecProblem("E_THRESHOLD", f"{self.metric} compares with the champion: its gate has a margin")
        if self.margin is not None and self.margin < self.tolerance:
            raise SpecProblem(
                "E_THRESHOLD", f"the gate on {self.metric} has tolerance {self.tolerance} above margin {self.margin}"
            )
        if self.min is not None and self.max is not None and self.min > self.max:
            raise SpecProblem("E_THRESHOLD", f"the gate on {self.metric} has min {self.min} above max {self.max}")
        for name in ("min", "max", "margin", "tolerance"):
            if (bound := getattr(self, name)) is not None and bound < 0:
                raise SpecProblem("E_THRESHOLD", f"{name} {bound} of {self.metric} is negative")
        return self

    def gate(self) -> Gate:
        """The same for `evals`."""
        return Gate(self.metric, self.min, self.max, self.margin, self.slices, self.tolerance)


class EvaluateSpec(Part):
    """What the candidate is asked before any user is."""

    data: str = Field(description="a CSV or JSONL file of labelled rows, relative to the spec")
    text: str = Field("text", description="the column with the input")
    label: str = Field("label", description="the column with the true label")
    metrics: tuple[MetricName, ...] = ("accuracy", "macro_f1", "ece", "latency_p50_ms", "latency_p95_ms", "size_mb")
    slices: tuple[str, ...] = Field((), description="columns; every value with enough rows is judged on its own")
    cluster: str | None = Field(
        None, description="a column, such as document: rows of one value are one draw, in every interval"
    )
    gates: tuple[GateSpec, ...] = Field(min_length=1)
    batch_size: Annotated[int, Field(ge=1, le=1024)] = 32
    confidence: Annotated[Number, Field(gt=0.5, lt=1)] = 0.95
    judge: JudgeSpec | None = Field(None, description="a model that compares answers, as an extra: of language models")
    max_tokens: Annotated[
        int, Field(ge=1, le=8192, description="of an answer, and of a reference that is scored: of language models")
    ] = MAX_TOKENS

    @property
    def columns(self) -> tuple[str, ...]:
        """What every row must have besides what is asked and what is right."""
        return tuple(dict.fromkeys((*self.slices, *((self.cluster,) if self.cluster else ()))))

    @model_serializer(mode="wrap")
    def _as_ever(self, dumped: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A key that came later is written where it is unusual: a release that an older Shipway began is found."""
        usual = {"max_tokens": MAX_TOKENS, "cluster": None, "judge": None}
        return {key: value for key, value in dumped(self).items() if key not in usual or value != usual[key]}

    @model_validator(mode="after")
    def _a_judge_is_an_extra(self) -> EvaluateSpec:
        """It is one opinion, and drifts with whoever serves it: a gate on what rows themselves say stands beside it."""
        judged = any(gate.metric == JUDGE for gate in self.gates)
        if judged and self.judge is None:
            raise SpecProblem("E_CONFIG", "the gate on judge needs evaluate.judge, which says who judges")
        if judged and all(gate.metric in {JUDGE, *COSTS} for gate in self.gates):
            raise SpecProblem("E_CONFIG", "a judge is never the only gate: add one on what the rows themselves say")
        return self

    @model_validator(mode="after")
    def _slices_are_known(self) -> EvaluateSpec:
        for gate in self.gates:
            if gate.slices is not None and gate.slices not in self.slices:
                raise SpecProblem(
                    "E_CONFIG", f"the gate on {gate.metric} names slices: {gate.slices}, not in evaluate.slices"
                )
            if gate.metric not in self.metrics and gate.metric not in get_args(LanguageMetric):
                raise SpecProblem("E_CONFIG", f"the gate on {gate.metric} needs it in evaluate.metrics")
        return self
