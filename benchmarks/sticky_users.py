"""What does sticky assignment do to the judge, and is it right again when it counts users?

    python -m benchmarks.sticky_users [--releases 1000] [--seed 1] [--json]

A service at 250 requests/s for 30 minutes, 5 % of its users at the canary; 20,000 users whose rates follow Zipf's law,
and twenty of the hundred busiest are bad clients, half of whose requests fail at any version. Four ways to count the
same requests, all of α = 1 % on errors, looked at every 5 s:

- `request, sticky`: each request counts, and a user stays at one arm: a bad client is evidence again and again.
- `request`: each request counts, and is assigned by itself: what Shipway does by default.
- `user and interval, sticky`: a user counts once an interval, as failed where any of his requests failed.
- `user, sticky`: a user counts once in a release, by his first minute, in the interval in which it ends.

`worse` repeats it with a canary at which 5 % of all requests fail instead of 0.5 %.
"""

from __future__ import annotations

import argparse
import json
import math
from typing import Any

import numpy as np

from benchmarks.judge import share_and_interval
from evals.canary_state import ERRORS
from evals.processes import Bank, absorb

USERS, BUSY, BAD, BAD_RATE = 20_000, 100, 20, 0.5
REQUESTS_PER_S, INTERVAL_S, LOOKS, SHARE, ERROR_RATE = 250.0, 5.0, 360, 0.05, 0.005
FIRST_LOOKS = 12
WAYS = ("request, sticky", "request", "user and interval, sticky", "user, sticky")


def release(rng: np.random.Generator, canary_errors: float) -> np.ndarray:
    """Counts of one release, shape [ways, looks, 4]: canary, its bad ones, stable, its bad ones."""
    rates = 1 / np.arange(1, USERS + 1)
    rates *= REQUESTS_PER_S * INTERVAL_S / rates.sum()
    at_canary = rng.random(USERS) < SHARE
    usual = np.where(at_canary, canary_errors, ERROR_RATE)
    usual[rng.choice(BUSY, BAD, replace=False)] = BAD_RATE
    counts = np.zeros((len(WAYS), LOOKS, 4), dtype=np.int64)
    seen_at, failed_early = np.full(USERS, LOOKS), np.zeros(USERS, dtype=bool)
    for look in range(LOOKS):
        asked = rng.poisson(rates)
        failed = rng.binomial(asked, usual)
        counts[0, look] = _by_arm(at_canary, asked, failed)
        counts[1, look] = _dealt(rng, asked, usual, canary_errors)
        counts[2, look] = _by_arm(at_canary, asked > 0, failed > 0)
        seen_at = np.where((asked > 0) & (seen_at == LOOKS), look, seen_at)
        failed_early |= (failed > 0) & (look - seen_at < FIRST_LOOKS)
        ended = seen_at == look - FIRST_LOOKS + 1
        counts[3, look] = _by_arm(at_canary, ended, ended & failed_early)
    return counts


def _by_arm(at_canary: np.ndarray, units: np.ndarray, bad: np.ndarray) -> tuple[int, int, int, int]:
    return units[at_canary].sum(), bad[at_canary].sum(), units[~at_canary].sum(), bad[~at_canary].sum()


def _dealt(rng: np.random.Generator, asked: np.ndarray, usual: np.ndarray, canary_errors: float) -> tuple[int, ...]:
    """The same requests, each to the canary by a coin of its own."""
    canary = rng.binomial(asked, SHARE)
    is_bad_client = usual == BAD_RATE
    at_canary = rng.binomial(canary, np.where(is_bad_client, BAD_RATE, canary_errors))
    at_stable = rng.binomial(asked - canary, np.where(is_bad_client, BAD_RATE, ERROR_RATE))
    return canary.sum(), at_canary.sum(), (asked - canary).sum(), at_stable.sum()


def measure(releases: int, seed: int) -> list[dict[str, Any]]:
    """For each way: how many good releases go home, and how soon a worse one does."""
    rng = np.random.default_rng(seed)
    good = np.stack([release(rng, ERROR_RATE) for _ in range(releases)], axis=2)
    worse = np.stack([release(rng, 0.05) for _ in range(max(1, releases // 10))], axis=2)
    found = []
    for number, way in enumerate(WAYS):
        alarms, caught = (first_alarm_s(counts[number]) for counts in (good, worse))
        home, seconds = int(np.sum(~np.isnan(alarms))), caught[~np.isnan(caught)]
        found.append(
            {
                "counted": way,
                "n": releases,
                "false_roll_backs": share_and_interval(home, releases),
                "worse_n": len(caught),
                "worse_found": share_and_interval(len(seconds), len(caught)),
                "worse_found_s_median": float(np.median(seconds)) if seconds.size else None,
            }
        )
    return found


def first_alarm_s(looks: np.ndarray) -> np.ndarray:
    """Seconds until each release goes home; NaN where it never does. `looks` has shape [looks, releases, 4]."""
    bank = Bank.of(ERRORS, looks.shape[1])
    found = np.full(looks.shape[1], np.nan)
    for number, counts in enumerate(looks, start=1):
        bank = absorb(ERRORS, bank, counts)
        found = np.where(np.isnan(found) & (bank.log_e >= math.log(100)), number * INTERVAL_S, found)
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
