"""Is what is usual at a service read from its strata, and assumed only where too little was seen?"""

from __future__ import annotations

import numpy as np
import pytest

from evals.planning.usual import Usual, usual_of
from evals.planning.worlds import EQUAL, ArmSeen, Traffic
from evals.sequential import arm_of
from evals.signals.strata import ArmCounts, Stratum

NOBODY = ArmCounts()


def stratum(number: int, stable: ArmCounts, canary: ArmCounts = NOBODY, lasts_s: float = 5.0) -> Stratum:
    """One interval of a gateway."""
    return Stratum(number, "b", number * lasts_s, (number + 1) * lasts_s, 0.0, stable, canary)


def test_a_rate_is_of_both_arms():
    """A hundred requests in five seconds, ten of them at a canary."""
    seen = usual_of([stratum(n, ArmCounts(90), ArmCounts(10)) for n in range(20)])
    assert seen is not None
    assert seen.requests_per_s == pytest.approx(20.0)


def test_what_was_seen_enough_is_measured():
    """Errors, latencies and scores, of stable alone."""
    arm = ArmSeen(1000, 20, np.full(1000, 50.0), np.full(200, 0.9))
    seen = usual_of([stratum(n, arm_of(arm)) for n in range(12)])
    assert seen is not None
    assert seen.assumed == ()
    assert seen.error_rate == pytest.approx(0.02, abs=1e-4)
    assert (seen.labelled, seen.scores) == (0.2, {900: 2400})
    assert seen.slower_than(seen.quantile_step(0.5)) == 0.0


def test_streams_are_as_they_were_seen():
    """What is timed in them, and how many answers were bad; what was seen in too few is left to be assumed."""
    rates = {"goodput": {"0": (60, 3), "64": (40, 7)}, "cut": {"": (5, 1)}}
    timing = ArmCounts(100, over={10: 100, 20: 0})
    seen = usual_of([stratum(n, ArmCounts(100, rates=rates, timings={"first_token": timing})) for n in range(12)])
    assert seen is not None
    assert (seen.timings, seen.rates) == ({"first_token": {20: 1200}}, {"goodput": pytest.approx(120.1 / 1220)})
    assert seen.of_streams("first_token").quantile_step(0.5) == 20
    assert seen.of_streams("between_tokens").slower_than(seen.of_streams("between_tokens").quantile_step(0.9)) < 0.11


def test_what_was_seen_too_little_is_assumed():
    """A service with a request now and then has a rate, and nothing else that is known."""
    seen = usual_of([stratum(n, ArmCounts(1, 1)) for n in range(100)])
    assert seen is not None
    assert seen.assumed == ("errors", "latency", "scores")
    assert (seen.requests_per_s, seen.error_rate) == (0.2, Usual().error_rate)


def test_a_minute_is_the_least():
    """A gateway that has just been started says nothing about a day."""
    assert usual_of([]) is None
    assert usual_of([stratum(0, ArmCounts(5000))]) is None
    assert usual_of([stratum(n, ArmCounts()) for n in range(12)]) is not None


def test_assumed_latencies_are_those_of_the_simulated_releases():
    """A tenth is slower than the p90, to the grid's step."""
    usual = Usual()
    assert usual.slower_than(usual.quantile_step(0.9)) == pytest.approx(0.1, abs=0.02)
    assert usual.slower_than(usual.quantile_step(0.99)) == pytest.approx(0.01, abs=0.003)
    found = [Traffic(EQUAL, seed).interval(0.5) for seed in range(40)]
    median = np.median(np.concatenate([i.stable.latency for i in found]))
    assert 1.05 ** usual.quantile_step(0.5) == pytest.approx(median, rel=0.15)
