"""What does the gateway add between two tokens of a stream, when many flow at once?

    python -m benchmarks.streams [--json] [--rounds 3] [--seconds 6] [--streams 200] [--tokens-per-s 50]

An upstream sends events at a steady rate on every connection; a client reads all streams directly and then through the
gateway, in turns, so that a noisy neighbour meets both. Upstream, gateway and client are a process each, all on uvloop.
A gap is the time between two events of one stream, as the client saw it; the first second is left out.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
import time
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import uvloop

from benchmarks import proxies
from benchmarks.gateway import free_port
from benchmarks.spread import tell

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
GET = b"GET /%d/%d HTTP/1.1\r\nhost: x\r\n\r\n"
TOKEN = b"d\r\ndata: token\n\n\r\n"
DONE = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
LEFT_OUT_S = 1.0


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One stream after another; whoever asks for / just wants to know whether somebody is there."""
    with suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            path = (await reader.readuntil(b"\r\n\r\n")).split()[1]
            if path == b"/":
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            else:
                await send(writer, *(int(part) for part in path.split(b"/")[1:]))
    writer.close()


async def send(writer: asyncio.StreamWriter, rate: int, tokens: int) -> None:
    """So many tokens at this rate."""
    writer.write(HEAD)
    began_s = time.monotonic() + random.random() / rate
    for turn in range(tokens):
        await asyncio.sleep(began_s + turn / rate - time.monotonic())
        writer.write(TOKEN)
    writer.write(DONE)
    await writer.drain()


async def serve(port: int) -> None:
    """Be the upstream."""
    async with await asyncio.start_server(answer, "127.0.0.1", port, backlog=1024) as server:
        await server.serve_forever()


class Reading(asyncio.Protocol):
    """One stream, as its client sees it."""

    def __init__(self, question: bytes, token: bytes) -> None:
        self._question, self._token = question, token
        self.seen_s, self.whole = [], asyncio.get_running_loop().create_future()

    def connection_made(self, transport) -> None:
        """Ask."""
        self._transport = transport
        transport.write(self._question)

    def data_received(self, data: bytes) -> None:
        """Each token has its time."""
        self.seen_s += [time.monotonic()] * data.count(self._token)
        if b"[DONE]" in data and not self.whole.done():
            self.whole.set_result(None)
            self._transport.close()

    def connection_lost(self, exc) -> None:
        """Before its end, that is a failure."""
        if not self.whole.done():
            self.whole.set_exception(exc or ConnectionError("the stream broke off"))


async def seen_s(port: int, streams: int, question: bytes, token: bytes) -> list[list[float]]:
    """When each token of each stream was seen, in seconds since the first was asked. Half a stream is an error."""
    loop, began_s = asyncio.get_running_loop(), time.monotonic()
    made = [await loop.create_connection(lambda: Reading(question, token), "127.0.0.1", port) for _ in range(streams)]
    await asyncio.gather(*(reading.whole for _, reading in made))
    return [[at_s - began_s for at_s in reading.seen_s] for _, reading in made]


def gaps_ms(seen: list[list[float]]) -> list[float]:
    """All gaps of all streams after the first second."""
    counted = [[at_s for at_s in times if at_s > LEFT_OUT_S] for times in seen]
    return [(b - a) * 1000 for times in counted for a, b in pairwise(times)]


def measure(rounds: int, seconds: float, streams: int, rate: int) -> dict[str, list[float]]:
    """p50 and p99 of the gaps, in ms, directly and through the gateway, one value a round."""
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder, direct, port = Path(name), free_port(), free_port()
        upstream = [sys.executable, "-m", "benchmarks.streams", "--serve", str(direct)]
        gateway = proxies.shipway(folder, port, direct)
        with (
            proxies.started(upstream, direct, folder / "upstream.out"),
            proxies.started(gateway, port, folder / "gateway.out"),
        ):
            proxies.give_arms(folder, direct)
            for _ in range(rounds):
                for target, at in (("direct", direct), ("gateway", port)):
                    question = GET % (rate, round((seconds + LEFT_OUT_S) * rate))
                    seen = uvloop.run(seen_s(at, streams, question, b"data: token"))
                    cuts = statistics.quantiles(gaps_ms(seen), n=100)
                    found.setdefault(f"{target}_p50_ms", []).append(cuts[49])
                    found.setdefault(f"{target}_p99_ms", []).append(cuts[98])
    pairs = zip(found["gateway_p99_ms"], found["direct_p99_ms"], strict=True)
    return {**found, "added_p99_ms": [through - alone for through, alone in pairs]}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--tokens-per-s", type=int, default=50)
    parser.add_argument("--serve", type=int, metavar="PORT", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        uvloop.run(serve(options.serve))
        return
    found = measure(options.rounds, options.seconds, options.streams, options.tokens_per_s)
    tell(found, 2, as_json=options.json)


if __name__ == "__main__":
    main()
