"""Is the canary judge right, and how fast?

    python -m benchmarks.judge [--equal 1000] [--releases 200] [--many 20000] [--worlds TEXT] [--tables NAME …]
                               [--seed 1] [--processes 1] [--json]

Every world is played with `evals.sequential:default_test`, release i with seed + i: `--equal` times where the canary is
no worse, else `--releases` times; equal canaries also with all of α on latency, or on quality, and at other rates until
they are promoted. Worlds of errors are played `--many` times with all of α on errors, as arrays. `harm` is the requests
that failed, or were slower, than they would have been at stable, until the canary went home. `bound` is the two-sample
information bound at the first share: canary requests that any rule needs on average that is right at every look
whatever stable's rate is. Intervals are Clopper and Pearson's, 95 %.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import many_streams
from benchmarks.many_releases import first_alarms
from benchmarks.many_streams import STREAM_WORLDS, StreamWorld
from evals.canary.plan import CanaryPlan
from evals.maths.rates import clopper_pearson, requests_to_tell
from evals.planning.worlds import EQUAL, INTERVAL_S, WORLDS, Traffic, World, play
from evals.sequential import SequentialTest, default_test

ALPHA = 0.01
TABLES = ("all_metrics", "alone", "errors_only", "rates", "language")
CHUNK = 250
"""Releases of language models that are played side by side."""
RATES = {1.0: 48.0, 10.0: 6.0, 50.0: 1.0}
"""Requests a second, and for how many hours an equal canary may wait for its promotion at that rate."""


def latency_test() -> SequentialTest:
    """All of α on latency."""
    return SequentialTest(CanaryPlan(alpha_shares={"latency": 1.0}))


def quality_test() -> SequentialTest:
    """All of α on quality."""
    return SequentialTest(CanaryPlan(latency_tolerance=None, quality_margin=0.02, alpha_shares={"quality": 1.0}))


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
    if "rollback_requests" in found and (touched := _touched(world)):
        found["harm"] = [round(touched * requests, 1) for requests in found["rollback_requests"]]
    return found | _against_bound(world, found.get("rollback_requests"))


def _touched(world: World) -> float:
    """The part of the canary's requests that fail, or are slower, because it is worse."""
    if world.slower != 1.0 or world.leak_to != 1.0:
        return 1.0
    return 0.1 if world.p99_slower != 1.0 else world.canary_errors - world.stable_errors


def until_promoted(requests_per_s: float, hours: float, releases: int, seed: int) -> dict[str, Any]:
    """How many hours an equal canary takes, looked at as often as twelve requests a look at the first share allow."""
    world = replace(EQUAL, requests_per_s=requests_per_s, lasts_s=3600 * hours)
    look_s = max(INTERVAL_S, 12 / (requests_per_s * world.shares[0]))
    took = []
    for number in range(releases):
        test, traffic, at_s = default_test(), Traffic(world, seed + number), 0.0
        while at_s < world.lasts_s:
            interval = traffic.interval(world.shares[min(3, int(at_s / 450))], look_s)
            at_s = interval.t
            if test.observe(interval) == "promote":
                took.append(at_s / 3600)
                break
    promoted = share_and_interval(len(took), releases)
    return {"requests_per_s": requests_per_s, "n": releases, "promoted": promoted, "hours": _spread_fine(took)}


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


def of_language(world: StreamWorld, releases: int, seed: int, processes: int) -> dict[str, Any]:
    """All gates of language models; each chunk of releases has a seed of its own."""
    sizes = [min(CHUNK, releases - begin) for begin in range(0, releases, CHUNK)]
    chunks = [(world, size, seed + number) for number, size in enumerate(sizes)]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        alarms = np.concatenate([found for found, _ in pool.map(many_streams.first_alarms, *zip(*chunks, strict=True))])
    home = alarms[~np.isnan(alarms)]
    found = {"world": world.name, "n": releases, "rollback": share_and_interval(home.size, releases)}
    if world.is_equal or not home.size:
        return found
    return found | {"rollback_requests": _spread(home.tolist()), "plan_says": many_streams.planned(world)}


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


def _spread_fine(values: Sequence[float]) -> list[float]:
    return (
        [round(float(v), 2) for v in (np.median(values), np.mean(values), np.quantile(values, 0.95))] if values else []
    )


def measure(options: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """The tables that are asked for."""
    figures: dict[str, list[dict[str, Any]]] = {name: [] for name in options.tables}
    equal, releases, many, seed = options.equal, options.releases, options.many, options.seed
    for world in (w for w in WORLDS if options.worlds in w.name):
        is_equal = world.name.startswith("A/A")
        if "all_metrics" in figures:
            _say(world.name)
            figures["all_metrics"].append(judged(world, default_test, equal if is_equal else releases, seed))
        is_of_errors = world.canary_errors != EQUAL.canary_errors or (is_equal and not world.pod_noise)
        if "errors_only" in figures and is_of_errors:
            figures["errors_only"].append(on_errors(world, many, seed))
    for world in (w for w in STREAM_WORLDS if "language" in figures and options.worlds in w.name):
        _say(world.name)
        number = many if world.is_equal else releases
        figures["language"].append(of_language(world, number, seed, options.processes))
    for test in (latency_test, quality_test) if "alone" in figures else ():
        _say(test.__name__)
        figures["alone"].append({"alpha_on": test.__name__, **judged(EQUAL, test, equal, seed)})
    for rate, hours in RATES.items() if "rates" in figures else ():
        _say(f"{rate:g} requests/s")
        figures["rates"].append(until_promoted(rate, hours, max(1, releases // 5), seed))
    return figures


def _say(what: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{what:<60}", end="", file=sys.stderr, flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--equal", type=int, default=1000, help="of each world whose canary is no worse")
    parser.add_argument("--releases", type=int, default=200, help="of each other world, all metrics")
    parser.add_argument("--worlds", default="", help="only those whose name contains this")
    parser.add_argument("--many", type=int, default=20_000, help="of each world of errors, errors alone")
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=TABLES, help="only these")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=1, help="that play language models")
    options = parser.parse_args()
    figures = measure(options)
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
