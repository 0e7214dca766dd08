"""Which values may stand in a `release.yaml`? Each kind of them is refused with a code of its own."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9])?")
"""Names of models, services, aliases: ASCII, 1 to 128 characters, no path or shell characters."""

_MODEL_URI = re.compile(
    rf"models:/(?P<name>{NAME.pattern})(?:/(?P<version>[1-9][0-9]{{0,9}})|@(?P<alias>{NAME.pattern}))"
)
_RESERVED_ALIAS = re.compile(r"latest|v[0-9]+|previous-.*", re.IGNORECASE)
MOST_ALIAS = 100
_IMAGE_REF = re.compile(
    r"(?=.{1,255}$)([a-z0-9]+([.-][a-z0-9]+)*(:\d{1,5})?/)?[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*"
    r"(:[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?(@sha256:[0-9a-f]{64})?"
)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
MOST_ATTRIBUTES = 5
MAX_DURATION_S = 30 * 86400.0


class SpecProblem(ValueError):
    """A field's value is wrong: carries the stable code that the command line prints."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def _name(value: str) -> str:
    if not NAME.fullmatch(value) or ".." in value:
        raise SpecProblem("E_NAME", f"{value[:60]!r} is not a name: 1-128 of A-Z a-z 0-9 . _ - without '..'")
    return value


def _model_uri(value: str) -> str:
    match = _MODEL_URI.fullmatch(value)
    if match is None or ".." in value:
        raise SpecProblem(_uri_code(value), f"{value[:80]!r} is not models:/NAME/VERSION or models:/NAME@ALIAS")
    return value


def _uri_code(value: str) -> str:
    name, _, rest = value.removeprefix("models:/").partition("/")
    if value.startswith("models:/") and NAME.fullmatch(name) and rest:
        return "E_VERSION"
    name, at, _ = value.removeprefix("models:/").partition("@")
    return "E_ALIAS" if at and NAME.fullmatch(name) else "E_NAME"


def _own_alias(value: str) -> str:
    """`latest` and `v3` are the registry's own; `previous-…` is what every alias has beside it."""
    if not NAME.fullmatch(value) or len(value) > MOST_ALIAS or _RESERVED_ALIAS.fullmatch(value):
        raise SpecProblem(
            "E_ALIAS",
            f"{value[:60]!r} is no alias of a service: 1-{MOST_ALIAS} letters, digits, . _ -, not 'latest'",
        )
    return value


def _image_ref(value: str) -> str:
    if not _IMAGE_REF.fullmatch(value):
        raise SpecProblem(
            "E_IMAGE", f"{value[:80]!r} is not an image: [HOST[:PORT]/]name[:tag][@sha256:64 hex digits], in lower case"
        )
    return value


def _seconds(value: Any) -> Any:
    """Durations are numbers of seconds, or text with a unit."""
    if isinstance(value, str):
        match = _DURATION.fullmatch(value.strip())
        if match is None:
            raise SpecProblem("E_DURATION", f"{value[:40]!r} is not a duration such as 90s, 5m, 2h or 1d")
        value = float(match[1]) * _UNIT_S[match[2]]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_DURATION_S:
        raise SpecProblem("E_DURATION", f"{value!r} is not a duration between 0 and 30 days")
    return float(value)


def _strict_number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise SpecProblem("E_THRESHOLD", f"{value!r} is not a finite number")
    return value


def _rising_quantiles(value: tuple[float, ...]) -> tuple[float, ...]:
    if not value or not all(a < b for a, b in pairwise(value)):
        raise SpecProblem("E_THRESHOLD", f"quantiles {list(value)} must rise strictly within (0, 1)")
    return value


def _attributes(value: tuple[str, ...]) -> tuple[str, ...]:
    if len(value) > MOST_ATTRIBUTES or len(set(value)) < len(value):
        raise SpecProblem("E_CONFIG", f"slices {list(value)[:10]} must be different, and at most {MOST_ATTRIBUTES}")
    return value


Name = Annotated[str, AfterValidator(_name)]
OwnAlias = Annotated[str, AfterValidator(_own_alias)]
ImageRef = Annotated[str, AfterValidator(_image_ref)]
ModelUri = Annotated[str, AfterValidator(_model_uri)]
_Duration = float | Annotated[str, Field(pattern=f"^{_DURATION.pattern}$")]
Seconds = Annotated[float, BeforeValidator(_seconds, json_schema_input_type=_Duration)]
Number = Annotated[float, BeforeValidator(_strict_number)]
Quantile = Annotated[Number, Field(gt=0, lt=1)]
Quantiles = Annotated[tuple[Quantile, ...], AfterValidator(_rising_quantiles)]
Attribute = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^(body(\.[A-Za-z0-9_-]+)+|[A-Za-z0-9-]+)$")]
Attributes = Annotated[tuple[Attribute, ...], AfterValidator(_attributes)]
RequestPath = Annotated[str, Field(pattern=r"^/[!-+\--~]*$", max_length=200, description="no comma, no space")]
ClassifierMetric = Literal["accuracy", "macro_f1", "ece"]
LanguageMetric = Literal[
    "exact_match", "regex_match", "finished", "valid_json", "valid_tool_call", "choice", "choice_norm", "chrf",
    "rouge_l", "perplexity", "bits_per_byte", "kl", "top1_agreement", "judge",
]  # fmt: skip
CostMetric = Literal["latency_p50_ms", "latency_p95_ms", "size_mb"]
MetricName = Literal[ClassifierMetric, LanguageMetric, CostMetric]


def spec_key(attribute: str) -> str:
    """What does a `release.yaml` call this attribute? A duration carries its unit in its value: `hold: 5m`."""
    return attribute.removesuffix("_s")


def _show_former_keys(schema: dict[str, Any], part: type[BaseModel]) -> None:
    """An editor accepts them, and says what they are called now."""
    for name in part.model_fields:
        if (key := spec_key(name)) != name:
            schema["properties"][name] = {"deprecated": True, "description": f"now {key}"}


class Part(BaseModel):
    """A frozen piece of the spec that knows all of its keys.

    Attributes of type Seconds end in `_s`, as they do in every record. So did their keys in the specs of earlier
    releases, which is why a spec may name them either way (not both ways at once).
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        alias_generator=spec_key,
        populate_by_name=True,
        json_schema_extra=_show_former_keys,
    )
