"""Is an engine that reads rows by itself seen to read other tokens than transformers?"""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.errors import UnsafeArtifact
from pipelines.tasks.generation import asking
from pipelines.tasks.generation.program import RowRefused, ServedModel
from pipelines.tasks.generation.rows import Row

CHAT = Row(({"role": "user", "content": "Hello"},), ("x",), "", 7)
PROMPT = Row("Hello", ("x",), "", 3)


class Reading:
    """An engine that reads everything as the same tokens, and writes nothing."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []

    def ask(self, path: str, asked: Any) -> Any:
        """The tokens, or an answer."""
        self.asked.append((path, asked))
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


def test_what_was_compared_before_is_not_asked_again():
    """llama.cpp's file was, when it was made."""
    engine = Reading()
    ServedModel(engine, reads_by_itself=False).write(PROMPT, [9], 4, {})
    assert [path for path, _ in engine.asked] == ["/v1/completions"]


def test_a_refused_row_is_the_models_fault():
    """It names the file."""
    refused = asking._refusal({"row": 7, "code": "E_TOKENIZER", "reason": "it reads 3 tokens"})
    assert (type(refused), refused.code, refused.field) == (UnsafeArtifact, "E_TOKENIZER", "tokenizer.json")
