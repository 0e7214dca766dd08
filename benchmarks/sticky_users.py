"""What does sticky assignment do to the judge, and is it right again when it counts users?

    python -m benchmarks.sticky_users [--releases 1000] [--seed 1] [--json]

A service at 250 requests/s for 30 minutes, at shares of 5, 10, 25 and 50 %; 5,000 users whose rates follow Zipf's law,
and twenty of the hundred busiest are bad clients, half of whose requests fail at any version. Four ways to count the
same requests, all of α = 1 % on errors, looked at every 5 s:

- `request, sticky`: each request counts, and a user stays at one arm: a bad client is evidence again and again.
- `request`: each request counts, and is assigned by itself: what Shipway does by default.
- `user and interval, sticky`: a user counts once an interval, as failed where any of his requests failed.
- `user, sticky`: a user counts once in a step of the plan, by his first minute in it; the judge with `unit: user`.

`worse` repeats it with a canary at which 5 % of all requests fail instead of 0.5 %.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.judge import share_and_interval
from benchmarks.simulated_users import INTERVAL_S, Counts, Crowd, UserInterval, play_users
from evals.canary.absorb import absorb
from evals.canary.judgement import judge_canary
from evals.canary.plan import CanaryPlan
from evals.canary.state import CanaryState
from evals.signals.strata import ArmCounts, Stratum

BY_REQUEST = CanaryPlan(latency_tolerance=None)
BY_USER = CanaryPlan(latency_tolerance=None, unit="user", periods=4)
WAYS = {
    "request, sticky": (BY_REQUEST, lambda seen: seen.requests),
    "request": (BY_REQUEST, lambda seen: seen.scattered),
    "user and interval, sticky": (BY_REQUEST, lambda seen: seen.users),
    "user, sticky": (BY_USER, lambda seen: seen.closed),
}


def stratum_of(number: int, share: float, counts: Counts) -> Stratum:
    """What the judge gets: the units as requests, and as users."""
    canary, canary_bad, stable, stable_bad = counts
    arms = [ArmCounts(n, bad, users=ArmCounts(n, bad)) for n, bad in ((stable, stable_bad), (canary, canary_bad))]
    began_s = INTERVAL_S * number
    return Stratum(number, "raw", began_s, began_s + INTERVAL_S, 100 * share, *arms)


def home_after_s(plan: CanaryPlan, intervals: Iterable[tuple[float, Counts]]) -> float | None:
    """Seconds until this release goes home; None where it never does."""
    state = CanaryState()
    for number, (share, counts) in enumerate(intervals):
        state = absorb(plan, state, stratum_of(number, share, counts))
        verdict = judge_canary(plan, state)
        if verdict.guilty:  # the guard on shares means nothing where users are counted again and again
            return INTERVAL_S * (number + 1)
    return None


def played(crowd: Crowd, seed: int) -> dict[str, float | None]:
    """One release, counted in every way."""
    seen: list[UserInterval] = list(play_users(crowd, seed))
    return {way: home_after_s(plan, ((s.share, count(s)) for s in seen)) for way, (plan, count) in WAYS.items()}


def measure(releases: int, seed: int) -> list[dict[str, Any]]:
    """For each way: how many good releases go home, and how soon a worse one does."""
    good = [played(Crowd(), seed + n) for n in range(releases)]
    worse = [played(replace(Crowd(), canary_errors=0.05), seed + n) for n in range(max(1, releases // 10))]
    found = []
    for way in WAYS:
        home, caught = ([r[way] for r in rows if r[way] is not None] for rows in (good, worse))
        found.append(
            {
                "counted": way,
                "n": releases,
                "false_roll_backs": share_and_interval(len(home), releases),
                "worse_n": len(worse),
                "worse_found": share_and_interval(len(caught), len(worse)),
                "worse_found_s_median": float(np.median(np.array(caught, dtype=float))) if caught else None,
            }
        )
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--releases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    found = measure(options.releases, options.seed)
    print(json.dumps(found) if options.json else "\n".join(map(str, found)))


if __name__ == "__main__":
    main()
