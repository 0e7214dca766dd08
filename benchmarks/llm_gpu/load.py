"""What do clients see who read many streams at one time?

So many workers ask one question after another on a connection each, with prompts of exact length (token ids), as load
tools do. Bodies are made before the clock starts, and answers are read when it has stopped.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import httptools
import orjson
import uvloop

from benchmarks.llm_gpu.record import quantile

WORD = re.compile(r"\bw\d+")
ANSWER_S = 120.0


@dataclass(frozen=True)
class Asked:
    """What is asked of the model `model`: `prompt` random tokens below `tokens`, and `new` ones of it."""

    model: str
    prompt: int
    new: int
    tokens: int

    def body(self) -> bytes:
        """One question."""
        said = {"model": self.model, "prompt": [random.randrange(3, self.tokens) for _ in range(self.prompt)]}
        stream = {"stream": True, "stream_options": {"include_usage": True}, "ignore_eos": True}
        return orjson.dumps({**said, **stream, "max_tokens": self.new, "temperature": 0})


@dataclass
class Answer:
    """One stream: when it was asked, when each event with a choice came, and what it said of tokens."""

    asked_s: float
    seen_s: list[float] = field(default_factory=list)
    events: list[bytes] = field(default_factory=list)
    tokens: int = 0

    @property
    def first_ms(self) -> float:
        """To the first event."""
        return (self.seen_s[0] - self.asked_s) * 1000

    @property
    def between_ms(self) -> float:
        """Mean time of a token after the first, by the engine's own count."""
        return (self.seen_s[-1] - self.seen_s[0]) * 1000 / max(1, self.tokens - 1)

    @property
    def words(self) -> int:
        """How many tokens its text has, where every token is a word."""
        texts = (orjson.loads(event)["choices"][0].get("text", "") for event in self.events)
        return len(WORD.findall(" ".join(texts)))


class Reader(asyncio.Protocol):
    """One client's connection: a question, its stream, and the next one."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember it."""
        self._transport = transport

    async def ask(self, body: bytes) -> Answer:
        """One answer. ConnectionError where it is not whole, ValueError where it is no 200."""
        self._parser, self._rest = httptools.HttpResponseParser(self), b""
        self._whole = self._loop.create_future()
        head = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        self._answer = Answer(time.monotonic())
        self._transport.write(b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body))
        await asyncio.wait_for(self._whole, ANSWER_S)
        return self._answer

    def data_received(self, data: bytes) -> None:
        """Bytes of the answer."""
        self._now_s = time.monotonic()
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        """Whole events; what is left belongs to the next one."""
        *events, self._rest = (self._rest + body).split(b"\n\n")
        for event in events:
            if b'"choices":[{' in event:
                self._answer.seen_s.append(self._now_s)
                self._answer.events.append(event[6:])
            if b'"usage":{' in event:
                self._answer.tokens = orjson.loads(event[6:])["usage"]["completion_tokens"]

    def on_message_complete(self) -> None:
        """The stream has ended."""
        status = self._parser.get_status_code()
        if status == 200 and self._answer.tokens:
            self._whole.set_result(None)
        else:
            self._whole.set_exception(ValueError(f"status {status}: {self._rest[:200]!r}"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Before its end, that is a failure."""
        if not self._whole.done():
            self._whole.set_exception(exc or ConnectionError("the stream broke off"))


@dataclass
class Loaded:
    """What all clients saw in one pass."""

    answers: list[Answer]
    wall_s: float

    @property
    def tokens(self) -> int:
        """By the engine's usage."""
        return sum(answer.tokens for answer in self.answers)

    @property
    def events(self) -> int:
        """With a choice."""
        return sum(len(answer.seen_s) for answer in self.answers)

    def figures(self) -> dict[str, float]:
        """Of this pass."""
        gaps_ms = [(b - a) * 1000 for answer in self.answers for a, b in pairwise(answer.seen_s)]
        firsts = [answer.first_ms for answer in self.answers]
        betweens = [answer.between_ms for answer in self.answers]
        return {
            "tok_s": self.tokens / self.wall_s,
            "ttft_p50_ms": quantile(firsts, 0.5),
            "ttft_p99_ms": quantile(firsts, 0.99),
            "tpot_p50_ms": quantile(betweens, 0.5),
            "tpot_mean_ms": sum(betweens) / len(betweens),
            "gap_p99_ms": quantile(gaps_ms, 0.99),
        }


def load(port: int, streams: int, requests: int, asked: Asked) -> Loaded:
    """So many streams at one time, until so many requests are answered."""
    return uvloop.run(load_all(port, streams, [asked.body() for _ in range(requests)]))


async def load_all(port: int, streams: int, bodies: Sequence[bytes]) -> Loaded:
    """The same of these questions, in a loop that runs already."""
    loop, waiting, answers = asyncio.get_running_loop(), iter(bodies), []
    made: list[tuple[Any, Reader]] = [
        await loop.create_connection(Reader, "127.0.0.1", port) for _ in range(min(streams, len(bodies)))
    ]
    began_s = time.monotonic()
    await asyncio.gather(*(_work(reader, waiting, answers) for _, reader in made))
    loaded = Loaded(answers, time.monotonic() - began_s)
    for transport, _ in made:
        transport.close()
    return loaded


async def _work(reader: Reader, waiting: Iterator[bytes], answers: list[Answer]) -> None:
    answers += [await reader.ask(body) for body in waiting]
