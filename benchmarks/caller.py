"""Calls a service at a steady rate and writes a line for each call, as it was seen from outside.

    python -m benchmarks.caller URL CALLS_PER_S FILE

A line is `began ended version outcome`: UTC seconds, the answering version (or `none`), and the HTTP status or the name
of the error. Nothing is retried. Ends on SIGTERM.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from contextlib import suppress
from typing import TextIO

import aiohttp

TEXTS = ("a good film", "a bad film", "it was fine", "sad movie", "never again")
MAX_OPEN = 128


async def call(session: aiohttp.ClientSession, url: str, text: str, out: TextIO) -> None:
    """One call, one line."""
    body = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [text]}]}
    began_s = time.time()
    try:
        async with session.post(url, json=body) as answer:
            await answer.read()
            version, outcome = answer.headers.get("x-shipway-model-version", "none"), str(answer.status)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        version, outcome = "none", type(error).__name__
    out.write(f"{began_s:.4f} {time.time():.4f} {version} {outcome}\n")


async def call_until_told(url: str, calls_per_s: float, out: TextIO) -> None:
    """Open loop: a call is made at its time, whether or not earlier ones were answered."""
    told, places = asyncio.Event(), asyncio.Semaphore(MAX_OPEN)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    timeout, connector = aiohttp.ClientTimeout(total=30), aiohttp.TCPConnector(limit=0)
    async with (
        aiohttp.ClientSession(timeout=timeout, connector=connector, trust_env=False) as session,
        asyncio.TaskGroup() as group,
    ):
        began_s, made = time.monotonic(), 0
        while not told.is_set():
            await places.acquire()
            task = group.create_task(call(session, url, TEXTS[made % len(TEXTS)], out))
            task.add_done_callback(lambda _: places.release())
            made += 1
            with suppress(TimeoutError):
                await asyncio.wait_for(told.wait(), max(0.0, began_s + made / calls_per_s - time.monotonic()))


if __name__ == "__main__":
    with open(sys.argv[3], "w", buffering=1) as file:  # noqa: PTH123  line buffered, as another process reads along
        asyncio.run(call_until_told(sys.argv[1], float(sys.argv[2]), file))
