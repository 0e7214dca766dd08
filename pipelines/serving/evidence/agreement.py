"""Do two answers to the same question say the same?

What is compared depends on what the model says: the class that a header names; a number in a header; or what the body
of one of the known protocols holds (outputs, predictions, embeddings, texts). Numbers are the same within a tolerance,
and a list of them by its distance, so that an embedding is judged as one thing. Ids and times say nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from pipelines.records.settings import TOLERANCE

CLASS, VALUE = b"x-shipway-class", b"x-shipway-value"


@dataclass(frozen=True)
class Said:
    """What one arm answered. `body` is None where it was a stream, encoded, or longer than is kept."""

    status: int
    named: Mapping[bytes, bytes]
    body: bytes | None


def agreement(stable: Said, canary: Said, tolerance: float = TOLERANCE) -> str:
    """`same`, `other`, `failed` where one arm has no answer, or "" where nothing can be compared."""
    if max(stable.status, canary.status) >= 500:
        return "failed"
    if CLASS in stable.named and CLASS in canary.named:
        return _word(stable.named[CLASS] == canary.named[CLASS])
    if VALUE in stable.named and VALUE in canary.named:
        return _word(_is_alike(_number(stable.named[VALUE]), _number(canary.named[VALUE]), tolerance))
    if stable.body is None or canary.body is None:
        return ""
    expected, found = _content(stable.body), _content(canary.body)
    try:
        return "" if expected is None else _word(_is_alike(expected, found, tolerance))
    except RecursionError:  # lists in lists without an end, which no known model says
        return ""


def _word(is_same: bool) -> str:
    return "same" if is_same else "other"


def _number(text: bytes) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _content(body: bytes) -> Any:
    """What a body says in the words of its protocol: OIP, MLflow or OpenAI; None where it is none of them."""
    try:
        raw = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(raw, dict):
        return None
    if isinstance(outputs := raw.get("outputs"), list):
        return [[_of(output, "name"), _of(output, "data")] for output in outputs]
    if isinstance(choices := raw.get("choices"), list):
        return [_of(choice, "text") or _of(_of(choice, "message"), "content") for choice in choices]
    if isinstance(data := raw.get("data"), list):
        return [_of(one, "embedding") for one in data]
    return raw.get("predictions")


def _of(raw: Any, name: str) -> Any:
    return raw.get(name) if isinstance(raw, dict) else None


def _is_alike(a: Any, b: Any, tolerance: float) -> bool:
    if _is_number(a) and _is_number(b):
        return _are_near([a], [b], tolerance)
    if isinstance(a, str) and isinstance(b, str):
        return a.split() == b.split()
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_is_alike(a[name], b[name], tolerance) for name in a)
    if isinstance(a, list) and isinstance(b, list):
        if len(a) != len(b):
            return False
        if a and all(map(_is_number, a)) and all(map(_is_number, b)):
            return _are_near(a, b, tolerance)
        return all(_is_alike(x, y, tolerance) for x, y in zip(a, b, strict=True))
    return type(a) is type(b) and a == b


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _are_near(a: Sequence[float], b: Sequence[float], tolerance: float) -> bool:
    longer = max(math.hypot(*a), math.hypot(*b))
    return math.dist(a, b) <= tolerance * longer
