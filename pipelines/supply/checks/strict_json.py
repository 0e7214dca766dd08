"""What does this JSON say, if it says the same to every reader?"""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

MOST_VALUES = 3_000_000
"""A small container costs a hundred times its bytes, so sizes alone bound no memory. The largest vocabularies that are
known, of a million words, hold nine tenths of that."""


class DuplicateKey(ValueError):
    """A key stands twice in one object: which of them counts is anybody's guess."""

    def __init__(self, key: str) -> None:
        super().__init__(f"duplicate key {key[:60]!r}")
        self.key = key


def parse_strict(raw: bytes) -> Any:
    """The value of UTF-8 JSON without duplicate keys, NaN, endless nesting or very many values. Raises ValueError."""
    if sum(raw.count(mark) for mark in (b"[", b"{", b",")) > MOST_VALUES:
        raise ValueError(f"it holds more than {MOST_VALUES:,} values")
    try:
        return json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=without_duplicates,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these pairs, for `json.loads`. Raises DuplicateKey."""
    value = dict(pairs)
    if len(value) != len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise DuplicateKey(twice)
    return value


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is not a JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is not a finite number")
    return value
