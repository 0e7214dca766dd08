"""How does the service run, and which of its requests are kept?"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from pipelines.records.settings import (
    GatewaySettings,
    Objective,
    Promise,
    ServerSettings,
    keys_of,
    readable_by_older,
)
from pipelines.spec.engine import EngineSpec
from pipelines.spec.package import PackageSpec
from pipelines.spec.price import PriceSpec
from pipelines.spec.record import RecordSpec
from pipelines.spec.rollout import RolloutSpec
from pipelines.spec.values import Attribute, Number, Part, RequestPath, Seconds, SpecProblem

CONTAINER_MEMORY_MB = 4096
"""A container without a limit could take the machine down with all other servers."""


class PromiseSpec(Part):
    """What is promised of each answer of a language model: a request meets it, or not. null: no promise."""

    ttft_s: Annotated[Seconds, Field(gt=0, description="to the first token")] | None = None
    tpot_s: Annotated[Seconds, Field(gt=0, description="per output token after the first")] | None = None
    e2e_s: Annotated[Seconds, Field(gt=0, description="to the end of the answer")] | None = None

    @model_validator(mode="after")
    def _promises_something(self) -> PromiseSpec:
        if (self.ttft_s, self.tpot_s, self.e2e_s) == (None, None, None):
            raise ValueError("an objective promises ttft, tpot or e2e")
        return self

    def promise(self) -> Promise:
        """The same for the gateway."""
        return Promise(self.ttft_s, self.tpot_s, self.e2e_s)


class ObjectiveSpec(PromiseSpec):
    """What the service promises, and what it promises to other classes of traffic instead."""

    by: Attribute | None = Field(
        default=None, description="a header, or body.PATH of a JSON body, whose value is the class of a request"
    )
    classes: Annotated[dict[str, PromiseSpec], Field(max_length=32)] = Field(
        default_factory=dict, description="by value; every other request is promised what stands beside"
    )

    @model_validator(mode="after")
    def _classes_are_told_apart(self) -> ObjectiveSpec:
        if bool(self.classes) != bool(self.by):
            raise SpecProblem("E_CONFIG", "objective.classes needs objective.by, which tells them apart")
        return self

    @model_serializer(mode="wrap")
    def _as_ever(self, dumped: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A key that came later is written where it is said."""
        return {key: value for key, value in dumped(self).items() if value or key not in {"by", "classes"}}

    def objective(self) -> Objective:
        """The same for the gateway."""
        classes = {name: one.promise() for name, one in self.classes.items()}
        return Objective(self.ttft_s, self.tpot_s, self.e2e_s, self.by or "", classes)


class ServeSpec(EngineSpec):
    """How the service runs."""

    router: Annotated[
        Literal["shipway", "haproxy", "envoy"],
        Field(description="what splits the traffic; haproxy and envoy count requests and errors only"),
    ] = GatewaySettings.router
    port: Annotated[int, Field(ge=0, le=65535, description="the gateway's port on loopback; 0 chooses one")] = 0
    replicas: Annotated[int, Field(ge=1, le=64)] = 1
    cpus: Annotated[Number, Field(gt=0, le=1024)] | None = None
    timeout_s: Seconds = GatewaySettings.timeout_s
    gateway_workers: Annotated[int, Field(ge=1, le=64, description="processes of the gateway, for much traffic")] = (
        GatewaySettings.workers
    )
    drain_s: Annotated[
        Seconds,
        Field(le=3600, description="how long answers may go on when a gateway or a server ends, or a canary goes home"),
    ] = GatewaySettings.drain_s
    convicted_streams: Annotated[
        Literal["finish", "cut"],
        Field(description="whether streams of a canary that is sent home go on for drain, or end with an error event"),
    ] = GatewaySettings.convicted_streams
    idempotent: Annotated[
        tuple[RequestPath, ...],
        Field(
            max_length=64,
            description="paths, * for any characters, whose requests may be asked twice; those of inference may anyway",
        ),
    ] = GatewaySettings.idempotent
    record: RecordSpec | None = Field(
        default=None, description="keep a sample of the requests, for rollout.replay; null: none"
    )
    metrics: Annotated[
        Literal["private", "public"],
        Field(
            description="what /metrics answers at the gateway's port: 404, or what it counts, the arms' shares included"
        ),
    ] = GatewaySettings.metrics
    arm_header: Annotated[
        bool, Field(description="whether answers say x-shipway-arm and x-shipway-model-version to clients")
    ] = GatewaySettings.arm_header
    api: Annotated[
        Literal["inference", "openai"],
        Field(
            description="what callers speak; openai: the gateway follows the answers of language models (docs/llm.md)"
        ),
    ] = GatewaySettings.api
    borderline: Annotated[
        Literal["pass", "refuse"],
        Field(
            description="of language models: requests that engines answer differently, as max_tokens: 0, are passed on "
            "and are nobody's evidence, or refused with 400 whichever arm would answer"
        ),
    ] = GatewaySettings.borderline
    objective: ObjectiveSpec | None = Field(
        default=None, description="what each answer of a language model should meet, for rollout.gates.goodput"
    )

    price: PriceSpec | None = Field(
        default=None, description="what tokens of a language model cost: reported, and judged by rollout.gates.cost"
    )
    tenant: Attribute | None = Field(
        default=None, description="a header, or body.PATH, that says for whom a request is: tokens are counted by it"
    )

    @model_serializer(mode="wrap")
    def _as_ever(self, dumped: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A key that came later is written where it is said: a release that an older Shipway began is found again."""
        usual = {**EngineSpec.usual(), "price": None, "tenant": None}
        return {k: v for k, v in readable_by_older(dumped(self)).items() if k not in usual or v != usual[k]}


def gateway_settings(serve: ServeSpec, rollout: RolloutSpec) -> GatewaySettings:
    """How does the gateway behave that this spec asks for? A key that both call the same needs no word here."""
    said = {
        key: getattr(part, key) for part in (serve, rollout) for key in keys_of(GatewaySettings) if hasattr(part, key)
    }
    return GatewaySettings(
        **{
            **said,
            "workers": serve.gateway_workers,
            "record": serve.record.recording() if serve.record else None,
            "assign": rollout.assign.rule if rollout.assign else "",
            "shadow": rollout.shadow.shadowing() if rollout.shadow else None,
            "objective": serve.objective.objective() if serve.objective else None,
            "price": serve.price.of_tokens() if serve.price else None,
            "tenant": serve.tenant or "",
        }
    )


def server_settings(serve: ServeSpec, package: PackageSpec, *, is_contained: bool) -> ServerSettings:
    """How do the servers of a candidate behave? Their `cpus` are the service's, for all its servers alike."""
    memory_mb = package.memory_mb or (CONTAINER_MEMORY_MB if is_contained else 0)
    return ServerSettings(None, memory_mb, package.pids if is_contained else 0, serve.drain_s, serve.place)
