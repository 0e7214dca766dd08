"""Could a chat template leave Jinja's sandbox?

Templates are data until somebody renders them. Shipway parses them here, refuses what reaches for Python's internals,
and renders only in `ImmutableSandboxedEnvironment`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from pipelines.errors import UnsafeArtifact

MAX_CHARS = 256 * 1024
_ESCAPES = frozenset({"mro", "func_globals", "gi_frame", "cr_frame", "f_globals", "format_map", "attr"})
_INTERNAL = re.compile(r"__\w+__")
_NOT_JINJA = re.compile(r"\{%-?\s*(?:end)?generation\s*-?%\}")
"""A block that only transformers knows; it marks text and runs nothing."""


def templates_of(value: Any) -> Iterator[str]:
    """The chat templates of a tokenizer_config.json or chat_template.json: one string, or a list of named ones."""
    found = value.get("chat_template") if isinstance(value, dict) else None
    for item in found if isinstance(found, list) else [found]:
        text = item.get("template") if isinstance(item, dict) else item
        if isinstance(text, str):
            yield text


def check_template(name: str, text: str) -> None:
    """E_TEMPLATE where a template cannot be parsed or reaches for what only an escape needs."""
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    if len(text) > MAX_CHARS:
        raise _bad(name, f"it has more than {MAX_CHARS:,} characters")
    environment = ImmutableSandboxedEnvironment(extensions=["jinja2.ext.loopcontrols"])
    try:
        tree = environment.parse(_NOT_JINJA.sub("", text))
    except (TemplateError, RecursionError) as error:
        raise _bad(name, f"it does not parse: {error}") from error
    for reached in _escapes(tree):
        raise _bad(name, f"it reaches for {reached[:60]!r}")


def _escapes(tree: Any) -> Iterator[str]:
    """What in a template reaches outside: internals by attribute, subscript, filter or as text, and other files."""
    from jinja2 import nodes

    names = [node.attr for node in tree.find_all(nodes.Getattr)]
    names += [_text(node.arg) for node in tree.find_all(nodes.Getitem)]
    names += [node.name for node in tree.find_all(nodes.Filter)]
    yield from (name for name in names if name.startswith("_") or name in _ESCAPES)
    # map(attribute='…') and format strings take names as text
    yield from (text for node in tree.find_all(nodes.Const) if _INTERNAL.search(text := _text(node)))
    others = (nodes.Import, nodes.FromImport, nodes.Include, nodes.Extends)
    yield from ("another template" for _ in tree.find_all(others))


def _text(node: Any) -> str:
    value = getattr(node, "value", None)
    return value if isinstance(value, str) else ""


def _bad(name: str, reason: str) -> UnsafeArtifact:
    return UnsafeArtifact(
        f"the chat template of {name} is not safe: {reason}"[:300],
        code="E_TEMPLATE",
        field="chat_template",
        expected="a template that only formats messages",
        hint="remove the template, or write it without Python's internals",
    )
