"""Which prompts and conversations does a file hold, and which row is refused by its number?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import BadInput
from pipelines.spec.evaluate import EvaluateSpec, GateSpec
from pipelines.tasks.generation.rows import Prompts, read_prompts

GATES = (GateSpec(metric="finished", min=0.5),)
TOOL = {"type": "function", "function": {"name": "look"}}
HELLO = {"role": "user", "content": "Hello"}


def read(folder: Path, content: str, name: str = "rows.jsonl", *, chats: bool = True, **plan: Any) -> Prompts:
    """The rows of a file with this text."""
    (folder / name).write_text(content)
    return read_prompts(EvaluateSpec(data=name, **{"gates": GATES, **plan}), folder / name, chats=chats)


def refused(folder: Path, **row: Any) -> BadInput:
    """Why a file is, whose second row is this one."""
    with pytest.raises(BadInput) as caught:
        read(folder, f"{json.dumps({'prompt': 'fine'})}\n{json.dumps(row)}\n")
    return caught.value


def test_prompts_and_conversations_are_told_apart(tmp_path):
    """With what is right for each, and its place in the file; a blank line is no row and has a number."""
    chat = json.dumps({"messages": [HELLO], "reference": ["Hi", "Hello!"], "lang": "en"})
    first, second = read(
        tmp_path, f'{{"prompt": "1 +", "pattern": "^ ?1$", "lang": "none"}}\n\n{chat}\n', slices=("lang",)
    ).rows
    assert (first.asked, first.references, first.pattern, first.is_chat) == ("1 +", (), "^ ?1$", False)
    assert (second.asked, second.references, second.is_chat) == ((HELLO,), ("Hi", "Hello!"), True)
    assert [first.number, second.number] == [1, 3]
    assert second.as_dict()["reference"] == "Hi"


def test_the_columns_of_the_spec_come_first(tmp_path):
    """A file may hold others beside them."""
    asked = {"question": "q", "prompt": "p", "messages": [HELLO], "answer": "a", "reference": "r"}
    (row,) = read(tmp_path, json.dumps(asked), text="question", label="answer").rows
    assert (row.asked, row.references) == ("q", ("a",))


def test_a_row_belongs_to_a_cluster(tmp_path):
    """A column of the file's; one that a row leaves empty would make one cluster of all that do."""
    rows = read(tmp_path, "prompt,reference,doc\na,b,1\nc,d,1\n", "rows.csv", cluster="doc", slices=("doc",))
    assert rows.columns == {"doc": ("1", "1")}
    with pytest.raises(BadInput, match="row 2: doc is empty"):
        read(tmp_path, "prompt,reference,doc\na,b,1\nc,d, \n", "rows.csv", cluster="doc")
    with pytest.raises(BadInput, match="there is no column 'doc'"):
        read(tmp_path, "prompt,reference\na,b\n", "rows.csv", cluster="doc")


@pytest.mark.parametrize(("said", "ends"), [("x", ("x",)), (["a", "b", ""], ("a", "b")), (None, ()), ([], ())])
def test_an_answer_may_end_at_a_text(tmp_path, said, ends):
    """Or at the first of several."""
    (row,) = read(tmp_path, json.dumps({"prompt": "x", "until": said})).rows
    assert row.until == ends
    assert ("until" in row.as_dict()) == bool(ends)


def test_slices_keep_their_rows(tmp_path):
    """In the order of the file, as text."""
    rows = read(tmp_path, "prompt,reference,kind\na,b,1\nc,d,2\n", "rows.csv", slices=("kind",))
    assert rows.columns == {"kind": ("1", "2")}
    assert rows.texts == ("a", "b", "c", "d")


@pytest.mark.parametrize("right", ["", "  ", [], None, [""]])
def test_an_empty_reference_says_nothing(tmp_path, right):
    """As an empty field of a CSV file: no model is wrong for writing something."""
    rows = read(tmp_path, json.dumps({"prompt": "x", "reference": right}))
    assert rows.rows[0].references == ()
    assert "neither reference nor pattern" in rows.doubts[0]
    assert read(tmp_path, "prompt,reference\nx,\n", "rows.csv").rows[0].references == ()


def test_numbers_are_read_as_text(tmp_path):
    """An answer to a sum is written without quotes."""
    (row,) = read(tmp_path, json.dumps({"prompt": "2 + 3 =", "reference": [5, 5.5]})).rows
    assert row.references == ("5", "5.5")


def test_repeated_and_unjudged_rows_are_doubted(tmp_path):
    """They are asked all the same."""
    same = json.dumps({"messages": [HELLO], "reference": "x"})
    rows = read(tmp_path, f'{same}\n{{"prompt": "y"}}\n{same}\n')
    assert [said.split(" ")[0] for said in rows.doubts] == ["1", "1"]
    assert rows.doubts[1].endswith("the first is row 2")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"reference": "x"}, "asks nothing"),
        ({"prompt": ""}, "empty prompt"),
        ({"prompt": True}, "prompt is a bool"),
        ({"prompt": {"a": 1}}, "prompt is a dict"),
        ({"prompt": "a\0"}, "NUL"),
        ({"prompt": "\ud800"}, "surrogate"),
        ({"messages": []}, "empty prompt"),
        ({"messages": "Hello"}, "messages is a str"),
        ({"messages": HELLO}, "messages is a dict"),
        ({"messages": [HELLO] * 1001}, "1,001 messages"),
        ({"messages": ["Hello"]}, "message without a role"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "message without a role"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "message without a role"),
        ({"messages": [{"role": "user"}]}, "content is a NoneType"),
        ({"messages": [{"role": "user", "content": 5}]}, "content is a int"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]}, "content is a list"),
        ({"messages": [{"role": "assistant", "content": None, "tool_calls": []}]}, "content is a NoneType"),
        ({"messages": [HELLO, {"role": "assistant", "content": "Hi"}]}, "ends with a message of the assistant"),
        ({"messages": [{**HELLO, "name": "\ud800"}]}, "surrogates not allowed"),
        ({"messages": [{**HELLO, "tool_calls": json.loads("[" * 500 + "]" * 500)}]}, "Recursion limit"),
        ({"prompt": "x", "reference": {"a": 1}}, "reference is a dict"),
        ({"prompt": "x", "reference": [None]}, "reference is a NoneType"),
        ({"prompt": "x", "pattern": "("}, "the pattern is none"),
        ({"prompt": "x", "pattern": "a{4294967296}"}, "the pattern is none"),
        ({"prompt": "x", "pattern": "(" * 900 + ")" * 900}, "the pattern is none"),
        ({"prompt": "x", "pattern": {}}, "pattern is a dict"),
        ({"prompt": "x", "pattern": "a" * 2001}, "2,001 characters"),
        ({"prompt": "x", "schema": []}, "schema is a list"),
        ({"prompt": "x", "until": ["a"] * 17}, "until has 17 texts"),
        ({"prompt": "x", "until": {"a": 1}}, "until is a dict"),
        ({"prompt": "x", "choices": ["a", "b"]}, "() is none of its choices"),
        ({"prompt": "x", "tools": [TOOL]}, "tools of a prompt"),
    ],
)
def test_a_row_that_cannot_be_asked_is_named(tmp_path, row, said):
    """By its number, before anything begins."""
    error = refused(tmp_path, **row)
    assert (error.code, error.field) == ("E_DATASET", "rows.jsonl")
    assert error.reason.startswith("row 2")
    assert said in error.reason


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "x" * 1_000_001},
        {"messages": [{"role": "user", "content": "x" * 300_000}] * 4},
        {"prompt": "x", "reference": "y" * 1_000_001},
    ],
)
def test_what_is_too_long_is_named(tmp_path, row):
    """A prompt, a whole conversation, a reference."""
    assert refused(tmp_path, **row).code == "E_LIMIT"


@pytest.mark.parametrize(("name", "text"), [("rows.jsonl", "\n\n"), ("rows.csv", "prompt,reference\n")])
def test_no_row_is_refused(tmp_path, name, text):
    """There is nothing to be measured."""
    with pytest.raises(BadInput, match="there is no row"):
        read(tmp_path, text, name)


def test_a_conversation_needs_a_template(tmp_path):
    """Prompts do not."""
    assert read(tmp_path, '{"prompt": "x"}', chats=False).rows
    with pytest.raises(BadInput, match="row 1 is a conversation, and the model has no chat template"):
        read(tmp_path, json.dumps({"messages": [HELLO]}), chats=False)


def test_a_csv_file_holds_no_conversations(tmp_path):
    """Their text would be asked as a prompt."""
    text = 'messages,reference\n"[{""role"": ""user"", ""content"": ""x""}]",y\n'
    with pytest.raises(BadInput, match="row 1: messages is a str"):
        read(tmp_path, text, "rows.csv")


@pytest.mark.parametrize(
    ("row", "metric", "needed"),
    [
        ({"reference": "y"}, "regex_match", "pattern"),
        ({"pattern": "y"}, "exact_match", "reference"),
        ({"pattern": "y"}, "perplexity", "reference"),
        ({"pattern": "y"}, "kl", "reference"),
        ({"pattern": "y"}, "chrf", "reference"),
        ({"pattern": "y"}, "rouge_l", "reference"),
        ({"pattern": "y"}, "valid_json", "schema"),
        ({"pattern": "y"}, "valid_tool_call", "tools"),
        ({"pattern": "y"}, "choice", "choices"),
    ],
)
def test_a_gate_on_what_no_row_asks_is_refused(tmp_path, row, metric, needed):
    """Before a model is asked for hours; one such row is enough."""
    gates = (GateSpec(metric=metric, margin=0.5),)
    asked, has = json.dumps({"prompt": "x", **row}), {"schema": {}, "tools": [TOOL], "choices": ["a", "b"]}
    with pytest.raises(BadInput, match=rf"the gate on {metric} needs rows with (a )?{needed}.*, and there is none"):
        read(tmp_path, asked, gates=gates)
    assert read(
        tmp_path,
        f"{asked}\n{json.dumps({'messages': [HELLO], needed: has.get(needed, 'z'), 'answer': 0})}",
        gates=gates,
    ).rows


@pytest.mark.parametrize(
    ("row", "is_written", "references"),
    [
        ({"answer": 1}, False, ()),
        ({"reference": "b"}, False, ()),
        ({"answer": "b", "reference": "b, of course"}, True, ("b, of course",)),
        ({"answer": 1, "pattern": "b"}, True, ()),
    ],
)
def test_what_is_only_to_be_chosen_from_is_not_written(tmp_path, row, is_written, references):
    """The answer is a choice; a reference beside it is for what the model writes."""
    (read_row,) = read(tmp_path, json.dumps({"prompt": "x", "choices": ["a", "b"], **row})).rows
    assert (read_row.choices.right, read_row.is_written, read_row.references) == (1, is_written, references)
    assert '"choices": ["a", "b"]' in read_row.text


def test_a_form_is_part_of_what_a_row_asks(tmp_path):
    """Two that differ in nothing else are two; and its row is judged by it."""
    rows = read(tmp_path, "".join(json.dumps({"prompt": "x", **form}) + "\n" for form in ({}, {"schema": {}})))
    assert len({row.text for row in rows.rows}) == 2
    assert rows.rows[0].text == '"x"'
    assert rows.doubts == ("1 rows have neither reference nor pattern, the first is row 1",)
