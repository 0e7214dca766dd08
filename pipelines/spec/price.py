"""What does an answer cost?"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from pipelines.records.settings import Price
from pipelines.spec.values import Part, SpecProblem

MOST = 1e9


def _price(value: Any) -> Any:
    """Nothing is free: a price of zero would make every candidate as cheap as stable."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 < value <= MOST:
        raise SpecProblem("E_PRICE", f"{value!r:.40} is no price: a number above 0 is expected, up to {MOST:g}")
    return float(value)


Money = Annotated[float, BeforeValidator(_price), Field(gt=0, le=MOST)]


class PriceSpec(Part):
    """Of a million tokens, by what they are; or of one device for an hour."""

    input: Money | None = None
    cached: Money | None = Field(default=None, description="of input tokens that were in a cache; null: as input")
    output: Money | None = None
    gpu_hour: Money | None = Field(default=None, description="of one device: reported, as it is no figure of an answer")
    currency: Annotated[str, Field(pattern=r"^[A-Za-z$€£¥]{1,8}$")] | None = Field(
        default=None, description="for people"
    )

    @model_validator(mode="after")
    def _is_one_price(self) -> PriceSpec:
        by_token = (self.input, self.cached, self.output)
        if self.gpu_hour is not None and by_token != (None, None, None):
            raise SpecProblem("E_PRICE", "a price is of tokens or of gpu_hour, not of both")
        if self.gpu_hour is None and (self.input is None or self.output is None):
            raise SpecProblem("E_PRICE", "a price of tokens names input and output; else name gpu_hour")
        if self.cached is not None and self.input is not None and self.cached > self.input:
            raise SpecProblem("E_PRICE", "what was cached is not dearer than what was not")
        return self

    def of_tokens(self) -> Price | None:
        """The same for the gateway; None where tokens have no price."""
        if self.input is None or self.output is None:
            return None
        return Price(self.input, self.input if self.cached is None else self.cached, self.output)
