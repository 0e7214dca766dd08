"""What does earning each share cost and save, against a fixed timetable?

    python -m benchmarks.advance [--good 60] [--bad 200] [--worse 300] [--seed 1] [--json]

The starter spec's steps (5, 25, 50 %, five minutes each, then a quarter of an hour at 95 %, two hours at most), judged
on errors alone, played by the timetable and by `advance: earned` with several budgets, on the *same* simulated
releases: release i is played with seed + i under each rule. Harm is requests that failed beyond stable's; times are
from the first users on. Intervals are Clopper and Pearson's, 95 %.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from typing import Any

from rich.console import Console
from rich.table import Table

from evals.planning.worlds import EQUAL, World
from pipelines.forecast.simulation import simulate_release
from pipelines.forecast.simulation_summary import counted, spread
from pipelines.records.release import Phase
from pipelines.spec.gates import RolloutGates
from pipelines.spec.rollout import RolloutSpec

TIMED = RolloutSpec(gates=RolloutGates(latency=None, drift=None))
RULES = {
    "timetable": TIMED,
    **{f"earned, budget {n}": TIMED.model_copy(update={"advance": "earned", "harm_budget": n}) for n in (10, 20, 50)},
}
MARGIN = TIMED.gates.errors.margin


def worlds(good: int, bad: int, worse: int) -> list[tuple[World, int]]:
    """What is played, and how often."""
    fast = replace(EQUAL, scored=0.0)
    return [
        *((replace(fast, name=f"A/A, {rps:g}/s", requests_per_s=rps), good) for rps in (1.0, 10.0, 50.0)),
        *((replace(fast, name=f"0.5 → {100 * p:g} %, 50/s", canary_errors=p), bad) for p in (0.02, 0.05, 0.5)),
        (replace(fast, name="0.5 → 5 %, 10/s", canary_errors=0.05, requests_per_s=10.0), bad),
        (replace(fast, name="worse by the margin, 50/s", canary_errors=fast.stable_errors + MARGIN), worse),
    ]


def played(world: World, rule: str, releases: int, seed: int) -> dict[str, Any]:
    """How the releases of one world end under one rule."""
    ends = [simulate_release(RULES[rule], world, seed + number) for number in range(releases)]
    return {
        "world": world.name,
        "rule": rule,
        "n": releases,
        "rolled_back": counted([end.outcome is Phase.ROLLED_BACK for end in ends]),
        "promoted": counted([end.outcome is Phase.PROMOTED for end in ends]),
        "full_share_s": spread([end.full_s for end in ends if end.full_s is not None]),
        "ended_s": spread([end.at_s for end in ends]),
        "failed_beyond_stable": spread([end.harm.failed for end in ends]),
    }


def measure(good: int, bad: int, worse: int, seed: int) -> list[dict[str, Any]]:
    """A row for each world and rule."""
    found = []
    for world, releases in worlds(good, bad, worse):
        for rule in RULES:
            if sys.stderr.isatty():
                print(f"\r{world.name + ', ' + rule:<60}", end="", file=sys.stderr, flush=True)
            found.append(played(world, rule, releases, seed))
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--good", type=int, default=60, help="releases of each A/A world")
    parser.add_argument("--bad", type=int, default=200, help="of each world in which the canary is worse")
    parser.add_argument("--worse", type=int, default=300, help="of the one in which it is worse by the margin")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    rows = measure(options.good, options.bad, options.worse, options.seed)
    if options.json:
        print(json.dumps(rows))
        return
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    Console(width=240).print(table)


if __name__ == "__main__":
    main()
