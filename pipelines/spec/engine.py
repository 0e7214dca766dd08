"""Which program answers for a model that generates, and how is it told?"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from pipelines.spec.values import Part, SpecProblem

EngineName = Literal["auto", "llamacpp", "vllm"]
BROUGHT = frozenset({"vllm"})
"""Engines that live in an environment of their own."""

MOST_ARGS = 64
ArgName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$", max_length=64)]
Arg = bool | int | float | Annotated[str, Field(max_length=1000)]


class EngineSpec(Part):
    """Which engine serves: a part of what is released, as another version of it answers otherwise."""

    engine: Annotated[
        EngineName,
        Field(description="auto: what a model's task is served by, llamacpp for language models"),
    ] = "auto"
    python: Annotated[
        str | None,
        Field(pattern=r"^/", max_length=1000, description="for vllm: the Python of the environment that it lives in"),
    ] = None
    args: Annotated[
        dict[ArgName, Arg],
        Field(
            max_length=MOST_ARGS,
            description="llamacpp: context, slots, batch, seed · vllm: its flags, as max-model-len: 4096",
        ),
    ] = Field(default_factory=dict)

    model_names: Annotated[
        tuple[Annotated[str, Field(pattern=r"^[!-~]+$", max_length=200)], ...],
        Field(max_length=16, description="what callers call the model, besides the service's name"),
    ] = ()

    @model_validator(mode="after")
    def _is_brought(self) -> EngineSpec:
        if (self.engine in BROUGHT) != (self.python is not None):
            raise SpecProblem("E_ENGINE", f"serve.python names the Python of {' or '.join(sorted(BROUGHT))}")
        return self

    @classmethod
    def usual(cls) -> dict[str, Any]:
        """What is not written where nothing was said: a release that an older Shipway began is found again."""
        return cls().model_dump(mode="json", by_alias=False)
