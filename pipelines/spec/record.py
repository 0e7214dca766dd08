"""Which requests of a service are kept, without what, and for how long?"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from pipelines.records.settings import OWN_KINDS, ForeignKind, OwnKind, Recording
from pipelines.spec.values import Attribute, Name, Part, Seconds, SpecProblem

MOST_RECORDED_BYTES = 4 * 1024**3
MOST_PATTERNS = 50
LEAST_RETAIN_S = 60.0


def _pattern(value: str) -> str:
    """One that compiles, and does not find nothing everywhere."""
    try:
        compiled = re.compile(value)
    except (re.error, OverflowError, RecursionError) as error:
        raise SpecProblem("E_PATTERN", f"{value[:60]!r} is no regular expression: {error}") from None
    if compiled.match("") is not None:
        raise SpecProblem("E_PATTERN", f"{value[:60]!r} matches an empty text, so it says nothing")
    return value


Pattern = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_pattern)]


class RecordSpec(Part):
    """Which requests of this service are kept: what clients sent, never an answer, never a credential."""

    share: Annotated[float, Field(gt=0, le=1, description="the part of all inference requests that is kept")] = (
        Recording.share
    )
    keep: Annotated[int, Field(ge=1, le=100_000, description="the newest so many; older ones are removed")] = (
        Recording.keep
    )
    redact: Annotated[
        tuple[Attribute, ...],
        Field(max_length=50, description="headers, and body.PATH of a JSON body, whose values are not kept"),
    ] = Recording.redact
    max_body_bytes: Annotated[int, Field(ge=1, le=1_048_576, description="larger requests are not kept")] = (
        Recording.max_body_bytes
    )
    recognise: Annotated[
        tuple[Literal[OwnKind, ForeignKind], ...],
        Field(
            description="what is taken out of every text before it is kept, by its form; names of people are not "
            "found. Kinds in capitals are presidio's, and need shipway[privacy]"
        ),
    ] = OWN_KINDS  # type: ignore[assignment]  # the same names
    patterns: Annotated[
        dict[Name, Pattern],
        Field(max_length=MOST_PATTERNS, description="what else is taken out: regular expressions by name"),
    ] = Field(default_factory=dict)
    retain_s: Annotated[
        Seconds, Field(ge=LEAST_RETAIN_S, description="how long a request is kept, whether or not others come")
    ] = Recording.retain_s

    @field_validator("redact")
    @classmethod
    def _names_parts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if "body" in value:  # it would be read as a header's name, and redact nothing
            raise ValueError("'body' is no header: name fields of it, as body.PATH")
        return value

    @model_validator(mode="after")
    def _fits_the_disk(self) -> RecordSpec:
        if self.keep * self.max_body_bytes > MOST_RECORDED_BYTES:
            raise ValueError(f"keep times max_body_bytes is more than {MOST_RECORDED_BYTES} bytes")
        return self

    @model_serializer(mode="wrap")
    def _as_ever(self, dumped: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A key that came later is written where it is said."""
        usual = {"recognise": list(OWN_KINDS), "patterns": {}, "retain_s": Recording.retain_s}
        return {key: value for key, value in dumped(self).items() if key not in usual or value != usual[key]}

    def recording(self) -> Recording:
        """The same for the gateway."""
        return Recording(
            self.share, self.keep, self.redact, self.max_body_bytes, self.recognise, self.patterns, self.retain_s
        )
