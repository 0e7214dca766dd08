"""One pass over an answer says when its tokens came, how many there were, and what is wrong with it."""

import json

import pytest

from pipelines.serving.meter.asked import asked_by
from pipelines.serving.meter.generation import MOST_KEPT_CHARACTERS, Generation

DONE = "data: [DONE]\n\n"
USUAL = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hello"}]}


def chat(delta=None, finish=None, index=0, **more):
    """A chunk of a chat."""
    return {"choices": [{"index": index, "delta": delta or {}, "finish_reason": finish}], **more}


def said(text, **more):
    """A piece of a chat's text."""
    return chat({"content": text}, **more)


def usage(tokens_in, tokens_out, cached=0):
    """What an engine says of its tokens."""
    details = {"prompt_tokens_details": {"cached_tokens": cached}}
    return {"usage": {"prompt_tokens": tokens_in, "completion_tokens": tokens_out, **details}}


def measured(*events, path=b"/v1/chat/completions", at_s=None, end_s=10.0, **body):
    """What a stream of these events was; they come a second apart, or at these times."""
    generation = Generation(asked_by(path, json.dumps({**USUAL, **body}).encode()), is_stream=True)
    for i, event in enumerate(events):
        written = event if isinstance(event, str) else f"data: {json.dumps(event)}\n\n"
        generation.heard(written.encode(), at_s[i] if at_s else float(i + 1))
    return generation.measured(end_s)


def test_times_are_those_of_tokens():
    """The first content, not the role before it; (last - first) / (tokens - 1), and not the gaps between chunks."""
    found = measured(
        chat({"role": "assistant", "content": ""}),
        said("a"),
        said("b"),
        said("cd"),
        chat(finish="stop"),
        {"choices": [], **usage(7, 4, cached=5)},
        DONE,
        at_s=(0.1, 0.5, 0.6, 1.1, 1.1, 1.2, 1.2),
        end_s=1.25,
    )
    assert (found.first_token_ms, found.per_token_ms, found.longest_gap_ms, found.whole_ms) == pytest.approx(
        (500.0, 200.0, 500.0, 1250.0)
    )
    assert (found.tokens_in, found.tokens_cached, found.tokens_out, found.is_counted_by_engine) == (7, 5, 4, True)
    assert (found.why_failed, found.finish, found.marks) == ("", ("stop",), frozenset())


def test_reasoning_comes_before_the_first_token():
    """Users wait for content; tokens are counted from the first that was made."""
    found = measured(
        chat({"reasoning_content": "hm"}), said("a"), said("b", finish="stop"), usage(1, 3) | {"choices": []}
    )
    assert (found.first_delta_ms, found.first_token_ms, found.per_token_ms) == (1000.0, 2000.0, 1000.0)


@pytest.mark.parametrize(
    "events",
    [
        pytest.param((said("a"), said("b"), chat(finish="length", **usage(1, 2))), id="usage in the last chunk"),
        pytest.param((said("a"), said("b"), chat(finish="length"), {"choices": [], **usage(1, 2)}, DONE), id="its own"),
        pytest.param((said("a", usage=None), said("b", finish="length", usage=None), DONE), id="none at all"),
        pytest.param((said("a"), said("b", finish="length", **usage(1, 1)), DONE), id="a lie"),
        pytest.param(
            (said("a"), said("b", finish="length", usage={"completion_tokens": "many"}), DONE), id="no number"
        ),
    ],
)
def test_tokens_are_the_engines_where_it_can_be_believed(events):
    """Every engine has its habit; what came piece by piece is no fewer tokens than pieces."""
    found = measured(*events)
    assert (found.tokens_out, found.per_token_ms, found.marks) == (2, 1000.0, frozenset({"cut"}))


def test_all_choices_must_finish():
    """An engine that counts one choice of several is not believed."""
    events = [said(text, index=i) for text in "ab" for i in (0, 1)]
    whole = measured(*events, chat(finish="stop"), chat(finish="stop", index=1, **usage(3, 2)), n=2)
    half = measured(*events, chat(finish="stop"), n=2)
    assert (whole.tokens_out, whole.is_counted_by_engine, whole.finish) == (4, False, ("stop", "stop"))
    assert (whole.why_failed, half.why_failed) == ("", "it ended without a finish reason")


@pytest.mark.parametrize(
    ("events", "why"),
    [
        ((), "it ended without a finish reason"),
        ((said("a"), DONE), "it ended without a finish reason"),
        ((said("a"), {"error": {"message": "cuda"}}), "the engine said: {'message': 'cuda'}"),
        ((chat(finish="length", **usage(3, 0)),), "it ended at its length without a token"),
        ((said("a"), "data: {broken\n\n", said("b", finish="stop")), ""),
        ((said("a"), "data: 7\n\n", {"choices": "x"}, {"choices": [7]}, said("b", finish="stop")), ""),
        ((said("a", finish="stop"),), ""),
    ],
)
def test_a_stream_succeeds_only_with_its_end(events, why):
    """`[DONE]` is no part of it: not every engine says it. A status of 200 says nothing."""
    assert measured(*events).why_failed == why


def test_two_finish_reasons_are_the_first():
    """What was said once is not unsaid."""
    assert measured(said("a", finish="length"), chat(finish="stop")).finish == ("length",)


@pytest.mark.parametrize(
    ("text", "marks"),
    [('{"a": 1}', set()), ('{"a": "x"}', {"invalid_json"}), ('{"a":', {"invalid_json"}), ("", {"empty"})],
)
def test_json_is_held_against_the_requests_schema(text, marks):
    """Piece by piece, as it comes."""
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    form = {"type": "json_schema", "json_schema": {"schema": schema}}
    found = measured(*map(said, text), chat(finish="stop"), response_format=form)
    assert found.marks == marks


def test_text_that_need_not_be_json_is_no_evidence_on_json():
    """Only who asks for it can be disappointed."""
    assert "invalid_json" not in measured(said("{", finish="stop")).could_be


@pytest.mark.parametrize(
    ("name", "pieces", "marks"),
    [("f", ['{"a"', ": 1}"], set()), ("f", ['{"a"'], {"invalid_tool_call"}), ("other", ["{}"], {"invalid_tool_call"})],
)
def test_calls_are_held_against_the_tools(name, pieces, marks):
    """The name comes first, the arguments in pieces; a call alone is no empty answer."""
    first = {"index": 0, "id": "1", "function": {"name": name, "arguments": ""}}
    more = [{"index": 0, "function": {"arguments": piece}} for piece in pieces]
    calls = [chat({"tool_calls": [call]}) for call in (first, *more)]
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    found = measured(*calls, chat(finish="tool_calls"), tools=tools)
    assert (found.marks, found.first_delta_ms, found.first_token_ms) == (marks, 1000.0, None)


def test_a_refusal_is_named():
    """By the model, or by a filter."""
    filtered, refused = measured(said("a", finish="content_filter")), measured(chat({"refusal": "no"}, finish="stop"))
    assert ("refused" in filtered.marks, "refused" in refused.marks) == (True, True)


def test_completions_are_read_alike():
    """Their text stands in the choice itself."""
    events = [{"choices": [{"index": 0, "text": t, "finish_reason": f}]} for t, f in (("a", None), ("b", "stop"))]
    found = measured(*events, path=b"/v1/completions", prompt="x")
    assert (found.first_token_ms, found.tokens_out, found.why_failed) == (1000.0, 2, "")


RESPONSE = {"status": "completed", "usage": {"input_tokens": 3, "output_tokens": 2, "input_tokens_details": {}}}


@pytest.mark.parametrize(
    ("end", "finish", "why"),
    [
        ({"type": "response.completed", "response": RESPONSE}, ("stop",), ""),
        (
            {
                "type": "response.incomplete",
                "response": {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
            },
            ("length",),
            "",
        ),
        (
            {"type": "response.failed", "response": {"status": "failed", "error": {"code": "x"}}},
            ("failed",),
            "the engine said: {'code': 'x'}",
        ),
        ({"type": "error", "message": "gone"}, ("",), "the engine said: gone"),
    ],
)
def test_responses_are_read_alike(end, finish, why):
    """Their events have types; their end is one of three."""
    deltas = [{"type": "response.output_text.delta", "delta": text} for text in "ab"]
    found = measured({"type": "response.created", "response": {}}, *deltas, end, path=b"/v1/responses", input="x")
    assert (found.first_token_ms, found.tokens_out, found.finish, found.why_failed) == (2000.0, 2, finish, why)


@pytest.mark.parametrize(
    ("path", "answer", "tokens", "marks", "why"),
    [
        (
            b"/v1/chat/completions",
            {"choices": [{"index": 0, "message": {"content": "ab"}, "finish_reason": "stop"}], **usage(2, 5)},
            5,
            set(),
            "",
        ),
        (
            b"/v1/completions",
            {"choices": [{"index": 0, "text": "", "finish_reason": "stop"}], **usage(2, 1)},
            1,
            {"empty"},
            "",
        ),
        (
            b"/v1/responses",
            {
                "object": "response",
                **RESPONSE,
                "output": [{"type": "message", "content": [{"type": "output_text", "text": "a"}]}],
            },
            2,
            set(),
            "",
        ),
        (b"/v1/chat/completions", {"choices": []}, 0, set(), "it ended without a finish reason"),
    ],
)
def test_an_answer_in_one_piece_has_no_times(path, answer, tokens, marks, why):
    """But everything else."""
    generation = Generation(
        asked_by(path, json.dumps({**USUAL, "prompt": "x", "input": "x"}).encode()), is_stream=False
    )
    body = json.dumps(answer).encode()
    for half in (body[:10], body[10:]):
        generation.heard(half, 1.0)
    found = generation.measured(2.0)
    assert (found.tokens_out, found.marks, found.why_failed) == (tokens, marks, why)
    assert (found.first_token_ms, found.per_token_ms, found.whole_ms) == (None, None, 2000.0)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]"])
def test_an_answer_that_is_no_answer_failed(body):
    """A proxy's page is no text of a model."""
    generation = Generation(asked_by(b"/v1/completions", b'{"prompt": "a"}'), is_stream=False)
    generation.heard(body, 1.0)
    assert generation.measured(1.0).why_failed != ""


def test_a_long_answer_is_not_kept():
    """What is not checked is not held against anybody."""
    generation = Generation(
        asked_by(b"/v1/chat/completions", json.dumps({**USUAL, "response_format": {"type": "json_object"}}).encode()),
        is_stream=True,
    )
    event = f"data: {json.dumps(said('x' * 10_000))}\n\n".encode()
    for _ in range(200):
        generation.heard(event, 1.0)
    kept = sum(len(text) for choice in generation._choices.values() for text in choice.text)
    generation.heard(f"data: {json.dumps(chat(finish='stop'))}\n\n".encode(), 1.0)
    assert (kept <= MOST_KEPT_CHARACTERS + 10_000, "invalid_json" in generation.measured(1.0).could_be) == (True, False)


def test_an_engine_that_counts_each_choice_for_itself_is_added_up():
    """As llama.cpp does, after each or in the last event of each; one count for all of them is that of all."""
    each = [said("a"), said("b", index=1), chat(finish="stop"), chat(finish="length", index=1)]
    assert measured(*each, {"choices": [], **usage(3, 4)}, {"choices": [], **usage(3, 5)}, n=2).tokens_out == 9
    last = [{**chat(finish="stop", index=i), **usage(3, 4 + i)} for i in (0, 1)]
    assert measured(*each[:2], *last, n=2).tokens_out == 9
    assert measured(*each, {"choices": [], **usage(3, 9)}, n=2).tokens_out == 9


def test_an_engine_that_counts_as_it_goes_is_not_added_up():
    """With every piece it says how many there are so far, as vLLM can."""
    so_far = [{**said(str(i)), **usage(3, i + 1)} for i in range(3)]
    assert measured(*so_far, {**chat(finish="stop"), **usage(3, 4)}, {"choices": [], **usage(3, 4)}).tokens_out == 4
