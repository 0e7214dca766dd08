"""What real engines have sent is measured as what it was. How each was recorded stands beside it (`record_….py`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.serving.meter.asked import asked_by
from pipelines.serving.meter.generation import Generation
from pipelines.serving.meter.measured import Measured

STREAMS = Path(__file__).parents[3] / "data" / "streams"


def measured(name: str, cut_bytes: int = 0) -> Measured:
    """What a recorded stream was; as it came, or cut into pieces of so many bytes."""
    head, *pieces, _ = (json.loads(line) for line in (STREAMS / f"{name}.jsonl").read_text().splitlines())
    asked = asked_by(head["path"].encode(), json.dumps(head["request"]).encode())
    assert asked is not None
    generation, at_ms = Generation(asked, is_stream=True), 0.0
    for at_ms, text in pieces:
        data = text.encode("utf-8", "surrogateescape")
        for begin in range(0, len(data), cut_bytes or len(data)):
            generation.heard(data[begin : begin + (cut_bytes or len(data))], at_ms / 1000)
    return generation.measured(at_ms / 1000)


LLAMA: Any = [
    ("chat", 8, ("length",), {"cut"}),
    ("chat-no-usage", 8, ("length",), {"cut"}),
    ("chat-n2", 16, ("length", "length"), {"cut"}),
    ("chat-stop", 66, ("stop",), set()),
    ("chat-tool", 52, ("tool_calls",), set()),
    ("completion", 8, ("length",), {"cut"}),
    ("completion-n2", 16, ("length", "length"), {"cut"}),
    ("completion-2-prompts", 10, ("length", "length"), {"cut"}),
    ("response", 8, ("stop",), set()),  # it calls "completed" what its length has cut
]


@pytest.mark.parametrize(("name", "tokens", "finish", "marks"), LLAMA, ids=[row[0] for row in LLAMA])
@pytest.mark.parametrize("cut_bytes", [0, 1, 7, 1000])
def test_a_stream_of_llama_cpp_is_measured_as_what_it_was(name, tokens, finish, marks, cut_bytes):
    """Tokens as they were asked for, a finish reason for each choice, and no failure, however the network cuts it."""
    found = measured(f"llamacpp/{name}", cut_bytes)
    assert (found.why_failed, found.tokens_out, found.finish, found.marks) == ("", tokens, finish, marks)
    assert found.first_delta_ms is not None
    assert 0 < found.first_delta_ms < found.whole_ms


VLLM: Any = [
    ("chat", 8, ("length",), {"cut"}, (8, 0)),
    ("chat-usage-often", 8, ("length",), {"cut"}, (8, 0)),
    ("chat-n2", 16, ("length", "length"), {"cut"}, (8, 0)),
    ("chat-stop", 10, ("stop",), set(), (8, 0)),
    ("chat-tool", 52, ("tool_calls",), set(), (406, 0)),
    ("chat-json", 60, ("length",), {"cut", "invalid_json"}, (8, 0)),
    ("completion", 8, ("length",), {"cut"}, (2, 0)),
    ("completion-n2", 16, ("length", "length"), {"cut"}, (2, 0)),
    ("completion-2-prompts", 10, ("length", "length"), {"cut"}, (4, 0)),
    ("completion-first", 4, ("length",), {"cut"}, (176, 0)),
    ("completion-cached", 4, ("length",), {"cut"}, (176, 128)),
    ("response", 8, ("length",), {"cut"}, (8, 0)),
]


@pytest.mark.parametrize(("name", "tokens", "finish", "marks", "read"), VLLM, ids=[row[0] for row in VLLM])
@pytest.mark.parametrize("cut_bytes", [0, 1, 7, 1000])
def test_a_stream_of_vllm_is_measured_as_what_it_was(name, tokens, finish, marks, read, cut_bytes):
    """All choices in one sum, which is the engine's; what of a prompt it had in its cache; and how it ended."""
    found = measured(f"vllm/{name}", cut_bytes)
    assert (found.why_failed, found.tokens_out, found.finish, found.marks) == ("", tokens, finish, marks)
    assert (found.tokens_in, found.tokens_cached) == read
    assert found.is_counted_by_engine
    assert found.first_delta_ms is not None
    assert 0 < found.first_delta_ms < found.whole_ms


@pytest.mark.parametrize("name", ["chat-no-usage", "completion-no-usage"])
def test_pieces_of_vllm_count_no_token_that_was_no_text_yet(name):
    """Where nobody asks for usage there is none: of 8 tokens those are seen that ended a character."""
    found = measured(f"vllm/{name}")
    assert (found.why_failed, found.finish, found.is_counted_by_engine) == ("", ("length",), False)
    assert 0 < found.tokens_out <= 8


def test_an_empty_prompt_is_a_failure_of_nobody_who_streams():
    """llama.cpp ends it at its length with nothing said; the request was odd, so that it is no evidence either."""
    assert measured("llamacpp/completion-empty").why_failed == "it ended at its length without a token"
