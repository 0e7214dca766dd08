"""Does what a model wrote fit the schema that the request asked for?

Schemas come from users: a reference is never fetched, a pattern is matched in linear time, and what is too long, or no
schema at all, is not held against the model. Without `jsonschema-rs` only the JSON itself is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import orjson

MOST_SCHEMA_BYTES = 64 * 1024


def text_problem(text: str, schema: Mapping[str, Any]) -> str:
    """Why a text is not JSON of this schema, or ""."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return f"not JSON: {error}"[:200]
    return "" if _fits(schema)(value) else "its JSON does not fit the schema"


def arguments_problem(name: str, arguments: str, tools: Mapping[str, Mapping[str, Any]]) -> str:
    """Why a tool cannot be called so, or "". A model may call only what it was offered."""
    if name not in tools:
        return f"there is no tool {name[:60]!r}"
    return text_problem(arguments or "{}", tools[name])


def _fits(schema: Mapping[str, Any]) -> Callable[[Any], bool]:
    try:
        written = orjson.dumps(schema, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:  # nested deeper than can be written
        return _anything
    return _validator(written) if len(written) <= MOST_SCHEMA_BYTES else _anything


def _anything(_value: Any) -> bool:
    return True


def schema_problem(schema: Mapping[str, Any]) -> str:
    """Why nothing can be held against a schema, or "": then whatever a model wrote would be called right."""
    try:
        written = orjson.dumps(schema, option=orjson.OPT_SORT_KEYS)
    except (orjson.JSONEncodeError, TypeError) as error:
        return f"it cannot be written: {error}"[:200]
    if len(written) > MOST_SCHEMA_BYTES:
        return f"it has {len(written):,} bytes, and at most {MOST_SCHEMA_BYTES:,} are checked"
    try:
        _made(written)
    except ImportError:
        return "jsonschema-rs is not installed here (pip install 'shipway[llm]')"
    except Exception as error:  # the library has an error of its own for each reason  # noqa: BLE001
        return f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]
    return ""


@lru_cache(maxsize=256)
def _validator(written: bytes) -> Callable[[Any], bool]:
    """Made once for each schema: clients ask with few of them, many times."""
    try:
        import jsonschema_rs
    except ImportError:
        return _anything
    try:
        return _made(written)
    except (ValueError, jsonschema_rs.ReferencingError):
        return _anything


def _made(written: bytes) -> Callable[[Any], bool]:
    import jsonschema_rs

    schema, patterns = orjson.loads(written), jsonschema_rs.RegexOptions()
    made = jsonschema_rs.validator_for(schema, retriever=_fetch_nothing, pattern_options=patterns)
    check: Callable[[Any], bool] = made.is_valid
    return check


def _fetch_nothing(uri: str) -> Any:
    raise ValueError(f"{uri[:100]} is not fetched")
