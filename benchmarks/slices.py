"""Is a fault in one small slice found, and do fifty slices without one stay quiet?

    python -m benchmarks.slices [--worse 500] [--equal 1000] [--seed 1] [--json]

A service at 200 requests/s for 30 minutes, at shares of 5, 10, 25 and 50 %, looked at every 5 s, α = 1 % on errors with
half of it for the slices. `worse`: one of 50 declared values has 3 % of the requests, and a fifth of them fail at the
canary instead of 0.5 %. `equal`: nothing differs.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np

from benchmarks.judge import share_and_interval
from evals.canary.absorb import absorb
from evals.canary.judgement import judge_canary
from evals.canary.plan import CanaryPlan
from evals.canary.state import CanaryState
from evals.planning.worlds import INTERVAL_S
from evals.signals.strata import ArmCounts, Stratum

PLAN = CanaryPlan(latency_tolerance=None, has_slices=True)
SLICES, SMALL, ERRORS, WORSE = 50, 0.03, 0.005, 0.2
REQUESTS, LOOKS, SHARES = 1000, 360, (0.05, 0.1, 0.25, 0.5)
SIZES = np.array([SMALL, *[(1 - SMALL) / (SLICES - 1)] * (SLICES - 1)])


def home_after_s(rng: np.random.Generator, worse: float) -> tuple[float | None, str]:
    """When a release whose smallest slice fails at this rate at the canary goes home, and for what."""
    state = CanaryState()
    rates = np.array([worse, *[ERRORS] * (SLICES - 1)])
    for look in range(LOOKS):
        share = SHARES[look * len(SHARES) // LOOKS]
        began_s = INTERVAL_S * look
        requests = rng.poisson(REQUESTS * SIZES)
        canary = rng.binomial(requests, share)
        arms = _arm(rng, requests - canary, np.full(SLICES, ERRORS)), _arm(rng, canary, rates)
        state = absorb(PLAN, state, Stratum(look, "b", began_s, began_s + INTERVAL_S, 100 * share, *arms))
        verdict = judge_canary(PLAN, state)
        if verdict.roll_back:
            return began_s + INTERVAL_S, " ".join((*verdict.guilty, *verdict.suspects))
    return None, ""


def _arm(rng: np.random.Generator, routed: np.ndarray, rates: np.ndarray) -> ArmCounts:
    failed = rng.binomial(routed, rates)
    parts = {f"slice={k}": ArmCounts(int(n), int(bad)) for k, (n, bad) in enumerate(zip(routed, failed, strict=True))}
    return ArmCounts(int(routed.sum()), int(failed.sum()), by_slice=parts)


def measure(worse: int, equal: int, seed: int) -> dict[str, Any]:
    """Shares with 95 % intervals, and seconds until the fault is found as median and 95th percentile."""
    rng = np.random.default_rng(seed)
    found = [home_after_s(rng, WORSE) for _ in range(worse)]
    seconds = [at_s for at_s, _ in found if at_s is not None]
    named = sum("slice=0" in what for _, what in found)
    false = sum(home_after_s(rng, ERRORS)[0] is not None for _ in range(equal))
    return {
        "worse_n": worse,
        "found": share_and_interval(len(seconds), worse),
        "named": share_and_interval(named, worse),
        "found_s": [float(np.median(seconds)), float(np.quantile(seconds, 0.95))] if seconds else None,
        "equal_n": equal,
        "false": share_and_interval(false, equal),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worse", type=int, default=500)
    parser.add_argument("--equal", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    found = measure(options.worse, options.equal, options.seed)
    print(json.dumps(found) if options.json else "\n".join(f"{name:<9} {value}" for name, value in found.items()))


if __name__ == "__main__":
    main()
