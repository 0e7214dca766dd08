"""What do the releases that were played show? Counts with their intervals, times, and the harm done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from evals.maths.rates import clopper_pearson
from pipelines.forecast.scenarios import Scenario
from pipelines.forecast.simulation import Played
from pipelines.records.release import Phase

OUTCOMES = (Phase.ROLLED_BACK, Phase.PROMOTED, Phase.HELD)


def summary(scenario: Scenario, played: Sequence[Played], seed: int) -> dict[str, Any]:
    """All of one scenario as plain data; release i was played with `seed` + i. Times are from the first users on."""
    shares = {str(outcome): counted([p.outcome is outcome for p in played]) for outcome in OUTCOMES}
    wrong, name = ("promoted", "wrong_promotions") if scenario.harm else ("rolled_back", "false_roll_backs")
    home = [p for p in played if p.outcome is Phase.ROLLED_BACK]
    return {
        "scenario": scenario.name,
        "says": scenario.says,
        "harm": scenario.harm or None,
        "is_judged": scenario.is_judged,
        "releases": len(played),
        "seeds": [seed, seed + len(played) - 1],
        **shares,
        name: shares[wrong],
        "confounded": sum(p.verdict.confounded for p in home),
        "decision_s": spread([p.at_s for p in played if p.outcome is not Phase.HELD]),
        "detection_s": spread([p.at_s - scenario.from_s for p in home]) if scenario.harm else None,
        "full_share_s": spread([p.full_s for p in played if p.full_s is not None]),
        "canary_requests": spread([p.harm.requests for p in played]),
        "failed_beyond_stable": spread([p.harm.failed for p in played]),
        "slowed_beyond_stable": spread([p.harm.slowed for p in played]),
    }


def counted(are: Sequence[bool]) -> dict[str, float]:
    """How many are, as a number and as a share with its 95 % interval."""
    low, high = clopper_pearson(sum(are), len(are))
    return {"n": sum(are), "share": sum(are) / len(are), "low": round(low, 5), "high": round(high, 5)}


def spread(values: Sequence[float]) -> dict[str, float] | None:
    """Median, mean and 95th percentile; None of nothing."""
    if not values:
        return None
    found = {"median": np.median(values), "mean": np.mean(values), "p95": np.quantile(values, 0.95)}
    return {name: round(float(value), 2) for name, value in found.items()}
