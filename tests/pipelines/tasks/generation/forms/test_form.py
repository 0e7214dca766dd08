"""Is a row's form read as OpenAI writes it, is what is none refused, and is an answer of another form told?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import BadInput
from pipelines.serving.meter.validity import schema_problem
from pipelines.tasks.generation.forms.form import Form, form_of, read_form

FILE = Path("rows.jsonl")
AGE = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
ASKED = {"type": "json_schema", "json_schema": {"name": "person", "schema": AGE}}
LOOK = {"type": "function", "function": {"name": "look", "parameters": AGE}}
STOP = {"type": "function", "function": {"name": "stop"}}
ONLY_STOP = {"type": "function", "function": {"name": "stop"}}


def read(*, is_chat: bool = True, **columns: Any) -> Form:
    """The form of a row with these columns."""
    return read_form(columns, 3, FILE, is_chat=is_chat)


@pytest.mark.parametrize(
    ("columns", "text", "calls", "scores"),
    [
        ({}, "anything", [], {}),
        ({"response_format": {"type": "text"}}, "anything", [], {}),
        ({"schema": AGE}, '{"age": 4}', [], {"valid_json": 1.0}),
        ({"schema": AGE}, '{"age": "4"}', [], {"valid_json": 0.0}),
        ({"schema": AGE}, 'Sure! {"age": 4}', [], {"valid_json": 0.0}),
        ({"schema": AGE}, "", [], {"valid_json": 0.0}),
        ({"schema": {}}, "[1]", [], {"valid_json": 1.0}),
        ({"response_format": ASKED}, '{"age": 4}', [], {"valid_json": 1.0}),
        ({"response_format": ASKED}, '{"age": 4', [], {"valid_json": 0.0}),
        ({"response_format": {"type": "json_object"}}, "{}", [], {"valid_json": 1.0}),
        ({"tools": [LOOK, STOP]}, "", [("look", '{"age": 4}')], {"valid_tool_call": 1.0}),
        ({"tools": [LOOK, STOP]}, "", [("stop", "")], {"valid_tool_call": 1.0}),
        ({"tools": [LOOK, STOP]}, "", [("look", '{"age": 4}'), ("stop", "{}")], {"valid_tool_call": 1.0}),
        ({"tools": [LOOK, STOP]}, "", [("look", '{"age": 4}'), ("run", "{}")], {"valid_tool_call": 0.0}),
        ({"tools": [LOOK, STOP]}, "", [("look", "{}")], {"valid_tool_call": 0.0}),
        ({"tools": [LOOK, STOP]}, "I would look.", [], {"valid_tool_call": 0.0}),
        ({"tools": [LOOK, STOP], "tool_choice": ONLY_STOP}, "", [("stop", "{}")], {"valid_tool_call": 1.0}),
        ({"tools": [LOOK, STOP], "tool_choice": ONLY_STOP}, "", [("look", '{"age": 4}')], {"valid_tool_call": 0.0}),
        ({"tools": [LOOK], "tool_choice": "none"}, "I may not.", [], {}),
        ({"tools": [LOOK], "response_format": ASKED}, "", [("look", '{"age": 4}')], {"valid_tool_call": 1.0}),
        ({"tools": [LOOK], "tool_choice": "none", "response_format": ASKED}, "{}", [], {"valid_json": 0.0}),
    ],
)
def test_an_answer_has_the_form_or_not(columns, text, calls, scores):
    """The same after it was sent to a child as plain data."""
    form = read(**columns)
    assert form.scores(text, calls) == scores
    assert form_of(form.as_dict()).scores(text, calls) == scores


def test_a_schema_is_sent_to_nobody_and_the_others_as_they_stand():
    """What engines get is what a user would send."""
    assert read(schema=AGE).sent == {}
    said = {"tools": [LOOK], "tool_choice": "required"}
    assert read(**said, reference="x").sent == said


def test_a_row_that_asks_for_no_form_says_nothing_of_it():
    """Nor do columns that other rows need: older digests stay."""
    assert read(schema=None, tools=None, response_format="").as_dict() == {}


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"schema": "{}"}, "schema is a str"),
        ({"schema": {"type": 12}}, "no JSON schema that can be held against an answer"),
        ({"schema": {"$ref": "http://127.0.0.1:9/schema"}}, "no JSON schema that can be held"),
        ({"schema": {"enum": ["x" * 70_000]}}, "at most 65,536 are checked"),
        ({"schema": AGE, "response_format": ASKED}, "schema and response_format"),
        ({"schema": AGE, "tools": [LOOK]}, "schema and tools"),
        ({"response_format": "json"}, "no type that engines know"),
        ({"response_format": {"type": "xml"}}, "no type that engines know"),
        ({"response_format": {"type": "json_schema"}}, "response_format's schema is a NoneType"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": 12}}}}, "no JSON schema"),
        ({"response_format": {"type": "text", "note": "x" * 70_000}}, "response_format is too long"),
        ({"tools": []}, "no list of 1 to 128 tools"),
        ({"tools": LOOK}, "no list of 1 to 128 tools"),
        ({"tools": [STOP] * 129}, "no list of 1 to 128 tools"),
        ({"tools": [LOOK, LOOK]}, "two tools of one name"),
        ({"tools": ["look"]}, "a tool without a name"),
        ({"tools": [{"name": "look"}]}, "a tool without a name"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": 1}}}]}, "parameters of 'f'"),
        ({"tools": [{"type": "function", "function": {"name": "f", "description": "x" * 600_000}}]}, "600,0"),
        ({"tool_choice": "required"}, "tool_choice and no tools"),
        ({"tools": [LOOK], "tool_choice": "look"}, "tool_choice names no tool"),
        ({"tools": [LOOK], "tool_choice": ONLY_STOP}, "tool_choice names no tool"),
    ],
)
def test_what_is_no_form_is_refused_by_its_row(columns, said):
    """Before anything is asked."""
    with pytest.raises(BadInput, match="row 3") as caught:
        read(**columns)
    assert (caught.value.code, caught.value.field) == ("E_DATASET", "rows.jsonl")
    assert said in caught.value.reason


@pytest.mark.parametrize("columns", [{"response_format": ASKED}, {"tools": [LOOK]}])
def test_a_prompt_can_ask_for_no_form_that_is_sent(columns):
    """llama.cpp would answer as if nothing had been said; a schema that is sent to nobody is fine."""
    with pytest.raises(BadInput, match=r"of a prompt, over which llama\.cpp passes"):
        read(is_chat=False, **columns)
    assert read(is_chat=False, schema=AGE).schema == AGE


def test_without_the_library_a_schema_is_refused_and_not_called_kept(monkeypatch):
    """On live traffic it is held against nobody; who writes rows can install it."""
    monkeypatch.setitem(sys.modules, "jsonschema_rs", None)
    assert "jsonschema-rs is not installed" in schema_problem({"const": "not made before"})
