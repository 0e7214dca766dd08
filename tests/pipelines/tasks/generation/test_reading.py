"""Is an engine that reads rows by itself seen to read other tokens than transformers?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pipelines.errors import BadInput, UnsafeArtifact
from pipelines.serving.engines.streaming import Habits
from pipelines.tasks.generation import asking
from pipelines.tasks.generation.forms.form import Form
from pipelines.tasks.generation.program import ServedModel
from pipelines.tasks.generation.reading.reader import RowRefused
from pipelines.tasks.generation.rows import Row

CHAT = Row(({"role": "user", "content": "Hello"},), ("x",), "", 7)
PROMPT = Row("Hello", ("x",), "", 3)


class Reading:
    """An engine that reads everything as the same tokens, and writes nothing."""

    habits = Habits(1, 512)

    def __init__(self, fails: str = "") -> None:
        self.asked: list[tuple[str, Any]] = []
        self.fails = fails

    def ask(self, path: str, asked: Any) -> Any:
        """The tokens, or an answer."""
        self.asked.append((path, asked))
        if self.fails:
            raise BadInput(self.fails, code="E_INFERENCE")
        return {"tokens": [1, 2, 3], "choices": [{"text": "", "finish_reason": "stop"}]}


@pytest.mark.parametrize("row", [CHAT, PROMPT], ids=["chat", "prompt"])
def test_the_same_tokens_are_read_and_then_it_writes(row):
    """A conversation with the words that begin an answer."""
    engine = Reading()
    assert ServedModel(engine, reads_by_itself=True).write(row, [1, 2, 3], 4, {}).finish == "stop"
    read, written = engine.asked
    assert (read[0], written[0]) == ("/tokenize", "/v1/chat/completions" if row.is_chat else "/v1/completions")
    assert read[1].get("add_generation_prompt", False) == row.is_chat


@pytest.mark.parametrize("tokens", [[1, 2], [1, 2, 4], [0, 1, 2, 3], []])
def test_other_tokens_are_refused_by_the_row(tokens):
    """Every answer would be another one, and no error would say so."""
    engine = Reading()
    with pytest.raises(RowRefused) as caught:
        ServedModel(engine, reads_by_itself=True).write(CHAT, tokens, 4, {})
    assert (caught.value.said["row"], caught.value.said["code"], len(engine.asked)) == (7, "E_TOKENIZER", 1)


def test_tools_each_engine_writes_in_its_own_way():
    """So nothing is refused for other tokens; what is longer than users may send is, by its row."""
    tools = replace(CHAT, form=Form({"tools": [{"type": "function", "function": {"name": "f"}}]}))
    engine = Reading()
    assert ServedModel(engine, reads_by_itself=True).write(tools, [9], 4, {}).finish == "stop"
    assert [path for path, _ in engine.asked] == ["/v1/chat/completions"]
    engine.habits = Habits(1, 512, {"tools": 10})
    with pytest.raises(RowRefused, match=r"tools has \d+ bytes, and the engine takes 10"):
        ServedModel(engine, reads_by_itself=False).write(tools, [9], 4, {})


@pytest.mark.parametrize(
    ("sent", "says", "finish"),
    [
        ({"response_format": {"type": "json_object"}}, "cut short", "unreadable"),
        ({"response_format": {"type": "json_object"}}, "out of memory", None),
        ({}, "cut short", None),
    ],
)
def test_an_answer_that_the_engine_cannot_make_out_is_a_wrong_one(sent, says, finish):
    """llama.cpp says 500 of JSON that was cut; any other failure is no answer to judge a model by."""
    engine = Reading(f"500: {says}")
    engine.habits = Habits(1, 512, models_faults=("cut short",))
    model, row = ServedModel(engine, reads_by_itself=False), replace(CHAT, form=Form(sent))
    if finish:
        assert model.write(row, [9], 4, {}).finish == finish
        return
    with pytest.raises(BadInput, match=says):
        model.write(row, [9], 4, {})


def test_what_was_compared_before_is_not_asked_again():
    """llama.cpp's file was, when it was made."""
    engine = Reading()
    ServedModel(engine, reads_by_itself=False).write(PROMPT, [9], 4, {})
    assert [path for path, _ in engine.asked] == ["/v1/completions"]


def test_a_refused_row_is_the_models_fault():
    """It names the file."""
    refused = asking._refusal({"row": 7, "code": "E_TOKENIZER", "reason": "it reads 3 tokens"})
    assert (type(refused), refused.code, refused.field) == (UnsafeArtifact, "E_TOKENIZER", "tokenizer.json")
