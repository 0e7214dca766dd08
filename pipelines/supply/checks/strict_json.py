"""What does this JSON say, if it says the same to every reader?"""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

MOST_VALUES = 3_000_000
"""A small container costs a hundred times its bytes, so sizes alone bound no memory. The largest vocabularies that are
known, of a million words, hold nine tenths of that."""


def parse_strict(raw: bytes) -> Any:
    """The value of UTF-8 JSON without duplicate keys, NaN, endless nesting or very many values. Raises ValueError."""
    if sum(raw.count(mark) for mark in (b"[", b"{", b",")) > MOST_VALUES:
        raise ValueError(f"it holds more than {MOST_VALUES:,} values")
    try:
        return json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_without_duplicates,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"duplicate key {twice[:60]!r}")
    return value


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is not a JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is not a finite number")
    return value
