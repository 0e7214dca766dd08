"""What is left of a text, or of JSON, when what is personal by rule is taken out?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.records.settings import OWN_KINDS
from pipelines.serving.privacy.kinds import OWN, Finder, by_pattern
from pipelines.serving.privacy.presidio import presidio_finder

LONG_NUMBER = 10**6
"""Smaller numbers are nobody's telephone or card."""


class Redactor:
    """Takes out the kinds that are named, and what patterns of one's own find; `[email]` stands where one was.

    Pure, and as quick as its patterns: one's own may be slow, which `BoundedRedactor` bounds. ImportError where a kind
    of presidio's is named and it is not installed; re.error for what is no pattern.
    """

    def __init__(self, recognise: Sequence[str] = OWN_KINDS, patterns: Mapping[str, str] | None = None) -> None:
        own = {name: by_pattern(regex) for name, regex in (patterns or {}).items()}
        self._finders: Mapping[str, Finder] = {**own, **{kind: OWN[kind] for kind in recognise if kind in OWN}}
        foreign = [kind for kind in recognise if kind not in OWN]
        self._presidio = presidio_finder(foreign) if foreign else None

    def redact(self, text: str) -> str:
        """The text with a marker for each that was found; where two overlap, one marker for both."""
        named = [(start, -end, name) for name, finder in self._finders.items() for start, end in finder(text)]
        if self._presidio is not None:
            named += [(start, -end, kind) for start, end, kind in self._presidio(text)]
        found = sorted(named)
        if not found:
            return text
        parts, at = [], 0
        for start, minus_end, name in found:
            if start >= at:
                parts += [text[at:start], f"[{name.lower()}]"]
            at = max(at, -minus_end)
        return "".join([*parts, text[at:]])

    def redacted(self, value: Any) -> Any:
        """The same of JSON data: of its texts, of the names of its fields, and of numbers, which become 0."""
        if isinstance(value, str):
            return self.redact(value)
        if isinstance(value, list):
            return [self.redacted(item) for item in value]
        if isinstance(value, dict):
            return {self.redact(name): self.redacted(item) for name, item in value.items()}
        if type(value) is int and abs(value) >= LONG_NUMBER:
            return value if self.redact(str(value)) == str(value) else 0
        return value
