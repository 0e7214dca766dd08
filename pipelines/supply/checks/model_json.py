"""Is this JSON what it seems to everybody who reads it, and does it ask for code?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from pipelines.errors import UnsafeArtifact
from pipelines.supply.checks.strict_json import parse_strict

MAX_DEPTH = 64
_VOCABULARIES = frozenset({"tokenizer.json", "vocab.json", "added_tokens.json"})
"""Their keys are words of a language, not settings."""
_CODE_KEYS = frozenset({"auto_map", "trust_remote_code", "custom_pipelines"})
_KERNEL_KEYS = frozenset({"attn_implementation", "_attn_implementation", "experts_implementation", "use_kernels"})


def load_json(name: str, file: Path, max_bytes: int) -> Any:
    """The value of a strict JSON file: UTF-8, no duplicate key, no NaN, not too deep, not too large."""
    if file.stat().st_size > max_bytes:
        raise _bad(name, f"is larger than {max_bytes:,} bytes")
    try:
        value = parse_strict(file.read_bytes())
    except ValueError as error:
        raise _bad(name, f"is not strict JSON: {error}") from error
    if any(depth > MAX_DEPTH for depth, _, _ in _walk(value)):
        raise _bad(name, f"is nested more than {MAX_DEPTH} deep")
    return value


def check_asks_no_code(name: str, value: Any) -> None:
    """Does a configuration ask transformers to fetch or run code? E_REMOTE_CODE names the key."""
    if PurePosixPath(name).name in _VOCABULARIES:
        return
    for _, key, inner in _walk(value):
        is_hub_kernel = key in _KERNEL_KEYS and (inner is True or (isinstance(inner, str) and "/" in inner))
        if (key in _CODE_KEYS and inner) or is_hub_kernel:
            raise UnsafeArtifact(
                f"{name} asks for code with the key {key!r}",
                code="E_REMOTE_CODE",
                field=key,
                expected="an architecture that transformers knows by itself",
                hint="remove the key if the model does not need it",
            )


def _walk(value: Any) -> Iterator[tuple[int, str, Any]]:
    """Every (depth, key, value) of the containers inside, without recursion."""
    waiting = [(1, value)]
    while waiting:
        depth, current = waiting.pop()
        for key, inner in _entries(current):
            yield depth, key, inner
            if isinstance(inner, dict | list):
                waiting.append((depth + 1, inner))


def _entries(value: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(value, dict):
        return value.items()
    return (("", inner) for inner in value) if isinstance(value, list) else ()


def _bad(name: str, reason: str) -> UnsafeArtifact:
    return UnsafeArtifact(
        f"{name} {reason}"[:300],
        code="E_JSON",
        field=name,
        expected="strict JSON",
        hint="save the model again with save_pretrained",
    )
