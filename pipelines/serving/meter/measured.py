"""What was one answer of a language model, in numbers?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Measured:
    """What one answer was. Times are in ms; None where there is nothing to time.

    `why_failed` is "" for a whole answer. `marks` names what is wrong with an answer that came whole, `could_be` what
    could have been wrong with it: an answer that need not be JSON is no evidence on JSON.
    """

    is_stream: bool
    why_failed: str
    first_token_ms: float | None
    first_delta_ms: float | None
    per_token_ms: float | None
    longest_gap_ms: float
    whole_ms: float
    tokens_in: int
    tokens_cached: int
    tokens_out: int
    is_counted_by_engine: bool
    finish: tuple[str, ...]
    marks: frozenset[str]
    could_be: frozenset[str]


def in_ms(seconds: float) -> float | None:
    """Seconds as ms; None for what never came, which is below 0."""
    return seconds * 1000 if seconds >= 0 else None


def tokens_of(usage: Mapping[str, Any] | None) -> tuple[int, int, int | None]:
    """Tokens in, of those cached, and out, as the engine counts them; chats and responses name them differently."""
    if not isinstance(usage, dict):
        return 0, 0, None
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else 0
    tokens_in = _count(usage.get("prompt_tokens", usage.get("input_tokens")))
    tokens_out = usage.get("completion_tokens", usage.get("output_tokens"))
    return tokens_in, min(tokens_in, _count(cached)), _count(tokens_out) if tokens_out is not None else None


def _count(value: Any) -> int:
    """A number of tokens; nonsense counts nothing."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 40 else 0
