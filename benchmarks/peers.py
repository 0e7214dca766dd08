"""What do the rules of other tools, and of textbooks, decide on the same simulated releases as Shipway's judge?

    python -m benchmarks.peers [--releases 400] [--judged 400] [--seed 1] [--json | --markdown]

Release i of a world is played once, with seed + i, and every rule sees the same intervals; Shipway's own rules, which
cost most, see only the first `--judged` releases. A rule that has not decided at the end is `undecided`. Delays are
those of the releases that were sent home: canary requests and seconds, median and 95th percentile. Intervals are
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

from benchmarks.judge import share_and_interval
from benchmarks.peer_rules import ArgoRollouts, Flagger, Kayenta, Rule, SageMaker
from benchmarks.textbook_rules import Cusum, PeekingZ, PooledMsprt
from evals.planning.worlds import WORLDS, World, play
from evals.sequential import default_test, errors_test

Rules = dict[str, Callable[[float], Rule]]
"""By name: a rule for a release that lasts so many seconds."""

SHIPWAY: Rules = {
    "Shipway, all metrics": lambda _: default_test(),
    "Shipway, errors only": lambda _: errors_test(),
}
PEERS: Rules = {
    "Flagger, documentation": lambda _: Flagger(),
    "Flagger, tutorial": lambda _: Flagger(threshold=5, steps=5),
    "Argo Rollouts, documentation": ArgoRollouts,
    "Argo Rollouts, 99 % and 500 ms": lambda ends_s: ArgoRollouts(ends_s, every_s=60, success=0.99, p99_ms=500),
    "Kayenta, three runs": Kayenta,
    "Kayenta, one run": lambda ends_s: Kayenta(ends_s, runs=1),
    "SageMaker guardrails": SageMaker,
    "z-test at each look": PeekingZ,
    "CUSUM": Cusum,
    "pooled mSPRT": PooledMsprt,
}
GOOD = ("A/A", "A/A, incident on both arms", "A/A, 5 % pod noise", "A/A, 1 request/s, 2 h")
WORSE = ("errors 0.5 → 2 %", "errors 0.5 → 5 %", "errors 0.5 → 50 %", "p99 +50 %", "p50 +10 %", "leak to +60 %")
Ending = tuple[str, int, float]
"""What was decided, after how many canary requests, after how many seconds."""


def endings(world: World, seed: int, rules: Rules) -> dict[str, Ending]:
    """How each rule ends one release, in the order of the rules."""
    open_rules = {name: make(world.lasts_s) for name, make in rules.items()}
    ended: dict[str, Ending] = {}
    requests = 0
    for interval in play(world, seed):
        requests += interval.canary.n
        decisions = {name: rule.observe(interval) for name, rule in open_rules.items()}
        ended |= {name: (what, requests, interval.t) for name, what in decisions.items() if what != "wait"}
        open_rules = {name: rule for name, rule in open_rules.items() if name not in ended}
        if not open_rules:
            break
    return {name: ended.get(name, ("undecided", requests, world.lasts_s)) for name in rules}


def summary(rule: str, world: str, ends: Sequence[Ending]) -> dict[str, Any]:
    """The shares of each decision, and how late the releases went home."""
    found: dict[str, Any] = {"rule": rule, "world": world, "n": len(ends)}
    for decision in ("rollback", "promote", "undecided"):
        found[decision] = share_and_interval(sum(what == decision for what, _, _ in ends), len(ends))
    late = [(requests, seconds) for what, requests, seconds in ends if what == "rollback"]
    for name, values in zip(("rollback_requests", "rollback_s"), zip(*late, strict=True), strict=False):
        found[name] = [round(float(np.quantile(values, q)), 1) for q in (0.5, 0.95)]
    return found


def measure(releases: int, judged: int, seed: int) -> list[dict[str, Any]]:
    """A line for each rule in each world."""
    found = []
    for world in (world for name in (*GOOD, *WORSE) for world in WORLDS if world.name == name):
        played = []
        for number in range(releases):
            _say(f"{world.name}: {number + 1} of {releases}")
            played.append(endings(world, seed + number, SHIPWAY | PEERS if number < judged else PEERS))
        found += [summary(rule, world.name, [ends[rule] for ends in played if rule in ends]) for rule in played[0]]
    return found


def _say(what: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{what:<60}", end="", file=sys.stderr, flush=True)


def tables(found: list[dict[str, Any]]) -> list[list[list[str]]]:
    """Good canaries, worse ones, and how late these went home: a row for each rule, the heads first."""
    cells = {(line["rule"], line["world"]): line for line in found}
    sizes = {line["rule"]: line["n"] for line in found}
    kinds = (("sent home", GOOD, _share_cell), ("sent home", WORSE, _share_cell), ("until then", WORSE, _delay_cell))
    return [
        [[what, "n", *worlds], *([rule, str(n), *(say(cells[rule, w]) for w in worlds)] for rule, n in sizes.items())]
        for what, worlds, say in kinds
    ]


def _share_cell(line: dict[str, Any]) -> str:
    undecided = line["undecided"][0]
    return _percent(line["rollback"]) + (f"; {100 * undecided:.0f} % undecided" if undecided else "")


def _delay_cell(line: dict[str, Any]) -> str:
    if "rollback_s" not in line:
        return ""
    requests, seconds = (
        f"{middle:,.0f}, {late:,.0f}" for middle, late in (line["rollback_requests"], line["rollback_s"])
    )
    return f"{requests}; {seconds} s"


def _percent(share: Sequence[float]) -> str:
    value, low, high = (f"{100 * part:.1f}".removesuffix(".0") for part in share)
    return f"{value} % ({low} – {high})"


def show(found: list[dict[str, Any]], *, as_markdown: bool) -> None:
    """Print all tables."""
    for heads, *rows in tables(found):
        if as_markdown:
            lines = [f"| {' | '.join(line)} |" for line in (heads, *rows)]
            print("\n".join([lines[0], "|" + "---|" * len(heads), *lines[1:]]), end="\n\n")
        else:
            table = Table(*heads)
            for row in rows:
                table.add_row(*row)
            Console().print(table)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--releases", type=int, default=400, help="of each world")
    parser.add_argument("--judged", type=int, default=400, help="of these, those that Shipway's rules see too")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print one JSON array, with all figures")
    parser.add_argument("--markdown", action="store_true", help="print the tables of docs/benchmarks.md")
    options = parser.parse_args()
    found = measure(options.releases, options.judged, options.seed)
    if options.json:
        print(json.dumps(found))
    else:
        show(found, as_markdown=options.markdown)


if __name__ == "__main__":
    main()
