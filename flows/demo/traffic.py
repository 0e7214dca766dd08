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
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from pipelines.errors import BadInput
from pipelines.services.adoption import shown_address
from pipelines.supply.table import Table, wrong

MAX_IN_FLIGHT = 256
TIMEOUT_S = 30.0
LOOPBACK = {"127.0.0.1", "localhost", "::1"}


@dataclass
class Count:
    """What came back so far."""

    started_at_s: float
    requests: int = 0
    failed: int = 0
    by_version: Counter[str] = field(default_factory=Counter)
    failed_by_version: Counter[str] = field(default_factory=Counter)
    last_answer_s: dict[str, float] = field(default_factory=dict)
    latencies_ms: list[float] = field(default_factory=list)
    seconds: dict[int, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    def answered(self, version: str, latency_ms: float, *, failed: bool) -> None:
        """One answer, or none (version "none")."""
        self.requests += 1
        self.by_version[version] += 1
        self.latencies_ms.append(latency_ms)
        self.last_answer_s[version] = time.time()
        second = self.seconds[int(time.time() - self.started_at_s)]
        second[version] += 1
        if failed:
            self.failed += 1
            self.failed_by_version[version] += 1
            second["failed"] += 1

    def report(self) -> dict[str, Any]:
        """Everything, as plain data; times are seconds since `started_at_s` (UTC)."""
        ordered = sorted(self.latencies_ms) or [0.0]
        timeline = [
            {"t_s": t, "failed": c["failed"], "by_version": {v: n for v, n in c.items() if v != "failed"}}
            for t, c in sorted(self.seconds.items())
        ]
        return {
            "requests": self.requests,
            "failed": self.failed,
            "failed_by_version": dict(self.failed_by_version),
            "by_version": dict(self.by_version),
            "p50_ms": round(ordered[len(ordered) // 2], 3),
            "p95_ms": round(ordered[int(0.95 * (len(ordered) - 1))], 3),
            "started_at_s": self.started_at_s,
            "last_answer_s": self.last_answer_s,
            "timeline": timeline,
        }


def read_texts(path: Path, column: str) -> list[str]:
    """The texts of a CSV or JSONL file. BadInput E_DATASET."""
    texts = []
    for number, row in Table(path).rows((column,)):
        if not isinstance(row[column], str):
            raise wrong(f"row {number} has no text in {column!r}", path)
        texts.append(row[column])
    if not texts:
        raise wrong("there is no row", path)
    return texts


def run_traffic_command(
    url: str,
    service: str,
    texts: Sequence[str],
    rps: float,
    duration_s: float | None,
    report: Path | None,
    *,
    as_json: bool,
) -> None:
    """Send until the time is over or a signal comes; then print and write what was counted."""
    check_loopback(url)
    count = asyncio.run(_send_all(f"{url}/v2/models/{service}/infer", texts, rps, duration_s))
    counted = count.report()
    if report is not None:
        _write(report, counted)
    shown = {k: v for k, v in counted.items() if k != "timeline"}
    print(json.dumps(shown, indent=2) if as_json else _sentence(count))  # noqa: T201  the command's output


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


async def _send_all(address: str, texts: Sequence[str], rps: float, duration_s: float | None) -> Count:
    count, stopped = Count(time.time()), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    places = asyncio.Semaphore(MAX_IN_FLIGHT)
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        aiohttp.ClientSession(timeout=timeout, connector=connector, trust_env=False) as session,
        asyncio.TaskGroup() as group,
    ):
        shown = group.create_task(_show(count))
        began, sent = time.monotonic(), 0
        while not stopped.is_set() and (duration_s is None or time.monotonic() - began < duration_s):
            await places.acquire()
            task = group.create_task(_send(session, address, texts[sent % len(texts)], count))
            task.add_done_callback(lambda _: places.release())
            sent += 1
            with suppress(TimeoutError):
                await asyncio.wait_for(stopped.wait(), max(0.0, began + sent / rps - time.monotonic()))
        shown.cancel()
    return count


async def _send(session: aiohttp.ClientSession, address: str, text: str, count: Count) -> None:
    body = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [text]}]}
    began = time.monotonic()
    try:
        async with session.post(address, json=body, allow_redirects=False) as answer:
            await answer.read()
            version, failed = answer.headers.get("x-shipway-model-version", "none"), answer.status >= 300
    except (aiohttp.ClientError, TimeoutError, OSError):
        version, failed = "none", True
    count.answered(version, (time.monotonic() - began) * 1000, failed=failed)


async def _show(count: Count) -> None:
    """A live line on a terminal."""
    while sys.stderr.isatty():
        await asyncio.sleep(1)
        print(f"\r{_sentence(count)}", end="", file=sys.stderr, flush=True)  # noqa: T201  the command's output


def _sentence(count: Count) -> str:
    versions = ", ".join(f"v{v} {n}" for v, n in sorted(count.by_version.items()))
    return f"{count.requests} requests, {count.failed} failed; {versions}"
