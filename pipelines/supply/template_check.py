"""Could a chat template leave Jinja's sandbox?

Templates are data until somebody renders them. Shipway parses them here, refuses what reaches for Python's internals,
and renders only in `ImmutableSandboxedEnvironment`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pipelines.errors import UnsafeArtifact

MAX_CHARS = 256 * 1024
_ESCAPES = frozenset({"mro", "func_globals", "gi_frame", "cr_frame", "f_globals", "format_map", "attr"})


def templates_of(value: Any) -> Iterator[str]:
    """The chat templates of a tokenizer_config.json or chat_template.json: one string, or a list of named ones."""
    found = value.get("chat_template") if isinstance(value, dict) else None
    for item in found if isinstance(found, list) else [found]:
        text = item.get("template") if isinstance(item, dict) else item
        if isinstance(text, str):
            yield text


def check_template(name: str, text: str) -> None:
    """E_TEMPLATE where a template cannot be parsed or reaches for an attribute that only an escape needs."""
    from jinja2 import TemplateError, nodes
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    if len(text) > MAX_CHARS:
        raise _bad(name, f"it has more than {MAX_CHARS:,} characters")
    environment = ImmutableSandboxedEnvironment(extensions=["jinja2.ext.loopcontrols"])
    try:
        # transformers knows one more block; as a comment block it parses the same
        tree = environment.parse(text.replace("{% generation %}", "").replace("{% endgeneration %}", ""))
    except (TemplateError, RecursionError) as error:
        raise _bad(name, f"it does not parse: {error}") from error
    for node in tree.find_all(
        (nodes.Getattr, nodes.Getitem, nodes.Filter, nodes.Import, nodes.FromImport, nodes.Include)
    ):
        reached = _reached(node)
        if reached.startswith("_") or reached in _ESCAPES:
            raise _bad(name, f"it reaches for {reached[:60]!r}")


def _reached(node: Any) -> str:
    """The name that a node asks for: an attribute, a constant subscript, a filter, or another file."""
    from jinja2 import nodes

    match node:
        case nodes.Getattr():
            return str(node.attr)
        case nodes.Getitem():
            return node.arg.value if isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, str) else ""
        case nodes.Filter():
            return str(node.name)
        case _:
            return "__import__"


def _bad(name: str, reason: str) -> UnsafeArtifact:
    return UnsafeArtifact(
        f"the chat template of {name} is not safe: {reason}"[:300],
        code="E_TEMPLATE",
        field="chat_template",
        expected="a template that only formats messages",
        hint="remove the template, or write it without attributes that begin with _",
    )
