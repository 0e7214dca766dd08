"""Does the GPU's benchmark read of a stream, and of the meter, what was written to it?"""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from benchmarks.llm_gpu.__main__ import parser_of
from benchmarks.llm_gpu.load import Asked, load_all
from benchmarks.llm_gpu.releases import EQUAL, KILLED, upper_limit
from benchmarks.llm_gpu.ways import Metered, metered_in
from benchmarks.llm_gpu.world import spec_of
from pipelines.serving.evidence.intervals import Story
from pipelines.serving.evidence.told import ToldCounters
from tests.pipelines.serving.plane import request_of

EVENT = b'data: {"id":"c","choices":[{"index":0,"text":" w17","finish_reason":null}],"usage":null}\n\n'
USAGE = b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}\n\n'
STREAM = EVENT + EVENT + USAGE + b"data: [DONE]\n\n"
QUESTION = Asked("m", 3, 2, 100).body()


async def _read(status: bytes, pieces: list[bytes], questions: int):
    """What two clients at most see of an upstream that answers every question with these chunks."""
    head = b"HTTP/1.1 %b\r\ntransfer-encoding: chunked\r\n\r\n" % status
    chunks = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]

    async def answer(reader, writer):
        for _ in range(questions):
            try:
                await request_of(reader)
            except asyncio.IncompleteReadError:
                break
            for part in (head, *chunks, b"0\r\n\r\n"):
                writer.write(part)
                await asyncio.sleep(0)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        return await load_all(server.sockets[0].getsockname()[1], 2, [QUESTION] * questions)


@pytest.mark.parametrize("size", [1, 7, len(EVENT), len(STREAM)])
def test_a_stream_is_read_however_it_is_cut(size):
    """Chunks that end within an event, with it, or hold all of them: the same events, tokens and words."""
    pieces = [STREAM[at : at + size] for at in range(0, len(STREAM), size)]
    loaded = asyncio.run(_read(b"200 OK", pieces, 5))
    assert (len(loaded.answers), loaded.events, loaded.tokens) == (5, 10, 10)
    assert [answer.words for answer in loaded.answers] == [2] * 5
    assert loaded.figures()["tok_s"] > 0


@pytest.mark.parametrize(("status", "piece"), [(b"503 Busy", b"{}"), (b"200 OK", EVENT)])
def test_what_is_no_whole_answer_is_an_error(status, piece):
    """A refusal, or a stream that says nothing of its tokens, is no figure."""
    with pytest.raises(ValueError, match="status"):
        asyncio.run(_read(status, [piece], 1))


def test_the_meter_is_read_over_both_arms():
    """Tokens out, answers and their times between tokens, as the gateway's own counters write them."""
    counters, registry = ToldCounters(), CollectorRegistry()
    for arm in ("stable", "canary"):
        counters.count(arm, Story({"first_token": 9.0, "between_tokens": 20.0}, tokens={"in": 5, "out": 128}))
    registry.register(counters)
    seen = metered_in(generate_latest(registry).decode())
    assert (seen.tokens, seen.answers, round(seen.between_s, 6)) == (256.0, 2.0, 0.04)
    assert seen.since(Metered(128.0, 1.0, 0.02)).tokens == 128.0


@pytest.mark.parametrize(("hits", "of", "limit"), [(0, 20, 0.1391), (1, 20, 0.2161), (0, 0, None), (2, 2, 1.0)])
def test_an_upper_limit_is_clopper_and_pearsons(hits, of, limit):
    """One-sided, 95 %: of none of 20 it is 1 − 0.05^(1/20)."""
    assert upper_limit(hits, of) == limit


@pytest.mark.parametrize("rollout", [EQUAL, KILLED])
def test_releases_are_judged_by_every_gate_of_language_models(rollout):
    """As a spec that says nothing of times is, and by goodput and answers; alpha and the warm-up are the usual ones."""
    asked = spec_of(rollout).rollout
    judged = {gate.metric for gate in asked.gates.gates()}
    assert judged >= {"errors", "first_token", "between_tokens", "goodput", "empty", "cut"}
    assert (asked.alpha, asked.warmup_s) == (0.01, 5.0)


def test_an_unknown_part_is_refused(capsys):
    """With the ones that there are."""
    with pytest.raises(SystemExit) as refused:
        parser_of().parse_args(["--out", "x", "--parts", "through,fp9"])
    assert refused.value.code == 2
    assert "'fp9' is none of through, fp8, streams1000, aa, kills" in capsys.readouterr().err
