"""Is the canary judge right, and how fast?

    python -m benchmarks.judge [--releases 200] [--many 10000] [--seed 1] [--json]

Every world is played `--releases` times with `evals.sequential:default_test`, release i with seed + i; worlds of errors
also `--many` times with all of α on errors, as arrays. `bound` is the two-sample information bound at the first share:
canary requests that any rule needs on average that is right at every look whatever stable's rate is. Intervals are
Clopper and Pearson's, 95 %.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.many_releases import first_alarms
from evals.information import requests_to_tell
from evals.intervals import clopper_pearson
from evals.sequential import SequentialTest, default_test
from evals.simulation import EQUAL, WORLDS, World, play

ALPHA = 0.01


def judged(world: World, make: Callable[[], SequentialTest], releases: int, seed: int) -> dict[str, Any]:
    """How often each decision, and after how many canary requests and seconds."""
    ends = [_end(world, make(), seed + number) for number in range(releases)]
    found: dict[str, Any] = {"world": world.name, "n": releases}
    for decision in ("rollback", "promote", "wait"):
        mine = [(requests, seconds) for what, requests, seconds in ends if what == decision]
        found[decision] = share_and_interval(len(mine), releases)
        if mine and decision != "wait":
            found[f"{decision}_requests"] = _spread([requests for requests, _ in mine])
            found[f"{decision}_s_median"] = float(np.median([seconds for _, seconds in mine]))
    return found | _against_bound(world, found.get("rollback_requests"))


def _end(world: World, test: SequentialTest, seed: int) -> tuple[str, int, float]:
    requests, seconds = 0, 0.0
    for interval in play(world, seed):
        requests, seconds = requests + interval.canary.n, interval.t
        decision = test.observe(interval)
        if decision != "wait":
            return decision, requests, seconds
    return "wait", requests, seconds


def on_errors(world: World, releases: int, seed: int) -> dict[str, Any]:
    """All of α on errors, many releases as arrays, at the first share all the time where the canary is worse."""
    is_equal = world.canary_errors == world.stable_errors
    fixed = world if is_equal else World(**{**vars(world), "shares": world.shares[:1]})
    alarms = first_alarms(fixed, releases, seed, ALPHA)
    home = alarms[~np.isnan(alarms)]
    found: dict[str, Any] = {"world": world.name, "n": releases, "rollback": share_and_interval(home.size, releases)}
    if is_equal:
        return found
    found["rollback_requests"] = _spread(home.tolist())
    return found | _against_bound(world, found["rollback_requests"])


def _against_bound(world: World, requests: Sequence[float] | None) -> dict[str, Any]:
    if requests is None or world.canary_errors <= world.stable_errors:
        return {}
    bound = requests_to_tell(world.stable_errors, world.canary_errors, world.shares[0], ALPHA)
    return {"bound": round(bound, 1), "ratio_to_bound": [round(value / bound, 2) for value in requests]}


def share_and_interval(hits: int, of: int) -> list[float]:
    """The share and its 95 % interval."""
    low, high = clopper_pearson(hits, of)
    return [round(hits / of, 4), round(low, 4), round(high, 4)]


def _spread(values: Sequence[float]) -> list[float]:
    """Median, mean, 95th percentile."""
    return [round(float(v), 1) for v in (np.median(values), np.mean(values), np.quantile(values, 0.95))]


def measure(releases: int, many: int, seed: int) -> dict[str, list[dict[str, Any]]]:
    """Both tables."""
    figures: dict[str, list[dict[str, Any]]] = {"all_metrics": [], "errors_only": []}
    for world in WORLDS:
        _say(world.name)
        figures["all_metrics"].append(judged(world, default_test, releases, seed))
        if world.canary_errors != EQUAL.canary_errors or (world.name.startswith("A/A") and not world.pod_noise):
            figures["errors_only"].append(on_errors(world, many, seed))
    return figures


def _say(what: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{what:<60}", end="", file=sys.stderr, flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--releases", type=int, default=200, help="of each world, all metrics")
    parser.add_argument("--many", type=int, default=10_000, help="of each world of errors, errors alone")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    figures = measure(options.releases, options.many, options.seed)
    if options.json:
        print(json.dumps(figures))
        return
    for name, rows in figures.items():
        columns = list(dict.fromkeys(key for row in rows for key in row))
        table = Table(*columns, title=name)
        for row in rows:
            table.add_row(*(str(row.get(column, "")) for column in columns))
        Console().print(table)


if __name__ == "__main__":
    main()
