"""Are streamed answers judged by when they begin, and by how fast they flow?"""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from evals.canary.absorb import absorb
from evals.canary.judgement import judge_canary
from evals.canary.plan import CanaryPlan
from evals.canary.state import CanaryState
from evals.signals.latency import LatencyTest
from evals.signals.strata import ArmCounts, Stratum

TEST = LatencyTest((0.5, 0.9, 0.99), 0.05, 0.15)
PLAN = CanaryPlan(latency_tolerance=None, streams={"first_token": TEST, "between_tokens": TEST})


def timing(ms):
    """Counts of streams by what was timed in each."""
    steps = np.ceil(np.log(ms) / np.log(1.05) - 1e-9).astype(int)
    return ArmCounts(len(ms), over={int(step): int(np.sum(steps > step)) for step in np.unique(steps)})


def streaming(rng, number, slower_first=1.0, slower_between=1.0, n_c=125, n_s=125):
    """A stratum of streams; the canary's begin and flow slower by these factors."""

    def arm(n, first, between):
        timings = {"first_token": first * 200 * rng.lognormal(sigma=0.4, size=n)}
        timings["between_tokens"] = between * 20 * rng.lognormal(sigma=0.3, size=n)
        return ArmCounts(n, timings={name: timing(ms) for name, ms in timings.items()})

    arms = arm(n_s, 1, 1), arm(n_c, slower_first, slower_between)
    return Stratum(number, "boot", 5.0 * number, 5.0 * number + 5, 50.0, *arms)


def absorbed(strata, plan=PLAN):
    """What is known after these strata."""
    state = CanaryState()
    for one in strata:
        state = absorb(plan, state, one)
    assert CanaryState.from_dict(json.loads(json.dumps(state.as_dict()))) == state
    return state


def judged(strata, plan=PLAN):
    """The verdict after these strata."""
    return judge_canary(plan, absorbed(strata, plan))


@pytest.mark.parametrize(("slower", "guilty"), [((1.5, 1.0), "first_token"), ((1.0, 1.5), "between_tokens")])
def test_what_is_slower_is_named(slower, guilty):
    """A model that thinks longer, and one that writes slower, are told apart."""
    rng = np.random.default_rng(1)
    verdict = judged([streaming(rng, n, *slower) for n in range(30)])
    assert (verdict.roll_back, verdict.guilty) == (True, (guilty,))
    assert guilty.replace("_", " ") in verdict.sentence


@pytest.mark.parametrize(("pct", "is_sent_home"), [(50.0, True), (90.0, False)])
def test_a_canary_with_more_users_than_stable_may_be_slower(pct, is_sent_home):
    """It has as many servers, and on a GPU answers nine tenths of the requests more slowly than a tenth."""
    rng = np.random.default_rng(1)
    verdict = judged([replace(streaming(rng, n, 1.5, 1.5), canary_pct=pct) for n in range(30)])
    assert (verdict.roll_back, verdict.promote) == (is_sent_home, False)


def test_what_is_no_slower_under_more_users_is_proven_harmless():
    """In bins, too."""
    rng = np.random.default_rng(2)

    def binned(one):
        parts = {n: replace(t, by_slice={"64": t}) for n, t in one.timings.items()}
        return replace(one, timings=parts)

    strata = [streaming(rng, n) for n in range(80)]
    strata = [replace(s, canary_pct=90.0, stable=binned(s.stable), canary=binned(s.canary)) for s in strata]
    verdict = judge_canary(PLAN, absorbed(strata))
    assert verdict.needs["first_token"]["more_requests"] == 0
    assert float(absorbed(strata).streams["first_token"].log_e) == 0.0


def test_equal_streams_are_proven_harmless():
    """Both timings and the errors, each by itself."""
    rng = np.random.default_rng(2)
    verdict = judged([streaming(rng, n) for n in range(80)])
    assert (verdict.promote, verdict.roll_back) == (True, False)
    assert set(verdict.needs) == {"errors", "first_token", "between_tokens"}


def test_nothing_streamed_promotes_nobody():
    """A service that should stream and does not is not proven to stream well."""
    strata = [Stratum(n, "boot", 5.0 * n, 5.0 * n + 5, 50.0, ArmCounts(125), ArmCounts(125)) for n in range(60)]
    verdict = judged(strata)
    assert (verdict.promote, verdict.roll_back) == (False, False)
    assert verdict.needs["first_token"]["more_requests"] is None


def test_latency_shares_its_alpha_with_the_timings():
    """Three things that are timed have the three tenths of α that latency has alone."""
    all_three = CanaryPlan(quality_margin=0.02, streams=PLAN.streams)
    assert {name: round(share, 6) for name, share in all_three.shares.items()} == {
        "errors": 0.4,
        "quality": 0.3,
        "latency": 0.1,
        "first_token": 0.1,
        "between_tokens": 0.1,
    }


def test_only_known_timings_are_judged():
    """A name that nobody times would wait for ever."""
    with pytest.raises(ValueError, match="first_token"):
        CanaryPlan(streams={"last_token": TEST})


def test_timings_survive_the_wire():
    """And more streams than requests are refused."""
    sent = streaming(np.random.default_rng(3), 1).as_dict()
    assert Stratum.from_dict(json.loads(json.dumps(sent))).as_dict() == sent
    sent["arms"]["canary"]["routed"] = 1
    with pytest.raises(ValueError, match="streams"):
        Stratum.from_dict(sent)
