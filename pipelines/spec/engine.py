"""Which program answers for a model that generates, and how is it told?"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from pipelines.spec.values import ImageRef, Part, SpecProblem

EngineName = Literal["auto", "llamacpp", "vllm"]
BROUGHT = frozenset({"vllm"})
"""Engines that live in an environment of their own."""

_BY_DIGEST = re.compile(r"([^/@]+/)*[^:/@]+@sha256:[0-9a-f]{64}")
MOST_ARGS = 64
ArgName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$", max_length=64)]
Arg = bool | int | float | Annotated[str, Field(max_length=1000)]


class ParallelSpec(Part):
    """Over which devices an engine spreads a model: a part of what is released, as other sums answer otherwise."""

    tensor: Annotated[int, Field(ge=1, le=64, description="devices that share each layer")] = 1
    pipeline: Annotated[int, Field(ge=1, le=64, description="groups of them, one after the other; for many hosts")] = 1
    replicas: Annotated[int, Field(ge=1, le=64, description="of the whole, in one engine")] = 1

    @property
    def devices(self) -> int:
        """How many it takes."""
        return self.tensor * self.pipeline * self.replicas


class EngineSpec(Part):
    """Which engine serves: a part of what is released, as another version of it answers otherwise.

    One that is brought lives in an environment or in an image, or somebody else runs it at a URL.
    """

    engine: Annotated[
        EngineName,
        Field(description="auto: what a model's task is served by, llamacpp for language models"),
    ] = "auto"
    python: Annotated[
        str | None,
        Field(pattern=r"^/", max_length=1000, description="for vllm: the Python of the environment that it lives in"),
    ] = None
    url: Annotated[
        str | None,
        Field(
            pattern=r"^https?://",
            max_length=1000,
            description="for vllm: where one answers that somebody else starts and ends, with its own router",
        ),
    ] = None
    image: ImageRef | None = Field(
        default=None,
        description="for vllm: NAME@sha256:… of an image on this machine, whose python3 has it; a tag may be moved",
    )
    version: Annotated[
        str | None,
        Field(
            pattern=r"^[0-9A-Za-z][0-9A-Za-z.+_-]*$",
            max_length=100,
            description="for vllm: the version that must be there; for a url that does not tell one, the one to record",
        ),
    ] = None
    args: Annotated[
        dict[ArgName, Arg],
        Field(
            max_length=MOST_ARGS,
            description="llamacpp: context, slots, batch, seed · vllm: its flags, as max-model-len: 4096; what answers "
            "at a url is not told them: they record what it was told",
        ),
    ] = Field(default_factory=dict)

    parallel: Annotated[
        ParallelSpec, Field(description="for vllm: over which devices; `shipway plan` proposes what fits")
    ] = ParallelSpec()
    model_names: Annotated[
        tuple[Annotated[str, Field(pattern=r"^[!-~]+$", max_length=200)], ...],
        Field(max_length=16, description="what callers call the model, besides the service's name"),
    ] = ()

    @model_validator(mode="after")
    def _is_brought(self) -> EngineSpec:
        ways = [way for way in (self.python, self.url, self.image) if way is not None]
        if self.engine not in BROUGHT and (ways or self.version):
            names = " or ".join(sorted(BROUGHT))
            raise SpecProblem("E_ENGINE", f"serve.python, url, image and version are of {names}: serve.engine: {names}")
        if self.engine not in BROUGHT and self.parallel != ParallelSpec():
            raise SpecProblem("E_ENGINE", f"serve.parallel is of {' or '.join(sorted(BROUGHT))}: others use one device")
        if self.engine in BROUGHT and len(ways) != 1:
            raise SpecProblem(
                "E_ENGINE", f"{self.engine} is brought in one way: serve.python, serve.image or serve.url"
            )
        if self.image is not None and not _BY_DIGEST.fullmatch(self.image):
            raise SpecProblem("E_ENGINE", f"serve.image is NAME@sha256:… and no tag, which may be moved: {self.image}")
        return self

    @property
    def place(self) -> str:
        """Where an engine that is brought lives; "" for Shipway's own."""
        return self.python or self.image or self.url or ""

    @classmethod
    def usual(cls) -> dict[str, Any]:
        """What is not written where nothing was said: a release that an older Shipway began is found again."""
        return cls().model_dump(mode="json", by_alias=False)
