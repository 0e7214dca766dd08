"""What does it cost to follow what language models write?

    python -m benchmarks.meter [--json] [--rounds 5] [--seconds 5] [--streams 100] [--tokens-per-s 40]

First the meter alone: CPU of one process that follows one stream of a hundred thousand events, for events of a chat, of
a completion and of a chat that must be JSON. Then two gateways, one that follows what it passes on and one that does
not, read by as many clients in turns: CPU of the gateway's process for each event, and what a client's clock says of
the time to the first token. CPU seconds are those of the process, whoever else runs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import psutil
import uvloop

from benchmarks import proxies
from benchmarks.gateway import free_port
from benchmarks.spread import tell
from pipelines.records.settings import GatewaySettings, Objective
from pipelines.serving.meter.asked import asked_by
from pipelines.serving.meter.generation import Generation
from pipelines.serving.settings_file import write_settings

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
FIRST_S = 0.1
"""The upstream's time to the first token."""

EVENTS = 100_000
CHAT: dict[str, Any] = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hello"}]}
KINDS: Mapping[str, tuple[bytes, dict[str, Any], dict[str, Any]]] = {
    "chat": (b"/v1/chat/completions", CHAT, {"index": 0, "delta": {"content": " a"}, "finish_reason": None}),
    "completion": (b"/v1/completions", {"prompt": "a"}, {"index": 0, "text": " a", "finish_reason": None}),
    "chat_json": (
        b"/v1/chat/completions",
        {**CHAT, "response_format": {"type": "json_object"}},
        {"index": 0, "delta": {"content": " a"}, "finish_reason": None},
    ),
}


def event(choice: Mapping[str, Any], **more: Any) -> bytes:
    """One event as vLLM writes it."""
    said = {"id": "chatcmpl-8f1c8a5ab0d94c1b", "object": "chat.completion.chunk", "created": 1732990000, "model": "m"}
    return b"data: " + json.dumps({**said, "choices": [{**choice, "logprobs": None}], **more}).encode() + b"\n\n"


def alone_us(kind: str) -> float:
    """CPU µs of the meter for each event of this kind."""
    path, body, choice = KINDS[kind]
    generation = Generation(asked_by(path, json.dumps(body).encode()), is_stream=True)
    written = event(choice)
    began_s = time.process_time()
    for turn in range(EVENTS):
        generation.heard(written, 0.02 * turn)
    return (time.process_time() - began_s) / EVENTS * 1e6


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One stream after another; whoever asks for / just wants to know whether somebody is there."""
    with suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"POST"):
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                continue
            length = next(
                int(v) for k, _, v in (line.partition(b":") for line in head.split(b"\r\n")) if k == b"content-length"
            )
            asked = json.loads(await reader.readexactly(length))
            await send(writer, asked["rate"], asked["max_tokens"])
    writer.close()


async def send(writer: asyncio.StreamWriter, rate: int, tokens: int) -> None:
    """So many tokens at this rate, the first one after a while that does not depend on how many there are."""
    writer.write(HEAD)
    began_s = time.monotonic() + FIRST_S
    pieces = [event({"index": 0, "delta": {"content": " a"}, "finish_reason": None})] * (tokens - 1)
    usage = {"usage": {"prompt_tokens": 8, "completion_tokens": tokens}}
    pieces.append(event({"index": 0, "delta": {"content": " a"}, "finish_reason": "length"}, **usage))
    for turn, piece in enumerate(pieces):
        await asyncio.sleep(began_s + turn / rate - time.monotonic())
        writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
    writer.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
    await writer.drain()


async def serve(port: int) -> None:
    """Be the upstream."""
    async with await asyncio.start_server(answer, "127.0.0.1", port, backlog=1024) as server:
        await server.serve_forever()


async def read(port: int, rate: int, tokens: int, within_s: float) -> float:
    """One stream, as its client sees it: seconds to its first token."""
    await asyncio.sleep(random.random() * within_s)
    body = json.dumps({**CHAT, "rate": rate, "max_tokens": tokens}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    began_s = time.monotonic()
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
    await reader.readuntil(b'"content"')
    first_s = time.monotonic() - began_s
    await reader.readuntil(b"[DONE]")
    writer.close()
    return first_s


async def read_all(port: int, streams: int, rate: int, tokens: int) -> list[float]:
    """All of them at once."""
    return list(await asyncio.gather(*(read(port, rate, tokens, 1.0) for _ in range(streams))))


def gateway_rounds(rounds: int, seconds: float, streams: int, rate: int) -> dict[str, list[float]]:
    """CPU µs for each event with the meter and without, one value a round."""
    found: dict[str, list[float]] = {}
    tokens = round(rate * seconds)
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        upstream, folder = free_port(), Path(name)
        command = [sys.executable, "-m", "benchmarks.meter", "--serve", str(upstream)]
        stack.enter_context(proxies.started(command, upstream, folder / "upstream.out"))
        gateways = {api: started_gateway(stack, folder / api, api, upstream) for api in ("inference", "openai")}
        for _ in range(rounds):
            for api, (port, process) in gateways.items():
                before = process.cpu_times()
                first_s = uvloop.run(read_all(port, streams, rate, tokens))
                after = process.cpu_times()
                spent_s = after.user + after.system - before.user - before.system
                found.setdefault(f"{api}_us", []).append(spent_s / (streams * (tokens + 1)) * 1e6)
                found.setdefault(f"{api}_client_ttft_ms", []).append(statistics.median(first_s) * 1000)
    pairs = zip(found["openai_us"], found["inference_us"], strict=True)
    return {**found, "added_us": [with_it - without for with_it, without in pairs]}


def started_gateway(stack: ExitStack, folder: Path, api: str, upstream: int) -> tuple[int, psutil.Process]:
    """Its port and its process."""
    folder.mkdir()
    objective = Objective(0.8, 0.06, 30.0) if api == "openai" else None
    write_settings(folder / "settings", GatewaySettings(timeout_s=60.0, api=api, objective=objective))
    port = free_port()
    command = [*proxies.shipway(folder, port, upstream), "--settings", str(folder / "settings")]
    process = stack.enter_context(proxies.started(command, port, folder / "gateway.out"))
    proxies.give_arms(folder, upstream)
    return port, psutil.Process(process.pid)


def measure(rounds: int, seconds: float, streams: int, rate: int) -> Iterator[tuple[str, list[float]]]:
    """Every figure with its values."""
    for kind in KINDS:
        yield f"{kind}_us", [alone_us(kind) for _ in range(rounds)]
    yield from gateway_rounds(rounds, seconds, streams, rate).items()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--streams", type=int, default=100)
    parser.add_argument("--tokens-per-s", type=int, default=40)
    parser.add_argument("--serve", type=int, metavar="PORT", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        uvloop.run(serve(options.serve))
        return
    found = dict(measure(options.rounds, options.seconds, options.streams, options.tokens_per_s))
    tell(found, 2, as_json=options.json)


if __name__ == "__main__":
    main()
