"""What does a gateway add between two tokens of a thousand open chats, where there are cores enough?

The upstream's timing is known (`benchmarks.open_streams`): so many events a second on every stream. Clients read all
of them directly, through a gateway of one process, and through one of several, in turns.
"""

from __future__ import annotations

import statistics
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from benchmarks import proxies
from benchmarks.gateway import free_port
from benchmarks.llm_gpu.record import Record, spread
from benchmarks.llm_gpu.ways import Way, gateway
from benchmarks.open_streams import gaps_at
from benchmarks.streams import LEFT_OUT_S


def thousand(
    record: Record, folder: Path, *, streams: int, rate: int, seconds: float, workers: int, rounds: int, until_s: float
) -> None:
    """Rounds until the time is over, and what each way added to the 99th percentile of gaps."""
    tokens = round((seconds + LEFT_OUT_S) * rate)
    with ExitStack() as stack:
        direct = free_port()
        told = ("-m", "benchmarks.open_streams", "--serve", str(direct), "--tokens-per-s", str(rate))
        folder.mkdir(parents=True)
        stack.enter_context(proxies.started([sys.executable, *told], direct, folder / "upstream.out"))
        ways = [Way("direct", direct), gateway(stack, folder / "one", "gateway", direct)]
        ways.append(gateway(stack, folder / "many", f"gateway of {workers} workers", direct, workers))
        found: dict[str, dict[str, list[float]]] = {way.name: {} for way in ways}
        for _ in range(rounds):
            began_s = time.monotonic()
            for way in ways:
                spent_s = way.spent_s()
                cuts = statistics.quantiles(gaps_at(way.port, streams, tokens), n=1000)
                took_us = (way.spent_s() - spent_s) / (streams * tokens) * 1e6
                seen = {"p50_ms": cuts[499], "p99_ms": cuts[989], "p999_ms": cuts[998], "cpu_us_per_event": took_us}
                for name, value in seen.items():
                    found[way.name].setdefault(name, []).append(value)
            if time.monotonic() + 1.1 * (time.monotonic() - began_s) > until_s:
                break
    _tell(record, found, {"streams": streams, "tokens_per_s": rate, "seconds": seconds})


def _tell(record: Record, found: dict[str, dict[str, list[float]]], asked: dict[str, float]) -> None:
    for name, values in found.items():
        pairs = list(zip(values["p99_ms"], found["direct"]["p99_ms"], strict=True))
        added = {"added_p99_ms": spread([through - alone for through, alone in pairs])}
        spreads = {what: spread(measured) for what, measured in values.items()}
        record.say("streams1000", way=name, **asked, **spreads, **(added if name != "direct" else {}))
