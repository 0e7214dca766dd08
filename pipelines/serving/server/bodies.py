"""What is JSON in a body, and how is an error written? What the JSON asks is known by the model's task."""

from __future__ import annotations

import json
from typing import Any

import orjson

from pipelines.errors import BadInput


def parse_json(body: bytes) -> Any:
    """The JSON of a body. BadInput where it is empty, not JSON, nested too deep, or holds text that is no text."""
    if not body.strip():
        raise BadInput("the body is empty", code="E_BODY", field="body", expected="JSON")
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadInput(f"the body is not JSON: {error}"[:200], code="E_BODY", field="body", expected="JSON") from None


def error_answer(error: BadInput) -> bytes:
    """An error's JSON; what cannot be written as UTF-8 is escaped."""
    return json.dumps({"error": error.as_dict()}).encode()
