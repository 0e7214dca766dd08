"""What may be asked for about recorded requests: which are kept, and which are asked again before a release's users?"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator, model_validator

from pipelines.records.settings import Recording
from pipelines.spec.values import Attribute, Part

MOST_RECORDED_BYTES = 4 * 1024**3


class RecordSpec(Part):
    """Which requests of this service are kept: what clients sent, never an answer, never a credential."""

    share: Annotated[float, Field(gt=0, le=1, description="the part of all inference requests that is kept")] = 0.1
    keep: Annotated[int, Field(ge=1, le=100_000, description="the newest so many; older ones are removed")] = 1000
    redact: Annotated[
        tuple[Attribute, ...],
        Field(max_length=50, description="headers, and body.PATH of a JSON body, whose values are not kept"),
    ] = ()
    max_body_bytes: Annotated[int, Field(ge=1, le=1_048_576, description="larger requests are not kept")] = 65_536

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

    def recording(self) -> Recording:
        """The same for the gateway."""
        return Recording(self.share, self.keep, self.redact, self.max_body_bytes)


class ReplaySpec(Part):
    """Recorded requests that are asked of both versions before the first users, and judged pair by pair."""

    requests: Annotated[int, Field(ge=2, le=100_000, description="each is asked once; fewer where fewer are kept")] = (
        500
    )
    concurrency: Annotated[int, Field(ge=1, le=16, description="pairs at one time; stable has its users meanwhile")] = 2
