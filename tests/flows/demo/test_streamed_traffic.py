"""Does the client of a language model count as answers only what ended as one, and first tokens as users see them?"""

from __future__ import annotations

import asyncio
import itertools
import json
from contextlib import contextmanager

import pytest
from aiohttp import web

from flows.demo.posting import read_posts
from flows.demo.traffic import run_traffic_command
from tests.flows.demo.loopback import serving

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Wie spät ist es?"}]
FIRST_S = 0.15
USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}


def event(said):
    """One event, as engines write it."""
    return f"data: {json.dumps(said)}\n\n".encode()


def piece(text, finish=None):
    """A piece of a chat's answer."""
    return event({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]})


ROLE = event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]})
END = event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
COUNTED, DONE = event({"choices": [], "usage": USAGE}), b"data: [DONE]\n\n"
WHOLE = (ROLE, FIRST_S, piece("16"), piece(":"), piece("30"), END, COUNTED, DONE)
"""What a server sends, and how long it waits meanwhile."""

STREAMS = {
    "whole": (WHOLE, False),
    "nobody says it is done": (WHOLE[:-1], False),
    "nobody counts": ((ROLE, piece("16"), piece(":"), piece("30", "stop")), False),
    "cut at its length": ((piece("16"), piece(":"), piece("30", "length"), COUNTED), False),
    "no finish reason": ((ROLE, piece("16"), piece(":"), piece("30"), DONE), True),
    "nothing at all": ((), True),
    "an error in the middle": ((piece("16"), piece(":"), piece("30"), event({"error": "out of memory"}), END), True),
    "broken off": ((piece("16"), piece(":"), piece("30"), None), True),
    "broken off after its end": ((*WHOLE[2:], None), True),
}
"""By name: what is sent (None: the connection breaks), and whether it is a failure."""


@contextmanager
def streaming(choose, path="/v1/chat/completions"):
    """A server that sends what `choose(number)` says, and what it was asked."""
    seen, numbers = [], itertools.count()

    async def answer(request):
        seen.append(await request.json())
        number = next(numbers)
        headers = {"content-type": "text/event-stream", "x-shipway-model-version": str(1 + number % 2)}
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        for sent in choose(number):
            if sent is None:
                request.transport.close()
            elif isinstance(sent, float):
                await asyncio.sleep(sent)
            else:
                await response.write(sent)
        return response

    with serving(path, answer) as url:
        yield url, seen


def counted(url, tmp_path, rows=({"messages": MESSAGES},), *, rps=50, duration_s=0.4):
    """Send rows, and read the report back."""
    data, report = tmp_path / "rows.jsonl", tmp_path / "report.json"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run_traffic_command(url, read_posts(data, "chat"), rps, duration_s, report, as_json=False)
    return json.loads(report.read_text())


def test_conversations_are_asked_as_openai_has_it(tmp_path):
    """The row's own wishes are passed on, what it is for somebody else is not; it streams, and tokens are counted."""
    row = {"messages": MESSAGES, "temperature": 0, "max_tokens": 5, "reference": "16:30", "kind": "time"}
    with streaming(lambda _: WHOLE) as (url, seen):
        counted(url, tmp_path, [row])
    streamed = {"model": "chat", "stream": True, "stream_options": {"include_usage": True}}
    assert seen[0] == {**streamed, "messages": MESSAGES, "temperature": 0, "max_tokens": 5}


def test_prompts_are_continued(tmp_path):
    """Other words of the same API: text comes instead of deltas."""
    pieces = [event({"choices": [{"text": text, "finish_reason": None}]}) for text in ("a", "b")]
    last = event({"choices": [{"text": "", "finish_reason": "stop"}], "usage": USAGE})
    with streaming(lambda _: (*pieces, last), "/v1/completions") as (url, seen):
        found = counted(url, tmp_path, [{"prompt": "Once upon"}])
    assert (seen[0]["prompt"], seen[0]["stream"], found["failed"]) == ("Once upon", True, 0)
    assert found["tokens"] == 3 * found["requests"]


def test_rows_of_two_kinds_may_stand_in_one_file(tmp_path):
    """Each row is asked as what it is."""
    rows = tmp_path / "rows.jsonl"
    said = ({"messages": MESSAGES}, {"prompt": "a"}, {"text": "b"}, {"prompt": "a", "messages": MESSAGES})
    rows.write_text("".join(json.dumps(row) + "\n" for row in said))
    chat, completion, inference = "/v1/chat/completions", "/v1/completions", "/v2/models/chat/infer"
    assert [post.path for post in read_posts(rows, "chat")] == [chat, completion, inference, chat]


def test_a_column_that_is_named_is_the_one_that_is_sent(tmp_path):
    """Whatever else the rows hold."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"prompt": "a", "text": "b", "asked": MESSAGES}) + "\n")
    assert [read_posts(rows, "chat", name)[0].path.split("/")[1:3] for name in ("asked", "prompt", "text")] == [
        ["v1", "chat"],
        ["v1", "completions"],
        ["v2", "models"],
    ]


@pytest.mark.parametrize("name", STREAMS)
def test_an_answer_is_one_only_where_it_ended_as_one(tmp_path, name):
    """A status of 200 says nothing; every failure belongs to the version that began to answer."""
    sent, is_failure = STREAMS[name]
    with streaming(lambda _: sent) as (url, seen):
        found = counted(url, tmp_path)
    assert found["requests"] == len(seen) >= 2
    assert found["failed"] == (found["requests"] if is_failure else 0)
    assert found["by_version"].keys() == {"1", "2"}
    assert found["failed_by_version"] == (found["by_version"] if is_failure else {})


def test_first_tokens_and_tokens_are_counted_by_version(tmp_path):
    """The role that opens a chat is no token; tokens are the engine's, or pieces where it says nothing."""
    slow, silent = WHOLE, STREAMS["nobody counts"][0]
    with streaming(lambda number: slow if number % 2 else silent) as (url, _):
        found = counted(url, tmp_path, rps=20, duration_s=0.5)
    assert found["tokens_by_version"] == {version: 3 * n for version, n in found["by_version"].items()}
    assert found["tokens"] == 3 * found["requests"]
    times = found["first_token_by_version"]
    assert times["2"]["p50_ms"] >= FIRST_S * 1000 > times["1"]["p50_ms"] > 0
    assert times["1"]["p50_ms"] <= found["first_token"]["p95_ms"] <= times["2"]["p95_ms"] <= found["p95_ms"]


@pytest.mark.parametrize("status", [400, 404, 503])
def test_a_refusal_is_a_failure_without_tokens(tmp_path, status):
    """What a gateway answers in JSON is no stream."""

    async def refuse(_):
        error = {"error": {"message": "no", "code": "x"}}
        return web.json_response(error, status=status, headers={"x-shipway-model-version": "1"})

    with serving("/v1/chat/completions", refuse) as url:
        found = counted(url, tmp_path, duration_s=0.1)
    assert found["failed_by_version"] == {"1": found["requests"]}
    assert "tokens" not in found


def test_the_line_that_is_printed_says_when_first_tokens_came(tmp_path, capsys):
    """As a person reads it."""
    with streaming(lambda _: WHOLE) as (url, _):
        found = counted(url, tmp_path)
    said = f"first token {found['first_token']['p50_ms']} ms (p95 {found['first_token']['p95_ms']}), "
    assert f"{said}{found['tokens']:,} tokens" in capsys.readouterr().out
