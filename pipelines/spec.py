"""What was asked for? A `release.yaml`, checked before anything happens.

Unknown keys are refused with the nearest known one. Durations end in `_s` (seconds) and may be written `90`, `90s`,
`5m`, `2h` or `1d`; shares end in `_pct`; everything else says its unit in its name.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from evals.gate import Gate

NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9])?")
"""Names of models, services, aliases: ASCII, 1 to 128 characters, no path or shell characters."""

_MODEL_URI = re.compile(
    rf"models:/(?P<name>{NAME.pattern})(?:/(?P<version>[1-9][0-9]{{0,9}})|@(?P<alias>{NAME.pattern}))"
)
_IMAGE_REF = re.compile(
    r"(?=.{1,255}$)([a-z0-9]+([.-][a-z0-9]+)*(:\d{1,5})?/)?[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*"
    r"(:[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?(@sha256:[0-9a-f]{64})?"
)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
MOST_ATTRIBUTES = 5
MAX_DURATION_S = 30 * 86400.0


class SpecProblem(ValueError):
    """A field's value is wrong: carries the stable code that the command line prints."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def _name(value: str) -> str:
    if not NAME.fullmatch(value) or ".." in value:
        raise SpecProblem("E_NAME", f"{value[:60]!r} is not a name: 1-128 of A-Z a-z 0-9 . _ - without '..'")
    return value


def _model_uri(value: str) -> str:
    match = _MODEL_URI.fullmatch(value)
    if match is None or ".." in value:
        raise SpecProblem(_uri_code(value), f"{value[:80]!r} is not models:/NAME/VERSION or models:/NAME@ALIAS")
    return value


def _uri_code(value: str) -> str:
    name, _, rest = value.removeprefix("models:/").partition("/")
    if value.startswith("models:/") and NAME.fullmatch(name) and rest:
        return "E_VERSION"
    name, at, _ = value.removeprefix("models:/").partition("@")
    return "E_ALIAS" if at and NAME.fullmatch(name) else "E_NAME"


def _image_ref(value: str) -> str:
    if not _IMAGE_REF.fullmatch(value):
        raise SpecProblem(
            "E_IMAGE", f"{value[:80]!r} is not an image: [HOST[:PORT]/]name[:tag][@sha256:64 hex digits], in lower case"
        )
    return value


def _seconds(value: Any) -> Any:
    """Durations are numbers of seconds, or text with a unit."""
    if isinstance(value, str):
        match = _DURATION.fullmatch(value.strip())
        if match is None:
            raise SpecProblem("E_DURATION", f"{value[:40]!r} is not a duration such as 90s, 5m, 2h or 1d")
        value = float(match[1]) * _UNIT_S[match[2]]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_DURATION_S:
        raise SpecProblem("E_DURATION", f"{value!r} is not a duration between 0 and 30 days")
    return float(value)


def _strict_number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise SpecProblem("E_THRESHOLD", f"{value!r} is not a finite number")
    return value


def _rising_quantiles(value: tuple[float, ...]) -> tuple[float, ...]:
    if not value or not all(a < b for a, b in pairwise(value)):
        raise SpecProblem("E_THRESHOLD", f"quantiles {list(value)} must rise strictly within (0, 1)")
    return value


def _attributes(value: tuple[str, ...]) -> tuple[str, ...]:
    if len(value) > MOST_ATTRIBUTES or len(set(value)) < len(value):
        raise SpecProblem("E_CONFIG", f"slices {list(value)[:10]} must be different, and at most {MOST_ATTRIBUTES}")
    return value


Name = Annotated[str, AfterValidator(_name)]
ImageRef = Annotated[str, AfterValidator(_image_ref)]
ModelUri = Annotated[str, AfterValidator(_model_uri)]
Seconds = Annotated[float, BeforeValidator(_seconds)]
Number = Annotated[float, BeforeValidator(_strict_number)]
Quantile = Annotated[Number, Field(gt=0, lt=1)]
Attribute = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^(body(\.[A-Za-z0-9_-]+)+|[A-Za-z0-9-]+)$")]
MetricName = Literal["accuracy", "macro_f1", "ece", "latency_p50_ms", "latency_p95_ms", "size_mb"]


class Part(BaseModel):
    """A frozen piece of the spec that knows all of its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class GateSpec(Part):
    """One offline gate: an absolute bound (`min`, `max`), a margin to the champion (`max_drop`), or both."""

    metric: MetricName
    min: Number | None = None
    max: Number | None = None
    max_drop: Number | None = None
    slices: str | None = Field(None, description="a column named in evaluate.slices: the gate holds for each value")

    @model_validator(mode="after")
    def _says_something(self) -> GateSpec:
        if self.min is None and self.max is None and self.max_drop is None:
            raise SpecProblem("E_THRESHOLD", f"the gate on {self.metric} needs min, max or max_drop")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise SpecProblem("E_THRESHOLD", f"the gate on {self.metric} has min {self.min} above max {self.max}")
        for name in ("min", "max", "max_drop"):
            if (bound := getattr(self, name)) is not None and bound < 0:
                raise SpecProblem("E_THRESHOLD", f"{name} {bound} of {self.metric} is negative")
        return self

    def gate(self) -> Gate:
        """The same for `evals`."""
        return Gate(self.metric, self.min, self.max, self.max_drop, self.slices)


class EvaluateSpec(Part):
    """What the candidate is asked before any user is."""

    data: str = Field(description="a CSV or JSONL file of labelled rows, relative to the spec")
    text: str = Field("text", description="the column with the input")
    label: str = Field("label", description="the column with the true label")
    metrics: tuple[MetricName, ...] = ("accuracy", "macro_f1", "ece", "latency_p50_ms", "latency_p95_ms", "size_mb")
    slices: tuple[str, ...] = Field((), description="columns; every value with enough rows is judged on its own")
    gates: tuple[GateSpec, ...] = Field(min_length=1)
    batch_size: Annotated[int, Field(ge=1, le=1024)] = 32
    confidence: Annotated[Number, Field(gt=0.5, lt=1)] = 0.95

    @model_validator(mode="after")
    def _slices_are_known(self) -> EvaluateSpec:
        for gate in self.gates:
            if gate.slices is not None and gate.slices not in self.slices:
                raise SpecProblem(
                    "E_CONFIG", f"the gate on {gate.metric} names slices: {gate.slices}, not in evaluate.slices"
                )
            if gate.metric not in self.metrics:
                raise SpecProblem("E_CONFIG", f"the gate on {gate.metric} needs it in evaluate.metrics")
        return self


class PackageSpec(Part):
    """What the candidate is packed into: processes of this machine, or containers of its Docker Engine."""

    target: Literal["process", "docker"] = "process"
    base_image: ImageRef | None = Field(
        default=None,
        description="for docker: what the image begins with; python:X.Y-slim-bookworm of Shipway's own Python",
    )
    memory_mb: Annotated[int, Field(ge=64, le=4_194_304)] | None = Field(
        default=None, description="a server that outgrows it is ended; 4096 for docker, and no limit for a process"
    )
    pids: Annotated[int, Field(ge=16, le=32_768, description="for docker: processes and threads of a server")] = 512


class ServeSpec(Part):
    """How the service runs."""

    port: Annotated[int, Field(ge=0, le=65535, description="the gateway's port on loopback; 0 chooses one")] = 0
    replicas: Annotated[int, Field(ge=1, le=64)] = 1
    cpus: Annotated[Number, Field(gt=0, le=1024)] | None = None
    timeout_s: Seconds = 10.0


class ErrorsGate(Part):
    """How much worse than stable the canary's error rate may be to be promoted, as a fraction of requests."""

    margin: Annotated[Number, Field(gt=0, lt=1)] = 0.01


class QualityGate(Part):
    """How much lower than stable's the canary's scores may be, in [0, 1]: labels and ratings sent to `/feedback`."""

    margin: Annotated[Number, Field(gt=0, lt=1, description="promote only when a loss of this much is disproven")] = (
        0.02
    )


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
    quantiles: Annotated[tuple[Quantile, ...], AfterValidator(_rising_quantiles)] = (0.5, 0.9, 0.99)

    @model_validator(mode="after")
    def _margin_above_tolerance(self) -> LatencyGate:
        if self.margin is not None and self.margin <= self.tolerance:
            raise SpecProblem("E_THRESHOLD", f"margin {self.margin:g} must exceed the tolerance of {self.tolerance:g}")
        return self


class RolloutGates(Part):
    """What is judged on live traffic."""

    errors: ErrorsGate = ErrorsGate()
    latency: LatencyGate | None = LatencyGate()
    quality: QualityGate | None = None
    drift: DriftGate | None = DriftGate()


class StepSpec(Part):
    """One step of the plan: a share, and whether a person must approve it first."""

    pct: Number
    approve: bool = False


def _as_step(value: Any) -> Any:
    """A bare number is a step that nobody needs to approve."""
    return value if isinstance(value, dict | StepSpec) else {"pct": value}


def _steps(value: tuple[StepSpec, ...]) -> tuple[StepSpec, ...]:
    shares = [step.pct for step in value]
    rising = all(a < b for a, b in pairwise(shares))
    if not shares or not rising or not all(0 < share < 100 for share in shares):
        raise SpecProblem("E_STEPS", f"steps {shares} must rise strictly within (0, 100)")
    return value


class RolloutSpec(Part):
    """How users meet the candidate."""

    steps: Annotated[tuple[Annotated[StepSpec, BeforeValidator(_as_step)], ...], AfterValidator(_steps)] = (
        StepSpec(pct=5),
        StepSpec(pct=25),
        StepSpec(pct=50),
    )
    hold_s: Seconds = 300.0
    look_s: Seconds = 5.0
    lease_s: Seconds = 60.0
    holdback_pct: Annotated[Number, Field(gt=0, lt=100)] = 5.0
    bake_s: Seconds = 900.0
    deadline_s: Seconds = 7200.0
    warmup_s: Seconds = 5.0
    min_step_requests: Annotated[int, Field(ge=1)] = 20
    on_inconclusive: Literal["hold", "rollback", "ask"] = "hold"
    ask_timeout_s: Seconds = 86400.0
    on_undecidable: Annotated[
        Literal["warn", "refuse"],
        Field(description="what happens where the service's traffic is too little to decide before the deadline"),
    ] = "warn"
    advance: Annotated[
        Literal["timetable", "earned"],
        Field(description="timetable: after hold_s · earned: as soon as the next share's harm is affordable"),
    ] = "timetable"
    harm_budget: Annotated[int, Field(ge=1, description="for earned: requests that may fail beyond stable's")] = 20
    slices: Annotated[
        tuple[Attribute, ...],
        AfterValidator(_attributes),
        Field(description="request headers, or body.PATH of a JSON body: errors and latency are judged for each value"),
    ] = ()
    label_s: Annotated[Seconds, Field(description="for how long an answer may be given a label at /feedback")] = 900.0
    alpha: Annotated[Number, Field(gt=0, le=0.5)] = 0.01
    alpha_promote: Annotated[Number, Field(gt=0, le=0.5)] = 0.05
    gates: RolloutGates = RolloutGates()

    @model_validator(mode="after")
    def _times_fit(self) -> RolloutSpec:
        if not self.look_s >= 0.2:
            raise SpecProblem("E_DURATION", "look_s must be at least 200ms")
        if self.lease_s < 6 * self.look_s:
            raise SpecProblem(
                "E_DURATION", f"lease_s {self.lease_s:g} must be at least 6 looks ({6 * self.look_s:g} s)"
            )
        if self.steps[-1].pct > 100 - self.holdback_pct:
            raise SpecProblem("E_STEPS", f"the last step leaves less than holdback_pct {self.holdback_pct:g}")
        if self.deadline_s < len(self.steps) * self.hold_s + self.bake_s:
            raise SpecProblem("E_DURATION", "deadline_s is shorter than all steps and the bake together")
        return self


class ReleaseSpec(Part):
    """What was asked."""

    model: ModelUri
    service: Name
    bootstrap: bool = Field(False, description="true allows a first release, which has no champion to compare with")
    evaluate: EvaluateSpec
    compress: Literal["none", "dynamic-int8"] = "none"
    package: PackageSpec = PackageSpec()
    serve: ServeSpec = ServeSpec()
    rollout: RolloutSpec = RolloutSpec()
    retain: Seconds = 86400.0

    @property
    def model_name(self) -> str:
        """The registered model's name."""
        return re.split("[/@]", self.model.removeprefix("models:/"))[0]

    def digest(self) -> str:
        """What identifies this spec: changes with every value that is not a default."""
        return "sha256:" + hashlib.sha256(json.dumps(self.as_dict(), sort_keys=True).encode()).hexdigest()

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return self.model_dump(mode="json")
