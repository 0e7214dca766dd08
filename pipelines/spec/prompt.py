"""What is added to each request of a version: a prompt before it, and how its answer is sampled?"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from pipelines.errors import BadInput
from pipelines.records.split import frozen_sampling
from pipelines.spec.values import NAME, Number, Part, SpecProblem
from pipelines.supply.prompt import MOST_CHARACTERS, MOST_MESSAGES, check_template

_PROMPT_URI = re.compile(
    rf"prompts:/(?P<name>{NAME.pattern})(?:/(?P<version>[1-9][0-9]{{0,9}})|@(?P<alias>{NAME.pattern}))"
)

Text = Annotated[str, Field(min_length=1, max_length=MOST_CHARACTERS)]
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=64)]


def _prompt_uri(value: str) -> str:
    if not _PROMPT_URI.fullmatch(value):
        raise SpecProblem("E_PROMPT", f"{value[:80]!r} is not prompts:/NAME/VERSION or prompts:/NAME@ALIAS")
    return value


class MessageSpec(Part):
    """A message that conversations begin with."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Text


class PromptSpec(Part):
    """What comes before what users say: a version in MLflow's prompt registry, or text, or messages.

    Variables are written `{{ name }}`; a request fills them by `prompt_variables: {name: …}`.
    """

    uri: Annotated[str, AfterValidator(_prompt_uri)] | None = Field(
        default=None, description="prompts:/NAME/VERSION or prompts:/NAME@ALIAS; the version is pinned at the start"
    )
    text: Text | None = Field(default=None, description="the system's message; before a prompt that is continued: text")
    messages: Annotated[tuple[MessageSpec, ...], Field(min_length=1, max_length=MOST_MESSAGES)] | None = Field(
        default=None, description="that conversations begin with"
    )
    variables: Annotated[tuple[Variable, ...], Field(max_length=50)] = Field(
        default=(), description="what all callers send in prompt_variables already, besides those of what serves"
    )
    apply: Literal["gateway", "application"] = Field(
        default="gateway",
        description="gateway: each request is rewritten · application: it asks GET /assignment which prompt its user "
        "gets, writes it into the request, and says so in x-shipway-prompt",
    )

    @model_validator(mode="after")
    def _is_one_prompt(self) -> PromptSpec:
        if sum(said is not None for said in (self.uri, self.text, self.messages)) != 1:
            raise SpecProblem("E_PROMPT", "a prompt is one of uri, text and messages")
        if self.uri is None:
            try:
                check_template(self.text or "", self.pairs)
            except BadInput as error:
                raise SpecProblem("E_PROMPT", error.reason) from None
        return self

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Its messages, as role and text."""
        return tuple((message.role, message.content) for message in self.messages or ())


def or_its_uri(schema: dict[str, Any]) -> None:
    """In a file the URI alone is enough (`spec_file.py`)."""
    schema["anyOf"].append({"type": "string", "pattern": "^prompts:/"})


class SamplingSpec(Part):
    """How answers are sampled where a request does not say it, in the words of OpenAI's API."""

    temperature: Annotated[Number, Field(ge=0, le=10)] | None = None
    top_p: Annotated[Number, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, le=100_000, description="0 and -1: all tokens")] | None = None
    min_p: Annotated[Number, Field(ge=0, le=1)] | None = None
    presence_penalty: Annotated[Number, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[Number, Field(ge=-2, le=2)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=1_000_000, description="of an answer")] | None = None
    stop: (
        Annotated[tuple[Annotated[str, Field(min_length=1, max_length=200)], ...], Field(min_length=1, max_length=4)]
        | None
    ) = None
    seed: Annotated[int, Field(ge=0, lt=2**32)] | None = None
    override: bool = Field(default=False, description="true: also where a request says something else")

    @model_validator(mode="after")
    def _samples_something(self) -> SamplingSpec:
        if not self.said:
            raise SpecProblem("E_PROMPT", "sampling says nothing: temperature, top_p, max_tokens, …")
        return self

    @property
    def said(self) -> tuple[tuple[str, Any], ...]:
        """What is said, by name."""
        return frozen_sampling(self.model_dump(exclude={"override"}, exclude_none=True))
