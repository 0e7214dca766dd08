"""A model's JSON is held against the request's own schema, which comes from a user."""

import pytest

from pipelines.serving.meter.validity import arguments_problem, text_problem

NUMBER = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


@pytest.mark.parametrize(
    ("text", "schema", "is_right"),
    [
        ('{"a": 1}', NUMBER, True),
        ('{"a": "1"}', NUMBER, False),
        ("{}", NUMBER, False),
        ('{"a": 1', NUMBER, False),
        ("Sure! {}", {}, False),
        ("[1, 2]", {}, True),
        ("1", {"$ref": "#"}, True),
        ('{"a": {"a": {}}}', {"type": "object", "properties": {"a": {"$ref": "#"}}}, True),
        ('{"a": {"a": 1}}', {"type": "object", "properties": {"a": {"$ref": "#"}}}, False),
    ],
)
def test_json_fits_its_schema_or_not(text, schema, is_right):
    """A schema may name itself."""
    assert (text_problem(text, schema) == "") == is_right


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "http://127.0.0.1:9/schema"},
        {"type": 12},
        {"properties": {"a": {"pattern": "("}}},
        {"enum": ["x" * 100_000]},
    ],
)
def test_a_schema_that_cannot_be_used_is_held_against_nobody(schema):
    """It is not fetched, either."""
    assert text_problem("1", schema) == ""


@pytest.mark.parametrize(
    ("name", "arguments", "is_right"),
    [("f", '{"a": 1}', True), ("f", "", False), ("g", "", True), ("h", "{}", False), ("f", '{"a": 1', False)],
)
def test_a_call_fits_the_tool_that_was_offered(name, arguments, is_right):
    """No arguments are an empty object."""
    assert (arguments_problem(name, arguments, {"f": NUMBER, "g": {}}) == "") == is_right
