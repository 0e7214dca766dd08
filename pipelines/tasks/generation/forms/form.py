"""In which form shall a row be answered, and was it: as JSON of a schema, or as a call of a tool?

`response_format`, `tools` and `tool_choice` are OpenAI's, and are sent to the engine as a user would send them.
`schema` is sent to nobody: the prompt alone asks for it. What fits is said by the gateway's own words
(`serving/meter`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson

from pipelines.serving.meter.asked import TextRequest, asked_by
from pipelines.serving.meter.validity import MOST_SCHEMA_BYTES, arguments_problem, schema_problem, text_problem
from pipelines.supply.table import wrong

SCHEMA, RESPONSE_FORMAT, TOOLS, TOOL_CHOICE = "schema", "response_format", "tools", "tool_choice"
SENT = (RESPONSE_FORMAT, TOOLS, TOOL_CHOICE)
COLUMNS = (SCHEMA, *SENT)
MOST_TOOLS, MOST_TOOLS_BYTES = 128, 512 * 1024
"""What engines and the gateway read of one request."""

VALID_JSON, VALID_TOOL_CALL = "valid_json", "valid_tool_call"

Call = tuple[str, str]
"""The name of a tool, and its arguments as the model wrote them."""


@dataclass(frozen=True)
class Form:
    """What is sent beside a conversation, and the schema that an answer shall fit although nobody sends it."""

    sent: Mapping[str, Any] = field(default_factory=dict)
    schema: Mapping[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data; nothing where any text will do."""
        said = {"sent": dict(self.sent) or None, SCHEMA: self.schema}
        return {name: value for name, value in said.items() if value is not None}

    @property
    def tools(self) -> Sequence[Any] | None:
        """Those that stand in the prompt."""
        return self.sent.get(TOOLS)

    @property
    def calls_tools(self) -> bool:
        """Whether a tool is to be called: those that offer some mean one of them."""
        return bool(self.tools) and self.sent.get(TOOL_CHOICE) != "none"

    @cached_property
    def _asked(self) -> TextRequest:
        """As the gateway reads the same request."""
        asked = asked_by(b"/v1/chat/completions", orjson.dumps({"messages": [], **self.sent}))
        assert asked is not None  # noqa: S101  the path is one of a chat
        return asked

    @property
    def wanted(self) -> Mapping[str, Any] | None:
        """The schema of the answer, by whatever way it was asked for; None where any text, or a call, will do."""
        if self.calls_tools:
            return None
        return self.schema if self.schema is not None else self._asked.schema

    @property
    def offered(self) -> Mapping[str, Mapping[str, Any]]:
        """The schemas of the arguments of the tools that may be called, by name."""
        choice = self.sent.get(TOOL_CHOICE)
        only = choice["function"]["name"] if isinstance(choice, dict) else None
        return {name: schema for name, schema in self._asked.tools.items() if only in {None, name}}

    def scores(self, text: str, calls: Sequence[Call]) -> dict[str, float]:
        """Whether an answer has this form: 1 or 0, by the metric that asks it; nothing where no form was asked for."""
        if self.calls_tools:
            fits = calls and not any(arguments_problem(name, said, self.offered) for name, said in calls)
            return {VALID_TOOL_CALL: float(bool(fits))}
        if self.wanted is not None:
            return {VALID_JSON: float(not text_problem(text, self.wanted))}
        return {}


def form_of(said: Mapping[str, Any]) -> Form:
    """The same of its plain data."""
    return Form(said.get("sent", {}), said.get(SCHEMA))


def read_form(record: Mapping[str, Any], number: int, path: Path, *, is_chat: bool) -> Form:
    """What a row's columns say. BadInput E_DATASET where that is no such form, or where engines pass over it."""
    said = {name: record[name] for name in COLUMNS if record.get(name) not in (None, "")}
    if not said:
        return Form()
    schema = said.pop(SCHEMA, None)
    if said and not is_chat:
        reason = f"row {number}: {', '.join(said)} of a prompt, over which llama.cpp passes"
        raise wrong(reason, path, f"messages, or {SCHEMA}, which is sent to nobody")
    if schema is not None and RESPONSE_FORMAT in said:
        raise wrong(f"row {number} has {SCHEMA} and {RESPONSE_FORMAT}", path, "one of them")
    if schema is not None:
        _check_schema(schema, SCHEMA, number, path)
    if RESPONSE_FORMAT in said:
        _check_format(said[RESPONSE_FORMAT], number, path)
    _check_tools(said, number, path)
    if schema is not None and TOOLS in said:
        raise wrong(f"row {number} has {SCHEMA} and {TOOLS}: a call has the schema of its tool", path, "one of them")
    return Form(said, schema)


def _check_schema(schema: Any, name: str, number: int, path: Path) -> None:
    if not isinstance(schema, dict):
        raise wrong(f"row {number}: {name} is a {type(schema).__name__}", path, "a JSON schema, which is an object")
    if problem := schema_problem(schema):
        raise wrong(f"row {number}: {name} is no JSON schema that can be held against an answer: {problem}", path)


def _check_format(form: Any, number: int, path: Path) -> None:
    kind = form.get("type") if isinstance(form, dict) else None
    if kind not in {"json_object", "json_schema", "text"}:
        reason = f"row {number}: {RESPONSE_FORMAT} has no type that engines know"
        raise wrong(reason, path, '{"type": "json_schema", "json_schema": {"name": …, "schema": {…}}}')
    if kind == "json_schema":
        held = form.get("json_schema")
        _check_schema(
            held.get("schema") if isinstance(held, dict) else None, f"{RESPONSE_FORMAT}'s schema", number, path
        )
    if len(orjson.dumps(form)) > MOST_SCHEMA_BYTES:
        raise wrong(f"row {number}: {RESPONSE_FORMAT} is too long", path, f"at most {MOST_SCHEMA_BYTES:,} bytes")


def _check_tools(said: Mapping[str, Any], number: int, path: Path) -> None:
    """Each has a name and a schema, and the one that must be called is among them."""
    tools, choice = said.get(TOOLS), said.get(TOOL_CHOICE)
    if tools is None and choice is not None:
        raise wrong(f"row {number} has {TOOL_CHOICE} and no {TOOLS}", path)
    if tools is None:
        return
    if not isinstance(tools, list) or not tools or len(tools) > MOST_TOOLS:
        raise wrong(f"row {number}: {TOOLS} is no list of 1 to {MOST_TOOLS} tools", path)
    names = [_tool(tool, number, path) for tool in tools]
    if len(set(names)) < len(names):
        raise wrong(f"row {number} has two tools of one name", path)
    try:
        size = len(orjson.dumps(tools))
    except orjson.JSONEncodeError as error:
        raise wrong(f"row {number}: {TOOLS} cannot be sent: {error}"[:300], path) from None
    if size > MOST_TOOLS_BYTES:
        raise wrong(f"row {number}: {TOOLS} has {size:,} bytes", path, f"at most {MOST_TOOLS_BYTES:,}")
    _check_choice(choice, names, number, path)


def _tool(tool: Any, number: int, path: Path) -> str:
    function = tool.get("function") if isinstance(tool, dict) and tool.get("type") == "function" else None
    name = function.get("name") if isinstance(function, dict) else None
    if function is None or not isinstance(name, str) or not name:
        expected = '{"type": "function", "function": {"name": …, "parameters": {…}}}'
        raise wrong(f"row {number} has a tool without a name", path, expected)
    if function.get("parameters") is not None:
        _check_schema(function["parameters"], f"parameters of {name[:60]!r}", number, path)
    return name


def _check_choice(choice: Any, names: Sequence[str], number: int, path: Path) -> None:
    if choice is None or choice in ("auto", "none", "required"):
        return
    function = choice.get("function") if isinstance(choice, dict) else None
    if not isinstance(function, dict) or function.get("name") not in names:
        expected = 'auto, none, required, or {"type": "function", "function": {"name": …}} of a tool of the row'
        raise wrong(f"row {number}: {TOOL_CHOICE} names no tool", path, expected)
