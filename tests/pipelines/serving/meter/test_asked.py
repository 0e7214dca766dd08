"""What a request asks for is read once, and nothing in it can stop the way of the request."""

import json
from dataclasses import replace

import pytest

from pipelines.serving.meter.asked import ANY_JSON, MOST_BODY_BYTES, MOST_CHOICES, MOST_TOOLS, TextRequest, asked_by

CHAT = b"/v1/chat/completions"
HELLO = [{"role": "user", "content": "hello"}]


def asked(path=CHAT, **body):
    """What is read of such a body."""
    return asked_by(path, json.dumps(body).encode())


@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        (CHAT, {"messages": HELLO}, "chat"),
        (CHAT + b"?api-version=1", {"messages": HELLO}, "chat"),
        (b"/v1/completions", {"prompt": "a"}, "completions"),
        (b"/v1/responses", {"input": "a"}, "responses"),
    ],
)
def test_three_doors_ask_for_text(path, body, kind):
    """A query changes nothing."""
    assert replace(asked(path, **body, model="m"), together=b"") == TextRequest(kind, "m")


@pytest.mark.parametrize("path", [b"/v1/models", b"/v1/embeddings", b"/v2/models/m/infer", b"/v1/chat"])
def test_other_paths_ask_for_none(path):
    """They are no generations."""
    assert asked(path, model="m") is None


@pytest.mark.parametrize(
    ("body", "choices"),
    [
        ({"prompt": "a", "n": 3}, 3),
        ({"prompt": ["a", "b"], "n": 2}, 4),
        ({"prompt": [1, 2, 3]}, 1),
        ({"prompt": [[1], [2]]}, 2),
        ({"prompt": ["a"] * 1000}, MOST_CHOICES),
    ],
)
def test_choices_are_those_of_all_prompts(body, choices):
    """A list of numbers is one prompt, as tokens."""
    assert asked(b"/v1/completions", **body).choices == choices


@pytest.mark.parametrize(
    "body",
    [
        {"messages": []},
        {},
        {"messages": HELLO, "max_tokens": 0},
        {"messages": HELLO, "max_tokens": "ten"},
        {"messages": HELLO, "max_completion_tokens": -1},
        {"messages": HELLO, "max_tokens": True},
        {"messages": HELLO, "temperature": -0.1},
        {"messages": HELLO, "temperature": "hot"},
        {"messages": HELLO, "n": 0},
    ],
)
def test_what_engines_answer_differently_is_odd(body):
    """One refuses it, another one answers 200: that says nothing about a version."""
    assert asked(**body).odd != ""


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[1]", b"null", b"{" + b"a" * MOST_BODY_BYTES, b'{"a":' * 2000 + b"1" + b"}" * 2000]
)
def test_a_body_that_says_nothing_is_odd(body):
    """It goes on as it is: the engine refuses it."""
    assert asked_by(CHAT, body).odd != ""


SCHEMA = {"type": "object", "required": ["a"]}


@pytest.mark.parametrize(
    ("path", "body", "schema"),
    [
        (CHAT, {"messages": HELLO, "response_format": {"type": "json_object"}}, ANY_JSON),
        (CHAT, {"messages": HELLO, "response_format": {"type": "text"}}, None),
        (
            CHAT,
            {"messages": HELLO, "response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}},
            SCHEMA,
        ),
        (CHAT, {"messages": HELLO, "response_format": {"type": "json_schema", "json_schema": 1}}, ANY_JSON),
        (CHAT, {"messages": HELLO, "response_format": "json"}, None),
        (b"/v1/responses", {"input": "a", "text": {"format": {"type": "json_schema", "schema": SCHEMA}}}, SCHEMA),
    ],
)
def test_the_schema_is_the_requests_own(path, body, schema):
    """Chats and responses say it in different places."""
    assert asked(path, **body).schema == schema


def test_tools_are_known_by_name():
    """Chats wrap them, responses do not; what is no tool is left out."""
    tools = [{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}, {"name": "g"}, {"function": 3}, 7]
    assert asked(messages=HELLO, tools=tools).tools == {"f": SCHEMA, "g": ANY_JSON}


def test_very_many_tools_are_not_all_kept():
    """Memory is bounded by the request's size anyway; time is not."""
    tools = [{"name": f"t{i}"} for i in range(MOST_TOOLS + 500)]
    assert len(asked(messages=HELLO, tools=tools).tools) == MOST_TOOLS


TURN = {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]}
LATER = {"messages": [*TURN["messages"], {"role": "assistant", "content": "Hi"}, {"role": "user", "content": "Why?"}]}


@pytest.mark.parametrize(
    ("path", "one", "other", "is_same"),
    [
        (b"/v1/chat/completions", TURN, LATER, True),
        (b"/v1/chat/completions", TURN, {"messages": TURN["messages"][1:]}, False),
        (b"/v1/completions", {"prompt": "a" * 2000}, {"prompt": "a" * 2000 + "b"}, True),
        (b"/v1/completions", {"prompt": "a"}, {"prompt": "b"}, False),
        (b"/v1/completions", {"prompt": [1, 2, 3]}, {"prompt": [1, 2, 4]}, False),
        (b"/v1/responses", {"input": "a", "instructions": "x"}, {"input": "a", "instructions": "y"}, False),
    ],
)
def test_requests_that_begin_alike_belong_together(path, one, other, is_same):
    """The turns of a conversation, and prompts with one beginning."""
    first, second = (asked_by(path, json.dumps(said).encode()).together for said in (one, other))
    assert (first == second) == is_same
    assert first


def test_what_is_nested_too_deep_to_be_written_belongs_to_nothing():
    """And is followed all the same."""
    deep = b'{"prompt": %b1%b}' % (b"[" * 300, b"]" * 300)
    assert asked_by(b"/v1/completions", deep).together == b""
