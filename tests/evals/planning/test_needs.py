"""Are the requests that a gate is said to need those that the judge takes?"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from evals.canary.plan import CanaryPlan
from evals.planning.needs import Reached, Timetable, needs
from evals.planning.usual import Usual
from evals.planning.worlds import EQUAL
from evals.signals.binned import RateTest
from evals.signals.latency import LatencyTest
from evals.signals.means import MeanTest
from pipelines.forecast.simulation import simulate_release
from pipelines.spec.gates import RolloutGates
from pipelines.spec.rollout import RolloutSpec, StepSpec

PACE = Timetable(((0.05, 300.0), (0.25, 300.0), (0.5, math.inf)), 50.0, 5.0, 72_000.0)
ERRORS_ONLY = CanaryPlan(latency_tolerance=None)


TPOT_STEPS = {60: 100, 62: 300, 64: 400, 66: 150, 70: 50}


def median_of(reached: Reached | None) -> float:
    """Canary requests of half of the releases."""
    assert reached is not None
    return float(np.median(reached.requests))


def test_every_gate_is_named():
    """Errors, each quantile, quality, each attribute; only what a promotion needs has to be proven harmless."""
    plan = CanaryPlan(quality_margin=0.02, has_slices=True)
    found = {need.gate: need.promote is not None for need in needs(plan, Usual(), PACE, ["country"])}
    latency = {"latency p50": False, "latency p90": False, "latency p99": False}
    assert found == {"errors": True, **latency, "quality": True, "errors in one country": False}


def test_scores_that_never_come_need_nothing():
    """Their share is handed to the others."""
    plan = CanaryPlan(quality_margin=0.02, labels_arrive=False)
    assert "quality" not in {need.gate for need in needs(plan, Usual(), PACE)}


def test_streams_and_their_answers_are_named():
    """As what is timed in them is at this service; another rate of misses takes another number of requests."""
    test = LatencyTest((0.5, 0.99), 0.05, 0.15)
    plan = CanaryPlan(latency_tolerance=None, streams={"between_tokens": test}, rates={"goodput": RateTest(0.25, 0.05)})
    assumed, measured = (
        {need.gate: need for need in needs(plan, usual, PACE)}
        for usual in (Usual(), Usual(timings={"between_tokens": TPOT_STEPS}, rates={"goodput": 0.15}))
    )
    assert set(assumed) == {"errors", "between tokens p50", "between tokens p99", "goodput"}
    assert assumed["between tokens p99"].promote is not None
    assert median_of(measured["goodput"].catch) > 2 * median_of(assumed["goodput"].catch)
    assert median_of(measured["between tokens p50"].catch) < median_of(assumed["between tokens p50"].catch)
    assert "than 15.0%" in measured["goodput"].harm


def test_what_has_no_share_of_alpha_catches_nothing():
    """And still stands in the way of a promotion, where it has a margin."""
    plan = CanaryPlan(latency_margin=0.15, alpha_shares={"errors": 1.0})
    latency = [need for need in needs(plan, Usual(), PACE) if need.gate.startswith("latency")]
    assert [np.isinf(need.catch.requests).all() for need in latency] == [True] * 3
    assert median_of(latency[0].promote) < np.inf


def test_it_is_what_whole_releases_take():
    """The proof of harmlessness of errors comes about when simulated releases have it, played look by look."""
    (errors,) = needs(ERRORS_ONLY, Usual(), replace(PACE, stages=((0.5, math.inf),)))
    gates = RolloutGates(latency=None, drift=None)
    plan = RolloutSpec(steps=(StepSpec(pct=50),), hold_s=150.0, bake_s=0.0, warmup_s=0.0, gates=gates)
    proven_s = [
        next(glance.at_s for glance in played.glances if glance.harmless >= 1)
        for played in (simulate_release(plan, EQUAL, seed) for seed in range(8))
    ]
    assert errors.promote is not None
    assert float(np.median(errors.promote.seconds)) == pytest.approx(float(np.median(proven_s)), rel=0.4)


def test_a_smaller_margin_needs_more():
    """To be disproven, and to be caught."""
    (wide,), (narrow,) = (needs(replace(ERRORS_ONLY, error_margin=m), Usual(), PACE) for m in (0.02, 0.01))
    assert median_of(narrow.promote) > 1.3 * median_of(wide.promote)
    assert median_of(narrow.catch) > 1.3 * median_of(wide.catch)


def test_more_traffic_needs_less_time():
    """And about as many requests."""
    (slow,), (fast,) = (needs(ERRORS_ONLY, Usual(), replace(PACE, requests_per_s=rate)) for rate in (10.0, 100.0))
    assert slow.promote is not None
    assert fast.promote is not None
    assert np.median(slow.promote.seconds) > 2 * np.median(fast.promote.seconds)


def test_what_never_comes_is_null():
    """Where nothing is played for long enough, nobody is told a number."""
    (errors,) = needs(ERRORS_ONLY, Usual(), replace(PACE, requests_per_s=0.01, until_s=600.0))
    told = errors.catch.as_dict(600.0, is_timed=True)
    assert (told["canary_requests"], told["minutes"], told["by_deadline"]) == (None, None, 0.0)


def test_strata_end_where_a_share_does():
    """They grow with the time that has passed, and never reach into the next stage."""
    strata = list(PACE.strata())
    assert [at_s for share, at_s, _ in strata if share == 0.05][-1] == 300.0
    assert strata[0] == (0.05, 5.0, 5.0)
    assert sum(length_s for *_, length_s in strata) == pytest.approx(72_000.0)
    assert all(length_s <= max(5.0, 0.05 * at_s) + 1e-9 for _, at_s, length_s in strata)


def test_a_gate_on_cost_says_what_it_needs():
    """A tenth dearer is disproven within some thousand answers, half as much again is found within a hundred or two."""
    pace = Timetable(((0.1, math.inf),), 50.0, 5.0, 7200.0)
    (need,) = (n for n in needs(replace(ERRORS_ONLY, cost=MeanTest(0.05, 0.5)), Usual(), pace) if n.gate == "cost")
    assert (need.gate, need.harm) == ("cost", "answers dearer by 50%")
    assert median_of(need.catch) < median_of(need.promote) < 600
    (strict,) = (n for n in needs(replace(ERRORS_ONLY, cost=MeanTest(0.05, 0.1)), Usual(), pace) if n.gate == "cost")
    assert 500 < median_of(strict.promote) < 4000
