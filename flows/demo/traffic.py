"""A client that sends real rows through a gateway and counts what it gets, as users would.

Open loop: requests are sent at their time whether or not earlier ones were answered, so a slow server is not spared.
Nothing is retried: a failure that the user would have seen is a failure here.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from flows.demo.counting import Count
from flows.demo.posting import Post
from pipelines.errors import BadInput
from pipelines.services.adoption import shown_address

MAX_IN_FLIGHT = 256
LOOPBACK = {"127.0.0.1", "localhost", "::1"}


def run_traffic_command(
    url: str,
    posts: Sequence[Post],
    rps: float,
    duration_s: float | None,
    report: Path | None,
    *,
    as_json: bool,
) -> None:
    """Send until the time is over or a signal comes; then print and write what was counted."""
    check_loopback(url)
    count = asyncio.run(_send_all(url, posts, rps, duration_s))
    counted = count.report()
    if report is not None:
        _write(report, counted)
    shown = {k: v for k, v in counted.items() if k != "timeline"}
    print(json.dumps(shown, indent=2) if as_json else count.sentence())  # noqa: T201  the command's output


def check_loopback(url: str) -> None:
    """Nobody else's server is loaded by mistake. BadInput E_URL."""
    try:
        is_ours = urlsplit(url).hostname in LOOPBACK and urlsplit(url).scheme == "http"
    except ValueError:  # an address that cannot be read
        is_ours = False
    if not is_ours:
        reason = f"{shown_address(url)} is not on this machine"
        raise BadInput(reason, code="E_URL", field="--url", expected="http://127.0.0.1:PORT")


def _write(report: Path, counted: dict[str, Any]) -> None:
    try:
        report.write_text(json.dumps(counted))
    except OSError as error:
        raise BadInput(f"cannot write {report}: {error.strerror}", code="E_PATH", field="--report") from None


async def _send_all(url: str, posts: Sequence[Post], rps: float, duration_s: float | None) -> Count:
    count, stopped = Count(time.time()), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    places = asyncio.Semaphore(MAX_IN_FLIGHT)
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        aiohttp.ClientSession(connector=connector, trust_env=False) as session,
        asyncio.TaskGroup() as group,
    ):
        shown = group.create_task(_show(count))
        began, sent = time.monotonic(), 0
        while not stopped.is_set() and (duration_s is None or time.monotonic() - began < duration_s):
            await places.acquire()
            task = group.create_task(_send(session, url, posts[sent % len(posts)], count))
            task.add_done_callback(lambda _: places.release())
            sent += 1
            with suppress(TimeoutError):
                await asyncio.wait_for(stopped.wait(), max(0.0, began + sent / rps - time.monotonic()))
        shown.cancel()
    return count


async def _send(session: aiohttp.ClientSession, url: str, post: Post, count: Count) -> None:
    count.add(await post.send(session, url))


async def _show(count: Count) -> None:
    """A live line on a terminal."""
    while sys.stderr.isatty():
        await asyncio.sleep(1)
        print(f"\r{count.sentence()}", end="", file=sys.stderr, flush=True)  # noqa: T201  the command's output
