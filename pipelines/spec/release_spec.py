"""What was asked for? A `release.yaml`, checked before anything happens.

Unknown keys are refused with the nearest known one. Durations end in `_s` (seconds) and may be written `90`, `90s`,
`5m`, `2h` or `1d`; shares end in `_pct`; everything else says its unit in its name.
"""

from __future__ import annotations

import hashlib
import json
import re
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from evals.gate import Gate
from pipelines.records.settings import TOLERANCE, Shadowing
from pipelines.spec.gates import AlphaShares, GateSpec, RolloutGates
from pipelines.spec.serve import RecordSpec, ReplaySpec
from pipelines.spec.values import (
    Attributes,
    ImageRef,
    MetricName,
    ModelUri,
    Name,
    Number,
    OwnAlias,
    Part,
    RequestPath,
    Seconds,
    SpecProblem,
)


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

    router: Annotated[
        Literal["shipway", "haproxy", "envoy"],
        Field(description="what splits the traffic; haproxy and envoy count requests and errors only"),
    ] = "shipway"
    port: Annotated[int, Field(ge=0, le=65535, description="the gateway's port on loopback; 0 chooses one")] = 0
    replicas: Annotated[int, Field(ge=1, le=64)] = 1
    cpus: Annotated[Number, Field(gt=0, le=1024)] | None = None
    timeout_s: Seconds = 10.0
    gateway_workers: Annotated[int, Field(ge=1, le=64, description="processes of the gateway, for much traffic")] = 1
    drain_s: Annotated[
        Seconds,
        Field(le=3600, description="how long answers may go on when a gateway or a server ends, or a canary goes home"),
    ] = 10.0
    convicted_streams: Annotated[
        Literal["finish", "cut"],
        Field(
            description="whether streams of a canary that is sent home go on for drain_s, or end with an error event"
        ),
    ] = "finish"
    idempotent: Annotated[
        tuple[RequestPath, ...],
        Field(
            max_length=64,
            description="paths, * for any characters, whose requests may be asked twice; those of inference may anyway",
        ),
    ] = ()
    record: RecordSpec | None = Field(
        default=None, description="keep a sample of the requests, for rollout.replay; null: none"
    )


class RegistrySpec(Part):
    """What the service owns in the registry."""

    alias: Annotated[
        OwnAlias,
        Field(description="names the version that serves; services that share a model need one each, as champion-eu"),
    ] = "champion"


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


class AssignSpec(Part):
    """Who is one user: everybody with the same value of a header, cookie or field of a JSON body stays at his arm."""

    by: Literal["header", "cookie", "body"]
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$")]

    @property
    def rule(self) -> str:
        """As a gateway is told."""
        return f"{self.by}:{self.name}"


class ShadowSpec(Part):
    """Which part of stable's requests the canary is asked, too, while it has its share; its answers are dropped."""

    pct: Annotated[Number, Field(gt=0, le=100)] = 10.0
    max_in_flight: Annotated[int, Field(ge=1, le=1024, description="at one time, of each gateway process")] = 16
    tolerance: Annotated[
        Number, Field(ge=0, lt=1, description="numbers and embeddings within this part of their length are the same")
    ] = TOLERANCE

    def shadowing(self) -> Shadowing:
        """The same for the gateway."""
        return Shadowing(self.pct, self.max_in_flight, self.tolerance)


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
    replay: ReplaySpec | None = Field(default=None, description="ask both versions recorded requests before any user")
    min_step_requests: Annotated[int, Field(ge=1)] = Field(
        default_factory=lambda said: 1 if said.get("replay") else 20,
        description="canary requests that a step must have seen: 20, or 1 where recorded requests were replayed",
    )
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
        Attributes,
        Field(description="request headers, or body.PATH of a JSON body: errors and latency are judged for each value"),
    ] = ()
    assign: Annotated[
        AssignSpec | None,
        Field(description="users stay at their arm, and are counted instead of requests; null: each request by chance"),
    ] = None
    shadow: Annotated[
        ShadowSpec | None,
        Field(description="ask the canary copies of stable's requests; compared and reported, never judged"),
    ] = None
    label_s: Annotated[Seconds, Field(description="for how long an answer may be given a label at /feedback")] = 900.0
    alpha: Annotated[Number, Field(gt=0, le=0.5)] = 0.01
    alpha_promote: Annotated[Number, Field(gt=0, le=0.5)] = 0.05
    alpha_shares: AlphaShares = AlphaShares()
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
    registry: RegistrySpec = RegistrySpec()
    rollout: RolloutSpec = RolloutSpec()
    retain: Seconds = 86400.0
    on_busy: Annotated[
        Literal["refuse", "queue", "supersede"],
        Field(
            exclude=True,  # it says how to begin, not what: a release that was begun is found again by any word
            description="while another release runs: refuse · queue: wait, the newest one only · supersede: abort the "
            "other where no user has met it, else refuse",
        ),
    ] = "refuse"

    @model_validator(mode="after")
    def _replays_are_recorded(self) -> ReleaseSpec:
        if self.rollout.replay and not self.serve.record:
            raise SpecProblem("E_CONFIG", "rollout.replay needs serve.record, which keeps the requests")
        return self

    @property
    def model_name(self) -> str:
        """The registered model's name."""
        return re.split("[/@]", self.model.removeprefix("models:/"))[0]

    def offline_gates(self) -> tuple[Gate, ...]:
        """What must hold on the evaluation's rows: its own gates, and the one on quality that live labels meet, too."""
        own = tuple(gate.gate() for gate in self.evaluate.gates)
        quality = self.rollout.gates.quality
        said = {gate.metric for gate in own if gate.margin is not None and gate.slices is None}
        if quality is None or quality.metric is None or quality.metric in said:
            return own
        return (*own, Gate(quality.metric, margin=quality.margin))

    @model_validator(mode="after")
    def _quality_is_measured(self) -> ReleaseSpec:
        quality = self.rollout.gates.quality
        if quality and quality.metric and quality.metric not in self.evaluate.metrics:
            raise SpecProblem("E_CONFIG", f"rollout.gates.quality needs {quality.metric} in evaluate.metrics")
        return self

    def digest(self) -> str:
        """What identifies this spec: changes with every value that is not a default, except `on_busy`."""
        facts = self.as_dict()
        if self.registry == RegistrySpec():
            del facts["registry"]  # a release that an older Shipway began is found again
        return "sha256:" + hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return self.model_dump(mode="json")
