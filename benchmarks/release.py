"""What does the main job cost? Runs the demo in a home of its own and watches it from outside.

    python -m benchmarks.release [--json]

Figures: wall time and peak memory of everything the demo starts, seconds by phase, memory of the gateway, the time from
the decision to roll back until the client got its last answer from the bad version, and the controller's own CPU in a
further release.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.controller import measure_controller
from flows.wiring import quiet_environment, wire
from pipelines.home import Home

POLL_S = 0.5


class Watcher(threading.Thread):
    """Polls every process of a home, in whichever session it is."""

    def __init__(self, home: Path) -> None:
        super().__init__(daemon=True)
        self.home, self.stopped = str(home), threading.Event()
        self.peak_mb, self.gateway_mb = 0.0, 0.0

    def run(self) -> None:
        """Until stopped."""
        while not self.stopped.wait(POLL_S):
            sizes = [size for p in psutil.process_iter() if (size := self._size(p)) is not None]
            self.peak_mb = max(self.peak_mb, sum(mb for mb, _ in sizes))
            self.gateway_mb = max([self.gateway_mb, *(mb for mb, line in sizes if "serving.gateway" in line)])

    def _size(self, process: psutil.Process) -> tuple[float, str] | None:
        """Memory in MB and the command line of a process of this home, by its environment or its arguments."""
        try:
            line = " ".join(process.cmdline())
            if process.environ().get("SHIPWAY_HOME") != self.home and self.home not in line:
                return None
            return process.memory_info().rss / 1e6, line
        except psutil.Error:
            return None


def measure() -> dict[str, Any]:
    """One demo, watched."""
    with tempfile.TemporaryDirectory(prefix="shipway-bench-") as folder:
        home = Path(folder).resolve()
        watcher = Watcher(home)
        watcher.start()
        began = time.monotonic()
        command = [sys.executable, "-m", "flows.cli", "demo", "--json"]
        environment = {**os.environ, "SHIPWAY_HOME": str(home)}
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
        wall_s = time.monotonic() - began
        watcher.stopped.set()
        watcher.join()
        watched = {
            "demo_s": round(wall_s, 1),
            "peak_rss_mb": round(watcher.peak_mb),
            "gateway_rss_mb": round(watcher.gateway_mb, 1),
        }
        figures = {**watched, **figures_of(json.loads(done.stdout), home)}
        return {**figures, "further_release": in_this_process(home)}


def in_this_process(home: Path) -> dict[str, Any]:
    """A further release in the same home, with the controller in this process."""
    os.environ["SHIPWAY_HOME"] = str(home)
    opened = Home.open(home)
    quiet_environment(opened)
    return measure_controller(opened)


def figures_of(demo: dict[str, Any], home: Path) -> dict[str, Any]:
    """What the demo's own files tell."""
    bad = demo["releases"][-1]
    report = json.loads((home / "demo" / "traffic.json").read_text())
    last_s = report["last_answer_s"][str(bad["serving_version"])]
    record = wire(Home.open(home)).ledger.load(bad["id"])
    decided_s = next(e.at_s for e in record.of_kind("looked") if e.data["decision"] == "rollback")
    return {
        "outcomes": [r["outcome"] for r in demo["releases"]],
        "phase_seconds": {f"v{r['version']}": r["phase_seconds"] for r in demo["releases"]},
        "traffic": demo["traffic"],
        "decision_to_last_canary_answer_s": round(max(0.0, last_s - decided_s), 3),
    }


def show(figures: dict[str, Any]) -> Table:
    """The figures as a table."""
    table = Table("figure", "value", title="the demo, watched from outside (n = 1)")
    for name, value in figures.items():
        if name == "phase_seconds":
            for version, phases in value.items():
                table.add_row(f"{version}, seconds by phase", ", ".join(f"{p} {s:.1f}" for p, s in phases.items()))
        else:
            table.add_row(name, str(value))
    return table


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    figures = measure()
    print(json.dumps(figures)) if options.json else Console().print(show(figures))


if __name__ == "__main__":
    main()
