"""What does it take to put a prompt into a request, to tell an application its user's prompt, and to ask a suite?

    python -m benchmarks.llm_releases [--json] [--rounds 5] [--rows 500] [--tokens 16] [--layers 1]

*Rewriting*: CPU of the gateway's own code for one request with a conversation of ten messages, and a prompt of 2,000
characters with two variables, over that for the same request without. *Assignment*: CPU of a whole gateway process for
one `GET /assignment` of a user who stays at his arm, its HTTP included. Both are CPU, whoever else runs.

*Suite*: wall time of an evaluation's generations (the child, the tokenizer's reading, the progress) over that of the
same requests at the same engine in this process, a random Llama of width 1,024, by turns.
"""

from __future__ import annotations

import argparse
import socket
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import orjson
import psutil

from benchmarks import proxies
from benchmarks.gateway import free_port
from benchmarks.llm import PROMPT, make_model
from benchmarks.spread import tell
from pipelines.compress.gguf.gguf import Gguf
from pipelines.records.settings import GatewaySettings
from pipelines.records.split import Rewrite
from pipelines.serving.engines.llamacpp import LlamaCppEngine
from pipelines.serving.http1.request import Request
from pipelines.serving.requests.lines import asked_lines, asked_of
from pipelines.serving.settings_file import write_settings
from pipelines.tasks.generation.asking import _known, ask_all
from pipelines.tasks.generation.questions import of_row
from pipelines.tasks.generation.rows import Prompts, Row
from pipelines.tasks.task import Subject

REWRITES, ASSIGNMENTS = 20_000, 5_000
TEXT = "You help {{ name }} with {{ product }}. " + "Answer in a friendly way and keep to the facts. " * 41
REWRITE = Rewrite("prompts:/support/3", TEXT, sampling=(("max_tokens", 300), ("temperature", 0.2)))
GET = b"GET /assignment HTTP/1.1\r\nhost: x\r\nx-user: %d\r\n\r\n"


def request() -> Request:
    """One with a conversation of ten messages."""
    turns = [
        {"role": ("user", "assistant")[n % 2], "content": "What can I do about my order? " * 10} for n in range(10)
    ]
    said = {"model": "m", "messages": turns, "stream": True, "prompt_variables": {"name": "Ann", "product": "Tea"}}
    headers = [(b"host", b"x"), (b"content-type", b"application/json"), (b"authorization", b"Bearer x" * 8)]
    found = Request(b"POST", b"/v1/chat/completions", headers, dict(headers), True)
    found.body = orjson.dumps(said)
    return found


def rewrite_us() -> float:
    """What one more costs than to pass the request on."""
    asked, spent = request(), []
    for with_it in (True, False):
        began_s = process_time()
        for _ in range(REWRITES):
            asked_of(REWRITE, asked, b"1") if with_it else asked_lines(asked, b"1")
        spent.append(process_time() - began_s)
    return (spent[0] - spent[1]) / REWRITES * 1e6


def assignment_us(port: int, process: psutil.Process) -> float:
    """CPU of a gateway for each."""
    with socket.create_connection(("127.0.0.1", port)) as client:
        before = process.cpu_times()
        for n in range(ASSIGNMENTS):
            client.sendall(GET % n)
            heard = client.recv(65536)
            if not heard.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"the gateway said {heard[:200]!r}")
        after = process.cpu_times()
    return (after.user + after.system - before.user - before.system) / ASSIGNMENTS * 1e6


def gateway(stack: ExitStack, folder: Path) -> tuple[int, psutil.Process]:
    """One whose users stay at their arm."""
    settings = GatewaySettings(api="openai", assign="header:x-user")
    write_settings(folder / "settings", settings)
    port, upstream = free_port(), free_port()
    command = [*proxies.shipway(folder, port, upstream), "--settings", str(folder / "settings")]
    process = stack.enter_context(proxies.started(command, port, folder / "gateway.out"))
    proxies.give_arms(folder, upstream)
    return port, psutil.Process(process.pid)


class Suite:
    """Some rows, and a model that answers them."""

    def __init__(self, folder: Path, rows: int, tokens: int, layers: int) -> None:
        made = Gguf("q8_0", ()).compress(make_model(folder / "model", layers), folder / "made", {})
        facts = {"engine": made.engine, "model": "m", "variant": "q8_0", "task": "generation", "chats": False}
        self._facts: dict[str, Any] = {**facts, **made.facts, "context": 256, "slots": 1, "version": "x"}
        self._folder, self._tokens = made.folder, tokens
        asked = tuple(Row(f"{PROMPT} {n}", (), "", n) for n in range(rows))
        self._prompts = Prompts(asked, {}, "sha256:0", tokens)

    def asked_s(self) -> float:
        """As an evaluation asks."""
        _known.clear()
        began_s = perf_counter()
        ask_all(Subject("m", self._folder, self._facts), self._prompts, lambda _: None, champion=None, keep=False)
        return perf_counter() - began_s

    def engine_s(self) -> float:
        """As fast as the engine answers."""
        engine = LlamaCppEngine(self._folder, self._facts, 1)
        began_s = perf_counter()
        engine.start(0)
        for row in self._prompts.rows:
            question = of_row("m", row, self._tokens)
            engine.ask(question.path, question.body)
        engine.stop()
        return perf_counter() - began_s


def measure(options: argparse.Namespace) -> Mapping[str, list[float]]:
    """Every figure with its values, one a round."""
    found: dict[str, list[float]] = {
        "rewrite_us": [],
        "assignment_us": [],
        "suite_s": [],
        "engine_s": [],
        "suite_ratio": [],
    }
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        port, process = gateway(stack, Path(name))
        suite = Suite(Path(name), options.rows, options.tokens, options.layers)
        for turn in range(options.rounds):
            found["rewrite_us"].append(rewrite_us())
            found["assignment_us"].append(assignment_us(port, process))
            times = {}
            for which in (("suite_s", "engine_s"), ("engine_s", "suite_s"))[turn % 2]:
                times[which] = suite.asked_s() if which == "suite_s" else suite.engine_s()
                found[which].append(times[which])
            found["suite_ratio"].append(times["suite_s"] / times["engine_s"])
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--layers", type=int, default=1)
    options = parser.parse_args()
    tell(measure(options), 2, as_json=options.json)


if __name__ == "__main__":
    main()
