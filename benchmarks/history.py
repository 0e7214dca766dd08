"""What does a long history cost those who look? CPU seconds beside an empty home's.

    python -m benchmarks.history [--releases 5000] [--rounds 5] [--json]

Three homes: an empty one, one with three releases, and one with so many. The newest release is in its canary, all
others are ended; their records are as long as the demo's (21 events, 44 kB). `shipway list` and `shipway status` are
whole processes. A scrape of `/metrics` is asked of the API in a process that has answered one before, so that no import
is counted, and without its snapshot.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.spread import tell
from flows.web.api import make_app
from flows.wiring import clock, wire
from pipelines.home import Home
from pipelines.records.release import Phase, Release

LOOKS, SERVICES, SCRAPES = 10, 3, 5
COMMANDS = {"list": ("list",), "list --json": ("list", "--json"), "status": ("status",)}
UNSEEN = (Phase.EVALUATED, Phase.COMPRESSED, Phase.BUILT, Phase.STAGED, Phase.QUALIFIED)
LATENCY = {f"{ms / 8:g}": ms for ms in range(1, 60)}


def arm(routed: int) -> Mapping[str, Any]:
    """An arm's counts, with a histogram and a slice."""
    counts = {"routed": routed, "errors": routed // 100, "timeouts": 0, "exceed": LATENCY}
    return {**counts, "by_slice": {"length=short": {**counts, "by_slice": {}}}}


def look(number: int) -> Mapping[str, Any]:
    """What one look at a canary records."""
    sentence = f"errors: {number * 12} of the canary's requests are too few to tell, stable has {number * 180}"
    names = ("errors", "latency", "errors_noninferior", "latency_noninferior")
    return {
        "strata": [{"interval": number, "boot": "b", "arms": {"canary": arm(12), "stable": arm(180)}}],
        "verdict": {
            "outcome": "inconclusive",
            "reasons": [{"outcome": "inconclusive", "gate": name, "sentence": sentence} for name in names],
            "progress": dict.fromkeys(names, number / 12),
            "canary_requests": number * 12,
            "stable_requests": number * 180,
        },
        "why": sentence,
    }


def release(number: int, *, ended: bool) -> Release:
    """One release, as long as the demo's."""
    service, at_s = f"service-{number % SERVICES}", 1_700_000_000.0 + 1000 * number
    spec = {"model": f"models:/m/{number}", "service": service, "retain": 86400.0}
    candidate = {
        "model": "m",
        "version": number,
        "artifact_digest": "sha256:a",
        "bundle_digest": f"sha256:{number:064}",
    }
    found = Release().record(
        at_s, "opened", id=f"{service}-{number:06}", service=service, spec=spec, spec_digest=f"sha256:{number:064}"
    )
    found = found.record(at_s, "resolved", candidate=candidate, champion={"digest": "sha256:b", "version": 1})
    for phase in UNSEEN:
        found = found.enter(
            phase, at_s + 10, verdict={"outcome": "pass", "reasons": list(look(1)["verdict"]["reasons"])}
        )
    found = found.record(at_s + 20, "exposing", pct=25, step=0).record(at_s + 21, "exposed", pct=25)
    found = found.enter(Phase.CANARY, at_s + 21, step=0)
    for n in range(LOOKS):
        found = found.record(at_s + 30 + n, "looked", **look(n))
    return found.enter(Phase.ROLLED_BACK, at_s + 60, why="errors") if ended else found


def fill(home: Home, releases: int) -> None:
    """Write the history; all of it is ended but the newest."""
    ledger = wire(home).ledger
    for number in range(1, releases + 1):
        ledger.create(release(number, ended=number < releases))


def cpu_of(home: Home, command: tuple[str, ...]) -> float:
    """CPU seconds of one process and its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "SHIPWAY_HOME": str(home.root)}
    subprocess.run([sys.executable, *command], env=environment, check=False, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def scrapes(home: Home) -> list[float]:
    """CPU seconds of each scrape in this process."""
    ports = wire(home)

    async def scrape() -> float:
        from aiohttp.test_utils import TestClient, TestServer

        async with TestClient(TestServer(make_app(ports, clock))) as client:
            began = time.process_time()
            answer = await client.get("/metrics")
            await answer.read()
            return time.process_time() - began

    return [asyncio.run(scrape()) for _ in range(SCRAPES + 1)][1:]


def measure(releases: int, rounds: int) -> dict[str, list[float]]:
    """By what is asked and of which home: CPU seconds, one a round."""
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="shipway-history-") as folder:
        homes = {name: Home.open(Path(folder) / name) for name in ("empty", "three", "full")}
        for home, count in zip(homes.values(), (0, SERVICES, releases), strict=True):
            fill(home, count)
        for name in (n for _ in range(rounds) for n in homes):
            for asked, command in COMMANDS.items():
                took_s = cpu_of(homes[name], ("-m", "flows.cli", *command))
                found.setdefault(f"{asked}, {name}", []).append(took_s)
        for name, home in homes.items():
            found[f"scrape, {name}"] = scrapes(home)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--releases", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    tell(measure(options.releases, options.rounds), 3, as_json=options.json)


if __name__ == "__main__":
    main()
