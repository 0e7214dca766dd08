"""Which model judges answers, as an extra beside what rows themselves say?"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipelines.spec.values import Part, Seconds


class JudgeSpec(Part):
    """A model that compares the candidate's answers with the champion's, by OpenAI's API."""

    url: str = Field(description="http(s)://HOST:PORT on loopback, or of a host that SHIPWAY_ENGINES names")
    model: Annotated[str, Field(min_length=1, max_length=200, description="what the endpoint calls it")]
    about: Annotated[str, Field(max_length=2000, description="what makes an answer better, in a sentence or two")] = (
        "Prefer the answer that is more correct and more helpful. Length is no merit."
    )
    rows: Annotated[int, Field(ge=30, le=5000, description="at most so many, spread over all")] = 200
    timeout_s: Annotated[Seconds, Field(gt=0, le=600, description="of one answer")] = 60.0
    parallel: Annotated[int, Field(ge=1, le=64, description="so many are asked at once")] = 4
