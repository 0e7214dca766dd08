"""What does a thousand open chats cost at the gateway, beside Envoy that only passes them on?

    python -m benchmarks.open_streams [--json] [--rounds 5] [--seconds 6] [--streams 1000] [--tokens-per-s 40]

An upstream writes the events of a chat at a steady rate on every connection; a client reads all of them directly,
through the gateway that follows them (`serve.api: openai`, with an objective), and through Envoy with one worker, in
turns. CPU is that of the proxy's process for each event; a gap is the time between two events of one stream, as the
client saw it, and the first second is left out. Every stream must be whole: the same events, to the last.
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
from contextlib import ExitStack
from pathlib import Path

import psutil
import uvloop

from benchmarks import proxies
from benchmarks.gateway import free_port
from benchmarks.meter import CHAT, HEAD, event, started_gateway
from benchmarks.spread import tell
from benchmarks.streams import LEFT_OUT_S, gaps_ms, seen_s

PIECE = event({"index": 0, "delta": {"content": " a"}, "finish_reason": None})
DONE = b"data: [DONE]\n\n"
TICKS = 25
"""The streams of a tick are written together; a stream has its turn in every so many ticks."""


def chunk(data: bytes) -> bytes:
    """One piece of a body whose length is not said before."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class Source(asyncio.Protocol):
    """One connection of the upstream: a request, then so many events, one at each turn."""

    writing: tuple[set[Source], ...] = tuple(set() for _ in range(TICKS))

    def __init__(self) -> None:
        self._heard, self._left, self._tick = b"", 0, random.randrange(TICKS)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for a request."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Begin where it is whole; who asks for / wants to know whether somebody is there."""
        self._heard += data
        head, _, body = self._heard.partition(b"\r\n\r\n")
        if head.startswith(b"GET"):
            self._heard = b""
            self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        elif body.endswith(b"}"):
            self._heard, self._left = b"", json.loads(body)["max_tokens"]
            self._transport.write(HEAD)
            self.writing[self._tick].add(self)

    def write(self) -> None:
        """The next event."""
        self._left -= 1
        if self._left:
            self._transport.write(NEXT)
            return
        self.writing[self._tick].discard(self)
        self._transport.write(LAST)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  who is gone is not written to
        """Nobody reads it any more."""
        self.writing[self._tick].discard(self)


NEXT = chunk(PIECE)
LAST = chunk(event({"index": 0, "delta": {}, "finish_reason": "stop"})) + chunk(DONE) + b"0\r\n\r\n"


async def serve(port: int, rate: int) -> None:
    """Be the upstream; every stream has `rate` events a second."""
    server = await asyncio.get_running_loop().create_server(Source, "127.0.0.1", port, backlog=4096)
    async with server:
        began_s, turn = time.monotonic(), 0
        while True:
            for source in tuple(Source.writing[turn % TICKS]):
                source.write()
            turn += 1
            await asyncio.sleep(max(0.0, began_s + turn / (rate * TICKS) - time.monotonic()))


def question(tokens: int) -> bytes:
    """What a client asks of one stream."""
    body = json.dumps({**CHAT, "max_tokens": tokens}).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    return b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body)


def gaps_at(port: int, streams: int, tokens: int) -> list[float]:
    """All gaps, in ms. A stream in which an event is missing is an error."""
    seen = uvloop.run(seen_s(port, streams, question(tokens), b'"content": " a"'))
    if {len(times) for times in seen} != {tokens - 1}:
        raise ValueError("an event was lost")
    return gaps_ms(seen)


def measure(rounds: int, seconds: float, streams: int, rate: int) -> dict[str, list[float]]:
    """Every figure, one value a round."""
    found: dict[str, list[float]] = {}
    tokens = round((seconds + LEFT_OUT_S) * rate)
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder, direct, port = Path(name), free_port(), free_port()
        upstream = [
            sys.executable,
            "-m",
            "benchmarks.open_streams",
            "--serve",
            str(direct),
            "--tokens-per-s",
            str(rate),
        ]
        stack.enter_context(proxies.started(upstream, direct, folder / "upstream.out"))
        envoy = stack.enter_context(proxies.started(proxies.envoy(folder, port, direct), port, folder / "envoy.out"))
        targets = {"direct": (direct, None), "envoy": (port, envoy)}
        targets["gateway"] = started_gateway(stack, folder / "gateway", "openai", direct)
        for _ in range(rounds):
            for target, (at, process) in targets.items():
                before = _spent_s(process)
                cuts = statistics.quantiles(gaps_at(at, streams, tokens), n=100)
                found.setdefault(f"{target}_p99_ms", []).append(cuts[98])
                if process is not None:
                    spent_s = _spent_s(process) - before
                    found.setdefault(f"{target}_us", []).append(spent_s / (streams * tokens) * 1e6)
    for target in ("envoy", "gateway"):
        pairs = zip(found[f"{target}_p99_ms"], found["direct_p99_ms"], strict=True)
        found[f"{target}_added_p99_ms"] = [through - alone for through, alone in pairs]
    pairs = zip(found["gateway_us"], found["envoy_us"], strict=True)
    return {**found, "gateway_of_envoy": [ours / theirs for ours, theirs in pairs]}


def _spent_s(process: psutil.Process | None) -> float:
    """CPU seconds of a process and of its children."""
    if process is None:
        return 0.0
    times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
    return sum(one.user + one.system for one in times)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--tokens-per-s", type=int, default=40)
    parser.add_argument("--serve", type=int, metavar="PORT", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        uvloop.run(serve(options.serve, options.tokens_per_s))
        return
    tell(measure(options.rounds, options.seconds, options.streams, options.tokens_per_s), 2, as_json=options.json)


if __name__ == "__main__":
    main()
