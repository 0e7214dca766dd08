"""Which slices does a request belong to, by the attributes that the service declared?

An attribute is a header's name, or `body.` and the dotted path of a field in a JSON body.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from evals.signals.counting import MOST_SLICES
from pipelines.serving.privacy.redactor import Redactor

IN_BODY = "body."
LONGEST = 64
OTHER = "other values"


class Attributes:
    """The declared attributes, and the values that were seen: at most as many as are judged, the rest is one value."""

    def __init__(self, names: Sequence[str] = ()) -> None:
        self._headers = tuple(name for name in names if not name.startswith(IN_BODY))
        self._paths = {name: name.removeprefix(IN_BODY).split(".") for name in names if name.startswith(IN_BODY)}
        self._seen: dict[str, str] = {}
        self.are_declared = bool(names)

    def slices_of(self, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> tuple[str, ...]:
        """`attribute=value` for each attribute that the request has; the names of its headers are in lower case."""
        values: dict[str, Any] = {}
        if self._headers:
            named = dict(reversed(headers))
            found = {name: named.get(name.lower().encode()) for name in self._headers}
            values = {name: value.decode(errors="replace") for name, value in found.items() if value is not None}
        if self._paths and body:
            parsed = _parsed(body)
            values |= {name: _field(parsed, path) for name, path in self._paths.items()}
        return tuple(self._named(name, value) for name, value in values.items() if value is not None)

    def _named(self, name: str, value: Any) -> str:
        text = "".join(c for c in str(value)[:LONGEST] if c.isprintable())
        said = f"{name}={text}"
        if (found := self._seen.get(said)) is None:
            if len(self._seen) >= MOST_SLICES - len(self._headers) - len(self._paths):
                return f"{name}={OTHER}"
            # The record of a release keeps it for ever.
            found = self._seen[said] = f"{name}={Redactor().redact(text)}"
        return found


def scalar_in(body: bytes, path: Sequence[str]) -> Any:
    """The text, number or truth value at a path of a JSON body; None where there is none."""
    return _field(_parsed(body), path) if body else None


def _parsed(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None  # the arm says what is wrong with it


def _field(parsed: Any, path: Sequence[str]) -> Any:
    """A scalar at a path, or None."""
    for name in path:
        parsed = parsed.get(name) if isinstance(parsed, dict) else None
    return parsed if isinstance(parsed, str | int | float | bool) else None
