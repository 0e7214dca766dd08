"""What do faults cost? Kills in memory, roll backs with a locked ledger, and calls through kills and restarts.

    python -m benchmarks.faults [--json] [--trials 200] [--requests 50000]

`kill_points` are the effects of the in-memory releases of `tests/faults/stories.py`, each killed before and after every
one; `violations` of the invariants and releases that are `stuck` must be 0. `registry_answers` are ways home in each
phase, each of seven answers 20 times: users at the bad version a second later and jammed services must be 0.
`rollback_ms` is from the decision to the last answer that a client got from the convicted version; `harm_s`
is from the first failed answer to the last. `lost` are calls without an answer, over split changes, kills of canaries
and restarts of the gateway.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.lost_requests import lost_requests
from benchmarks.rollback_trials import rollback_trials


def measure(trials: int, requests: int) -> dict[str, Any]:
    """Everything, as plain data."""
    with tempfile.TemporaryDirectory(prefix="shipway-bench-") as folder:
        went = rollback_trials(Path(folder) / "back", trials, _say)
        losses = lost_requests(Path(folder) / "lost", requests, _say)
    from tests.faults.answers import registry_answers
    from tests.faults.sweep import kill_sweep

    waits_ms, harms_s = sorted(t.rollback_ms for t in went), sorted(t.harm_s for t in went)
    return {
        **kill_sweep(),
        "registry_answers": registry_answers(say=_say),
        "trials": len(went),
        "rollback_ms_p50": round(_quantile(waits_ms, 0.5), 1),
        "rollback_ms_p99": round(_quantile(waits_ms, 0.99), 1),
        "rollback_ms_max": round(waits_ms[-1], 1),
        "harm_s_p50": round(_quantile(harms_s, 0.5), 2),
        "harm_s_max": round(harms_s[-1], 2),
        "harmed_per_trial": round(sum(t.harmed for t in went) / len(went), 1),
        "requests": losses.requests,
        "lost": sum(losses.lost.values()),
        "lost_as": dict(losses.lost),
    }


def _quantile(ordered: Sequence[float], q: float) -> float:
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


def _say(sentence: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{sentence:<60}", end="", file=sys.stderr, flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--trials", type=int, default=200, help="roll backs")
    parser.add_argument("--requests", type=int, default=50_000, help="calls through kills and restarts, at least")
    options = parser.parse_args()
    figures = measure(options.trials, options.requests)
    if options.json:
        print(json.dumps(figures))
        return
    table = Table("figure", "value", title="faults")
    for name, value in figures.items():
        table.add_row(name, str(value))
    Console().print(table)


if __name__ == "__main__":
    main()
