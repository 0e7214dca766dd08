"""What do the templates of an lm-eval task make of its documents? Run in a child.

lm-eval itself renders them without a sandbox, so that a template is a program; here it is one in a sandbox, in a child
that reaches nothing.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.supply.oracle.child import answer

MOST_TEXT = 1_000_000


def work(question: Mapping[str, Any]) -> dict[str, Any]:
    """Each document's `text`, `target` and, where they are asked for, `choices`."""
    rendering, rows = _Rendering(), []
    for number, doc in question["docs"]:
        try:
            rows.append(_row(rendering, question["fields"], doc))
        except Exception as error:  # a template may raise anything  # noqa: BLE001
            said = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            return {"refused": {"row": number, "reason": said}}
    return {"rows": rows}


class _Rendering:
    """Templates as lm-eval has them, but for what they may reach."""

    def __init__(self) -> None:
        from jinja2 import StrictUndefined
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        self._room = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
        self._room.filters["regex_replace"] = _replaced
        self._made: dict[str, Any] = {}

    def text(self, template: str, doc: Mapping[str, Any]) -> str:
        """What it makes of a document."""
        if template not in self._made:
            self._made[template] = self._room.from_string(template)
        said = str(self._made[template].render(**doc))
        if len(said) > MOST_TEXT:
            raise ValueError(f"{len(said):,} characters")
        return said


def _replaced(text: str, pattern: str, by: str, count: int = 0) -> str:
    return re.sub(pattern, by, text, count=count)


def _row(rendering: _Rendering, fields: Mapping[str, Any], doc: Mapping[str, Any]) -> dict[str, Any]:
    """Source: `ConfigurableTask.doc_to_text`, `doc_to_target`, `doc_to_choice` of lm-eval 0.4.13."""
    described = _field(rendering, fields["description"], doc) if fields["description"] else ""
    text, choices = _field(rendering, fields["text"], doc), _choices(rendering, fields["choice"], doc)
    target = _field(rendering, fields["target"], doc)
    if isinstance(target, str) and fields["target"] not in doc:
        target = _literal(target, has_choices=choices is not None)
    if not isinstance(text, str):
        raise TypeError("doc_to_text gives no text: tasks with several contexts are not read")
    return {"text": f"{described}{text}", "target": target, "choices": choices}


def _field(rendering: _Rendering, template: Any, doc: Mapping[str, Any]) -> Any:
    if not isinstance(template, str):
        return template
    return doc[template] if template in doc else rendering.text(template, doc)


def _literal(target: str, *, has_choices: bool) -> Any:
    if target.isdigit() and has_choices:
        return int(target)
    if target.startswith("[") and target.endswith("]"):
        try:
            return ast.literal_eval(target)
        except (SyntaxError, ValueError):
            return target
    return target


def _choices(rendering: _Rendering, template: Any, doc: Mapping[str, Any]) -> Sequence[str] | None:
    if template is None:
        return None
    if isinstance(template, dict):
        return list(template.values())
    if isinstance(template, list):
        return template
    found = doc[template] if template in doc else ast.literal_eval(rendering.text(template, doc))
    return list(found)


if __name__ == "__main__":
    answer(work)
