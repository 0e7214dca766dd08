"""What was asked for? A `release.yaml`, checked before anything happens.

Unknown keys are refused with the nearest known one. Durations are seconds, or say their unit: `90`, `90s`, `5m`, `2h`
or `1d`; shares end in `_pct`; every other number says its unit in its name.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from evals.gate import Gate
from pipelines.spec.evaluate import EvaluateSpec
from pipelines.spec.package import PackageSpec
from pipelines.spec.prompt import PromptSpec, SamplingSpec, or_its_uri
from pipelines.spec.rollout import RolloutSpec
from pipelines.spec.serve import ServeSpec
from pipelines.spec.values import (
    LanguageMetric,
    ModelUri,
    Name,
    OwnAlias,
    Part,
    Seconds,
    SpecProblem,
)

LATER = ("prompt", "sampling")
"""What was added to a form that is recorded."""


class RegistrySpec(Part):
    """What the service owns in the registry."""

    alias: Annotated[
        OwnAlias,
        Field(description="names the version that serves; services that share a model need one each, as champion-eu"),
    ] = "champion"


class ReleaseSpec(Part):
    """What was asked."""

    model: ModelUri
    service: Name
    bootstrap: bool = Field(False, description="true allows a first release, which has no champion to compare with")
    evaluate: EvaluateSpec
    compress: Literal["none", "dynamic-int8", "gguf-f16", "gguf-f32", "gguf-q8_0"] = Field(
        "none",
        description="a variant ships where the same gates accept it, asked one row at a time, and where it is at least "
        "10 % smaller, or 5 % faster for one text; the source ships otherwise. gguf-… are of language models",
    )
    package: PackageSpec = PackageSpec()
    serve: ServeSpec = ServeSpec()
    registry: RegistrySpec = RegistrySpec()
    rollout: RolloutSpec = RolloutSpec()
    prompt: PromptSpec | None = Field(
        default=None,
        description="of language models: what comes before what users say, as prompts:/NAME/VERSION",
        json_schema_extra=or_its_uri,
    )
    sampling: SamplingSpec | None = Field(default=None, description="of language models: how answers are sampled")
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

    @model_validator(mode="after")
    def _answers_are_followed(self) -> ReleaseSpec:
        serve, gates = self.serve, self.rollout.gates
        if serve.api != "openai" and (serve.objective or gates.goodput or gates.answers or gates.length):
            raise SpecProblem(
                "E_CONFIG", "objective, goodput, answers and length are of language models: serve.api: openai"
            )
        if gates.goodput and not serve.objective:
            raise SpecProblem("E_CONFIG", "rollout.gates.goodput needs serve.objective, which says what is good")
        return self

    @model_validator(mode="after")
    def _costs_are_known(self) -> ReleaseSpec:
        serve, gate = self.serve, self.rollout.gates.cost
        if serve.api != "openai" and (serve.price or serve.tenant or gate):
            raise SpecProblem("E_CONFIG", "price, tenant and cost are of language models: serve.api: openai")
        if gate and self.rollout.assign:
            raise SpecProblem("E_CONFIG", "rollout.gates.cost is of answers; with rollout.assign users are counted")
        if gate and not (serve.price and serve.price.of_tokens()):
            why = "an hour of a device is no figure of one answer" if serve.price else "it says what an answer costs"
            raise SpecProblem("E_PRICE", f"rollout.gates.cost needs serve.price of tokens: {why}")
        return self

    @model_validator(mode="after")
    def _requests_can_be_rewritten(self) -> ReleaseSpec:
        serve, prompt = self.serve, self.prompt
        if (prompt or self.sampling) and serve.api != "openai":
            raise SpecProblem("E_PROMPT", "a prompt and sampling are of language models: serve.api: openai")
        if prompt and prompt.apply == "application" and not self.rollout.assign:
            raise SpecProblem("E_PROMPT", "prompt.apply: application needs rollout.assign, which keeps users at an arm")
        if (prompt or self.sampling) and serve.router != "shipway":
            raise SpecProblem("E_PROMPT", f"{serve.router} rewrites no requests: serve.router: shipway")
        return self

    @model_serializer(mode="wrap")
    def _as_ever(self, dumped: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A key that came later is written where it is said: a release that an older Shipway began is found again."""
        return {key: value for key, value in dumped(self).items() if value is not None or key not in LATER}

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
        is_asked = quality is None or quality.metric in {None, *self.evaluate.metrics, *get_args(LanguageMetric)}
        if quality and not is_asked:
            raise SpecProblem("E_CONFIG", f"rollout.gates.quality needs {quality.metric} in evaluate.metrics")
        return self

    def digest(self) -> str:
        """What identifies this spec: changes with every value that is not a default, except `on_busy`."""
        facts = self.as_dict()
        if self.registry == RegistrySpec():
            del facts["registry"]  # a release that an older Shipway began is found again
        return "sha256:" + hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data, as the ledger keeps it: durations by names that end in `_s`, as in every older record."""
        return self.model_dump(mode="json", by_alias=False)
