"""What does one look of the judge cost, and how large is what it remembers?

    python -m benchmarks.look [--looks 200] [--json]

A service at 200 requests/s, looked at every 5 s, with 50 slices and 20 metrics in each (errors, and latency at 19
quantiles), so 1,000 e-processes beside those of all requests: CPU time to absorb a stratum and to judge, and the size
of the state as JSON. The first minute, in which slices and histograms are still filling, is not counted.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np

from evals.canary.absorb import absorb
from evals.canary.judgement import judge_canary
from evals.canary.plan import CanaryPlan
from evals.canary.state import CanaryState
from evals.sequential import arm_of
from evals.signals.strata import ArmCounts, Stratum

SLICES, QUANTILES, REQUESTS, WARM_UP = 50, tuple(np.linspace(0.05, 0.99, 19).round(3)), 1000, 12


class _Raw:
    """One arm's requests, as the judge's adapter reads them."""

    def __init__(self, rng: np.random.Generator, n: int) -> None:
        self.n, self.errors = n, int(rng.binomial(n, 0.005))
        self.latency, self.quality = 100 * rng.lognormal(sigma=0.6, size=n), rng.beta(4, 1, n // 5)


def arm(rng: np.random.Generator, n: int) -> ArmCounts:
    """An arm whose requests are dealt evenly to the slices."""
    whole = arm_of(_Raw(rng, n))
    parts = {f"country={k}": arm_of(_Raw(rng, int(rng.poisson(n / SLICES)))) for k in range(SLICES)}
    return ArmCounts(whole.routed, whole.errors, 0, whole.over, whole.scores, {}, parts)


def measure(looks: int) -> dict[str, Any]:
    """CPU milliseconds of a look, and kilobytes of the state after all of them."""
    rng = np.random.default_rng(1)
    plan = CanaryPlan(latency_quantiles=QUANTILES, latency_margin=0.15, quality_margin=0.02, has_slices=True)
    state, took_ms = CanaryState(), []
    for number in range(WARM_UP + looks):
        canary = int(rng.binomial(REQUESTS, 0.25))
        arms = arm(rng, REQUESTS - canary), arm(rng, canary)
        stratum = Stratum(number, "b", 5.0 * number, 5.0 * number + 5, 25.0, *arms, control=arm(rng, REQUESTS // 3))
        began = time.process_time()
        state = absorb(plan, state, stratum)
        judge_canary(plan, state)
        took_ms.append((time.process_time() - began) * 1000)
    kept = sorted(took_ms[WARM_UP:])
    return {
        "looks": looks,
        "processes": state.errors.rows + state.latency.slices.rows,
        "cpu_ms": {"median": round(kept[looks // 2], 2), "p95": round(kept[int(0.95 * looks)], 2)},
        "state_kb": round(len(json.dumps(state.as_dict())) / 1024, 1),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--looks", type=int, default=200)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    found = measure(options.looks)
    print(json.dumps(found) if options.json else "\n".join(f"{name:<10} {value}" for name, value in found.items()))


if __name__ == "__main__":
    main()
