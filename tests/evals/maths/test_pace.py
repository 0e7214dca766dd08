"""Is it said how much more a promotion needs, and is that about right?"""

from __future__ import annotations

import pytest

from evals.canary.absorb import absorb
from evals.canary.judgement import judge_canary
from evals.canary.plan import CanaryPlan
from evals.canary.state import CanaryState
from evals.maths.pace import Pace
from evals.signals.strata import ArmCounts, Stratum

PLAN = CanaryPlan(latency_tolerance=None)


def after(strata):
    """The state after so many strata without errors: 10 requests of the canary in each, every five seconds."""
    state = CanaryState()
    for n in range(strata):
        arms = ArmCounts(90), ArmCounts(10)
        state = absorb(PLAN, state, Stratum(n, "boot", 5.0 * n, 5.0 * n + 5, 10.0, *arms))
    return state


def test_what_is_said_comes_true():
    """What is said to be missing does complete the proof, within a factor of two: evidence grows faster and faster."""
    proven = next(n for n in range(20, 100) if judge_canary(PLAN, after(n)).promote)
    early, late = (judge_canary(PLAN, after(n)).needs["errors"] for n in (20, proven - 15))
    assert 0.5 < early["more_requests"] / (10 * (proven - 20)) < 2
    assert 1 <= late["more_requests"] / 150 < 2
    assert late["more_s"] == pytest.approx(late["more_requests"] / 2)


def test_a_sentence_says_it():
    """With requests, and a time."""
    assert "more requests of the canary, " in judge_canary(PLAN, after(20)).sentence


def test_nothing_is_missing_after_a_proof():
    """And then nothing is said about it."""
    verdict = judge_canary(PLAN, after(100))
    assert (verdict.promote, verdict.needs["errors"]["more_requests"]) == (True, 0)
    assert "more requests" not in verdict.sentence


def test_evidence_that_does_not_grow_has_no_end():
    """Nobody is told a time that nobody knows."""
    assert Pace(100, 50, {"errors": -0.5}).requests_until("errors", 1.0) is None
    assert Pace().seconds_until(None) is None


def test_later_strata_weigh_more():
    """What was fast before and is slow now is slow."""
    pace = Pace()
    for gained in [1.0] * 100 + [0.0] * 300:
        pace = pace.after(10, 5.0, {"errors": gained})
    assert pace.requests_until("errors", 1.0) > 1_000
