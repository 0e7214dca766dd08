"""Does the judge send bad canaries home, prove good ones harmless, and say why?"""

from __future__ import annotations

import json
import math
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.canary.absorb import absorb
from evals.canary.judgement import judge_canary
from evals.canary.plan import CanaryPlan
from evals.canary.state import ERRORS, CanaryState
from evals.maths.e_processes import Bank
from evals.signals.graded import TAIL
from evals.signals.latency import EXCEEDANCE, LatencyState, histogram
from evals.signals.scores import histogram_of
from evals.signals.strata import ArmCounts, Stratum, threshold_ms

PLAN = CanaryPlan()
ERRORS_ONLY = CanaryPlan(latency_tolerance=None)


def stratum(interval, canary, stable, *, boot="boot", pct=10.0):
    """Both arms in the interval's five seconds."""
    return Stratum(interval, boot, 5.0 * interval, 5.0 * interval + 5, pct, stable, canary)


def arm(routed, errors=0, latencies_ms=(), timeouts=0):
    """Counts of one arm, its latencies as a survival function on the grid."""
    steps = np.ceil(np.log(np.asarray(latencies_ms, dtype=float)) / np.log(1.05) - 1e-9).astype(int)
    over = {int(step): int(np.sum(steps > step)) for step in np.unique(steps)}
    return ArmCounts(routed, errors, timeouts, over)


def failing(interval, k_c, n_c, k_s, n_s, **where):
    """A stratum of errors only."""
    return stratum(interval, arm(n_c, k_c), arm(n_s, k_s), **where)


def run(plan, strata, state=None):
    """The state after these strata."""
    state = state or CanaryState()
    for one in strata:
        state = absorb(plan, state, one)
    return state


def timed(rng, interval, slower=1.0, n_c=25, n_s=225):
    """A stratum without errors whose canary is slower by a factor, at the share that it got."""
    canary, stable = (100 * rng.lognormal(sigma=0.6, size=n) for n in (n_c, n_s))
    pct = 100 * n_c / max(1, n_c + n_s)
    return stratum(interval, arm(n_c, latencies_ms=canary * slower), arm(n_s, latencies_ms=stable), pct=pct)


def test_nothing_seen_decides_nothing():
    """No traffic is neither good nor bad."""
    verdict = judge_canary(PLAN, CanaryState())
    assert (verdict.roll_back, verdict.promote, verdict.guilty) == (False, False, ())
    assert "no judged requests yet" in verdict.sentence
    assert verdict.progress == {"together": 0.0, "errors": 0.0, "latency": 0.0, "errors_noninferior": 0.0}


def test_a_broken_canary_goes_home_with_its_counts():
    """Half of the canary's requests fail: home at the first look, errors named, counts in the sentence."""
    verdict = judge_canary(PLAN, run(PLAN, [failing(0, 7, 12, 1, 481, pct=2.5)]))
    assert (verdict.roll_back, verdict.promote, verdict.guilty) == (True, False, ("errors",))
    assert "errors: canary 7 of 12 failed, stable 1 of 481" in verdict.sentence
    assert "where 100 sends home" in verdict.sentence
    assert verdict.progress["errors"] > 1
    counted = (verdict.canary_requests, verdict.canary_errors, verdict.stable_requests, verdict.stable_errors)
    assert counted == (12, 7, 481, 1)


def test_a_good_canary_is_proven_harmless():
    """Without errors in either arm about 600 canary requests prove harmlessness, and not 300."""
    good = [failing(i, 0, 20, 0, 180) for i in range(40)]
    assert not judge_canary(PLAN, run(PLAN, good[:15])).promote
    verdict = judge_canary(PLAN, run(PLAN, good[:32]))
    assert (verdict.promote, verdict.roll_back) == (True, False)


def test_an_incident_of_both_arms_accuses_nobody():
    """Ten percent errors in both arms for ten minutes: the canary stays."""
    rng = np.random.default_rng(3)
    shared = [failing(i, *draw(rng, 25), *draw(rng, 225)) for i in range(120)]
    assert not judge_canary(PLAN, run(PLAN, shared)).roll_back


def draw(rng, n, rate=0.1):
    """(errors, requests)."""
    return int(rng.binomial(n, rate)), n


def test_a_slow_canary_goes_home_for_its_latency():
    """Half slower at every quantile, without one error: latency is named, with the requests that were slower."""
    rng = np.random.default_rng(4)
    verdict = judge_canary(PLAN, run(PLAN, [timed(rng, i, slower=1.5) for i in range(40)]))
    assert (verdict.roll_back, verdict.guilty) == (True, ("latency",))
    assert "latency: canary" in verdict.sentence
    assert "slower than stable's p" in verdict.sentence
    assert "errors:" not in verdict.sentence


def test_good_latency_promotes_nobody():
    """Latency can only send home: a canary twice as fast is promoted by its errors or not at all."""
    rng = np.random.default_rng(5)
    fast = run(PLAN, [timed(rng, i, slower=0.5) for i in range(10)])
    assert not judge_canary(PLAN, fast).promote
    assert judge_canary(PLAN, fast).progress["latency"] < 0


def test_equal_latency_stays():
    """Of 15 releases of 10 minutes with the same heavy-tailed latency in both arms, none goes home."""
    rng = np.random.default_rng(6)
    final = [judge_canary(PLAN, run(PLAN, [timed(rng, i) for i in range(120)])).roll_back for _ in range(15)]
    assert not any(final)


def test_latency_is_judged_only_where_it_is_asked_for():
    """Without a tolerance the slow canary stays, and no latency stands in the progress."""
    rng = np.random.default_rng(4)
    verdict = judge_canary(ERRORS_ONLY, run(ERRORS_ONLY, [timed(rng, i, slower=1.5) for i in range(40)]))
    assert not verdict.roll_back
    assert set(verdict.progress) == {"together", "errors", "errors_noninferior"}


def test_a_canary_that_never_answers_is_slow_and_failed():
    """Timeouts are errors and exceedances: a hung canary does not look fast."""
    rng = np.random.default_rng(7)
    hung = arm(10, errors=10, timeouts=10, latencies_ms=[10_000.0] * 10)
    before = run(PLAN, [timed(rng, i) for i in range(20)])
    after = run(PLAN, [stratum(20, hung, timed(rng, 20).stable)], before)
    assert after.latency.log_e > before.latency.log_e + 3
    assert judge_canary(PLAN, after).roll_back


def test_latency_has_no_thresholds_of_its_own_stratum():
    """The first stratum sets thresholds and is not judged by them."""
    rng = np.random.default_rng(8)
    assert run(PLAN, [timed(rng, 0, slower=50.0)]).latency.log_e == 0.0


def test_a_stratum_counts_once():
    """The same interval of the same boot again, or an older one, is refused; another boot begins anew."""
    state = run(PLAN, [failing(4, 0, 20, 0, 180)])
    for again in (4, 3):
        with pytest.raises(ValueError, match=f"interval {again} was judged before"):
            absorb(PLAN, state, failing(again, 0, 20, 0, 180))
    assert absorb(PLAN, state, failing(0, 0, 20, 0, 180, boot="next")).canary.requests == 40


def test_an_arm_without_requests_is_no_evidence():
    """At 100 % canary nothing is learnt about the canary, and its errors do not wait for a comparison elsewhere."""
    alone = run(ERRORS_ONLY, [failing(i, 10, 200, 0, 0, pct=100.0) for i in range(10)])
    assert judge_canary(ERRORS_ONLY, alone).progress["errors"] == 0
    compared = run(ERRORS_ONLY, [failing(10, 0, 10, 0, 190, pct=5.0)], alone)
    assert compared.errors.log_e == pytest.approx(0, abs=1e-9)


def test_little_traffic_is_merged_within_a_share():
    """One canary request every few intervals still becomes evidence, but never across a change of the share."""
    sparse = [failing(i, i % 4 == 0, i % 4 == 0, 0, 19) for i in range(20)]
    assert run(ERRORS_ONLY, sparse).errors.log_e > 3
    sharing = [failing(i, i % 4 == 0, i % 4 == 0, 0, 19, pct=1.0 + i // 10) for i in range(20)]
    assert run(ERRORS_ONLY, sharing).errors.log_e == 0


def proven(bets, evidence, rows=1):
    """A bank that has so much evidence in each row."""
    return replace(Bank.of(bets, rows), log_e=np.full(rows, math.log(evidence)))


def test_suspects_are_named_where_only_the_mean_convicts():
    """Both metrics a little short of proof alone: the mean sends home, nobody is proven guilty, the worse is named."""
    slow = LatencyState(body=proven(EXCEEDANCE, 120, 2), tail=proven(TAIL, 120))
    verdict = judge_canary(PLAN, CanaryState(errors=proven(ERRORS, 110), latency=slow))
    assert (verdict.roll_back, verdict.guilty, verdict.suspects) == (True, (), ("errors",))
    assert verdict.sentence.startswith("errors: ")
    assert not judge_canary(PLAN, CanaryState(errors=proven(ERRORS, 99))).roll_back


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 60)), min_size=1, max_size=20), st.integers(0, 20))
def test_a_resumed_judge_is_the_uninterrupted_one(counts, at):
    """A state that went through JSON ends at the same bits: takeover changes no verdict."""
    rng = np.random.default_rng(0)
    strata = []
    for i, (n_c, n_s) in enumerate(counts):
        fresh = timed(rng, i, n_c=n_c, n_s=n_s)
        strata.append(stratum(i, fresh.canary, fresh.stable, pct=10.0 + i // 7))
    resumed = CanaryState.from_dict(json.loads(json.dumps(run(PLAN, strata[:at]).as_dict())))
    assert run(PLAN, strata[at:], resumed) == run(PLAN, strata)


def test_the_verdict_is_plain_data():
    """What the ledger records survives JSON."""
    verdict = judge_canary(PLAN, run(PLAN, [failing(0, 1, 12, 1, 481, pct=2.5)]))
    assert json.loads(json.dumps(verdict.as_dict()))["canary_errors"] == 1


def plain_work_s() -> float:
    """What a million steps of plain Python cost on this machine now (about 0.03 s)."""
    began = time.process_time()
    sum(n * n for n in range(1_000_000))
    return time.process_time() - began


def test_a_stratum_costs_about_a_millisecond():
    """A look must not load the machine that serves: one with full histograms costs at most 120,000 steps of Python."""
    rng = np.random.default_rng(1)
    strata = [timed(rng, i) for i in range(100)]
    began = time.process_time()
    state = CanaryState()
    for one in strata:
        state = absorb(PLAN, state, one)
        judge_canary(PLAN, state)
    cost_s = time.process_time() - began
    assert cost_s < 12 * plain_work_s(), "of a hundred strata"


def test_the_window_forgets_what_is_old():
    """Stable's thresholds are those of its last five minutes, in steps of the grid."""
    early = [stratum(i, arm(5), arm(40, latencies_ms=[10.0] * 40)) for i in range(10)]
    late = [stratum(i, arm(5), arm(40, latencies_ms=[1000.0] * 40)) for i in range(100, 110)]
    window = run(PLAN, early + late).latency.window
    (median,) = window.quantile_steps((0.5,))
    assert threshold_ms(median - 1) < 1000 <= threshold_ms(median) * (1 + 1e-6)


def test_another_gateway_starts_another_window():
    """Monotonic times of two boots are never compared."""
    rng = np.random.default_rng(2)
    state = run(PLAN, [timed(rng, i) for i in range(5)])
    fresh = timed(rng, 0)
    after = absorb(PLAN, state, stratum(0, fresh.canary, fresh.stable, boot="next"))
    assert len(after.latency.window.chunks) == 1
    assert after.latency.window.boot == "next"


def test_requests_beyond_the_last_threshold_count_as_slow():
    """A source whose grid ends below its slowest requests still tells how many there were."""
    assert histogram(ArmCounts(10, 0, 0, {3: 6, 5: 2})) == {3: 4, 5: 4, 6: 2}


def test_latency_with_a_margin_must_be_proven_too():
    """Errors alone would promote: not before each quantile is proven harmless, and not where the canary is slower."""
    plan = CanaryPlan(latency_margin=0.15)
    rng = np.random.default_rng(4)
    equal = run(plan, [timed(rng, n, n_c=125, n_s=125) for n in range(80)])
    few, many = run(plan, [timed(rng, n) for n in range(30)]), judge_canary(plan, equal)
    assert judge_canary(CanaryPlan(), few).promote
    assert not judge_canary(plan, few).promote
    assert "harmlessness (latency)" in judge_canary(plan, few).sentence
    assert (many.promote, many.roll_back) == (True, False)
    tolerant = replace(plan, latency_tolerance=0.5)
    slower = run(tolerant, [timed(rng, n, 1.3, 125, 125) for n in range(80)])
    assert not judge_canary(tolerant, slower).promote


def test_scores_can_convict_and_must_be_proven():
    """A canary whose scores are ten points lower goes home for its quality; one without scores is not promoted."""
    plan = CanaryPlan(latency_tolerance=None, quality_margin=0.02)
    rng = np.random.default_rng(6)

    def scored(interval, mean):
        scores = (histogram_of(rng.beta(5 * m, 5 - 5 * m, n)) for n, m in ((25, mean), (225, 0.85)))
        return stratum(interval, ArmCounts(25, scores=next(scores)), ArmCounts(225, scores=next(scores)))

    worse = judge_canary(plan, run(plan, [scored(n, 0.75) for n in range(40)]))
    assert (worse.roll_back, worse.guilty, "quality" in worse.sentence) == (True, ("quality",), True)
    silent = judge_canary(plan, run(plan, [failing(n, 0, 100, 0, 100, pct=50.0) for n in range(40)]))
    assert (silent.promote, silent.progress["quality_noninferior"]) == (False, 0.0)
    assert silent.progress["errors_noninferior"] > 1
    state = run(plan, [scored(n, 0.85) for n in range(20)])
    assert CanaryState.from_dict(json.loads(json.dumps(state.as_dict()))) == state
