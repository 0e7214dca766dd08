"""Who chats with the service? A process of its own: `python -m benchmarks.llm_gpu.chats URL FILE MODEL RPS …`.

Chats begin with one of some long prefixes, as system prompts do, and come at random times whatever the service does.
Each leaves a line: when it began and ended, the arm that answered, `ok` or what was wrong, and tokens in, cached, out.
"""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import uvloop

ANSWER_S = 60.0


@dataclass(frozen=True)
class Habit:
    """How people chat: so many a second, with one of `prefixes` of `begins` words, `asks` words, and `new` tokens."""

    rps: float
    prefixes: int
    begins: int
    asks: int
    new: int
    words: int = 30_000

    def options(self) -> list[str]:
        """For the command line."""
        return [str(value) for value in (self.rps, self.prefixes, self.begins, self.asks, self.new, self.words)]

    @classmethod
    def of(cls, options: Sequence[str]) -> Habit:
        """What they say."""
        return cls(float(options[0]), *(int(value) for value in options[1:]))


@dataclass(frozen=True)
class Chat:
    """One line of the file."""

    began_s: float
    ended_s: float
    arm: str
    outcome: str
    tokens_in: int
    cached: int
    tokens_out: int

    @property
    def is_ok(self) -> bool:
        """Whether its user has a whole answer."""
        return self.outcome == "ok"


def _words(n: int, habit: Habit, source: random.Random) -> str:
    return " ".join(f"w{source.randrange(3, habit.words)}" for _ in range(n))


def body(model: str, habit: Habit, begin: str) -> dict[str, Any]:
    """One question."""
    messages = [
        {"role": "system", "content": begin},
        {"role": "user", "content": _words(habit.asks, habit, random.Random())},
    ]
    stream = {"stream": True, "stream_options": {"include_usage": True}}
    return {
        "model": model,
        "messages": messages,
        "max_tokens": habit.new,
        "temperature": 0,
        "ignore_eos": True,
        **stream,
    }


async def chat(session: aiohttp.ClientSession, url: str, asked: dict[str, Any]) -> Chat:
    """One chat to its end, good or bad."""
    began_s, arm, usage, outcome, finished = time.time(), "-", {}, "unfinished", False
    try:
        async with session.post(url, json=asked) as answer:
            arm = answer.headers.get("x-shipway-arm", "-")
            async for line in answer.content:
                if line.startswith(b"data: {"):
                    said = orjson.loads(line[6:])
                    usage = said.get("usage") or usage
                    finished = finished or any(choice.get("finish_reason") for choice in said.get("choices", ()))
                    outcome = "error_event" if "error" in said else outcome
            if answer.status != 200:
                outcome = str(answer.status)
            elif finished and outcome == "unfinished":
                outcome = "ok"
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        outcome = type(error).__name__
    details = usage.get("prompt_tokens_details") or {}
    counted = usage.get("prompt_tokens", 0), details.get("cached_tokens") or 0, usage.get("completion_tokens", 0)
    return Chat(began_s, time.time(), arm, outcome, *counted)


async def go_on(url: str, file: Path, model: str, habit: Habit) -> None:
    """Until SIGTERM; then until every open chat has ended."""
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    begins = [_words(habit.begins, habit, random.Random(number)) for number in range(habit.prefixes)]
    limits = {"connector": aiohttp.TCPConnector(limit=0), "timeout": aiohttp.ClientTimeout(total=ANSWER_S)}
    open_chats: set[asyncio.Task[None]] = set()
    with file.open("a", buffering=1) as out:
        async with aiohttp.ClientSession(**limits) as session:

            async def one() -> None:
                said = await chat(session, url, body(model, habit, random.choice(begins)))
                out.write(orjson.dumps(said).decode() + "\n")

            while not stopped.is_set():
                task = asyncio.ensure_future(one())
                open_chats.add(task)
                task.add_done_callback(open_chats.discard)
                with suppress(TimeoutError):
                    await asyncio.wait_for(stopped.wait(), random.expovariate(habit.rps))
            await asyncio.gather(*open_chats)


@contextmanager
def chatting(url: str, file: Path, model: str, habit: Habit) -> Iterator[None]:
    """People who chat meanwhile; their open chats end before this does."""
    command = [sys.executable, "-m", "benchmarks.llm_gpu.chats", f"{url}/v1/chat/completions", str(file), model]
    child = subprocess.Popen([*command, *habit.options()])
    try:
        yield
    finally:
        child.terminate()
        with suppress(subprocess.TimeoutExpired):
            child.wait(ANSWER_S)
        child.kill()
        child.wait()


def seen_in(file: Path, since_s: float = 0.0) -> list[Chat]:
    """The chats that began since then; a line that is still being written is left for the next time."""
    whole = file.read_text().rpartition("\n")[0] if file.exists() else ""
    found = (Chat(**orjson.loads(line)) for line in whole.splitlines())
    return [one for one in found if one.began_s >= since_s]


def told(chats: Sequence[Chat]) -> dict[str, Any]:
    """What became of these chats, by arm, and which part of the tokens asked came out of a cache."""
    found: dict[str, Any] = {}
    for arm in sorted({one.arm for one in chats}):
        mine = [one for one in chats if one.arm == arm]
        cached, asked = sum(one.cached for one in mine), sum(one.tokens_in for one in mine)
        found[arm] = {"chats": len(mine), "cached_part": round(cached / asked, 3) if asked else None}
    bad = Counter(one.outcome for one in chats if not one.is_ok)
    return {"chats": len(chats), "not_ok": dict(bad), "by_arm": found}


if __name__ == "__main__":
    uvloop.run(go_on(sys.argv[1], Path(sys.argv[2]), sys.argv[3], Habit.of(sys.argv[4:])))
