"""One process, one model that generates: it opens its door after a real answer, and ends when its last one is whole."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from math import isfinite
from time import monotonic, time
from typing import Any

from pipelines.errors import BadInput
from pipelines.records.settings import ServerSettings
from pipelines.serving.engines.streaming import StreamingEngine
from pipelines.serving.server.front import Front

SWEEP_S = 0.1
FAREWELL_S = 0.3
"""So long a server that ends says so with each answer, before it closes the connections that nobody uses."""

LAST_WORDS_S = 0.2
"""So long the engine is given to notice that its clients are gone."""

BACKLOG = 1024
TRIED, TRIED_TOKENS = "Hello", 8
"""More than one token: one that ends within a character has no probability of its own."""


def try_out(engine: StreamingEngine) -> None:
    """One real answer. BadInput E_INFERENCE where none comes, E_OUTPUT where no number is behind it.

    Broken weights are no error to an engine: it answers with some token, and only its probability is no number.
    """
    said = engine.complete(TRIED, TRIED_TOKENS)
    if not said["usage"].get("completion_tokens"):
        raise BadInput("the model generates nothing", code="E_INFERENCE", expected="at least one token")
    if not all(isinstance(log, float | int) and isfinite(log) for log in _likelihoods(said["choices"][0])):
        raise BadInput("the model answers with NaN or infinity", code="E_OUTPUT", hint="the model is at fault")


def _likelihoods(choice: Mapping[str, Any]) -> Sequence[Any]:
    """Of each token, in the shape of completions, or in that of chats, which llama.cpp has for both."""
    said = choice.get("logprobs") or {}
    return [token["logprob"] for token in said.get("content") or ()] or said.get("token_logprobs") or ()


def serve(
    engine: StreamingEngine, names: Sequence[str], version: str, host: str, port: int, settings: ServerSettings
) -> None:
    """Serve until SIGTERM; then finish what is open. BadInput where the engine does not start, or ends by itself."""
    import uvloop

    url = engine.start(0)
    try:
        try_out(engine)
        front = Front(url, names, version, engine.habits, int(time()))
        uvloop.run(_serve(engine, front, host, port, settings.drain_s))
    finally:
        engine.drain(LAST_WORDS_S)
        engine.stop()


async def _serve(engine: StreamingEngine, front: Front, host: str, port: int, drain_s: float) -> None:
    stopped, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    listening = await loop.create_server(front.clients.protocol, host, port, backlog=BACKLOG)
    sweeping = loop.create_task(_sweep(engine, front))
    sweeping.add_done_callback(lambda _: stopped.set())
    await stopped.wait()
    listening.close()
    if engine.has_ended():
        front.cut()
        raise BadInput("the engine ended by itself", code="E_ENGINE", hint="see the log")
    front.clients.is_ending = True
    await asyncio.sleep(FAREWELL_S)
    front.clients.say_goodbye()
    with suppress(TimeoutError):
        async with asyncio.timeout(drain_s):
            await front.clients.all_gone.wait()
    if cut := front.cut():
        print(f"{cut} open answers were cut after {drain_s:g} s", file=sys.stderr, flush=True)  # noqa: T201  its log
    sweeping.cancel()
    await asyncio.sleep(0)  # for the connections to close


async def _sweep(engine: StreamingEngine, front: Front) -> None:
    """End what has waited too long, for as long as there is an engine."""
    while not engine.has_ended():
        await asyncio.sleep(SWEEP_S)
        front.sweep(monotonic())
        front.clients.sweep(monotonic())
