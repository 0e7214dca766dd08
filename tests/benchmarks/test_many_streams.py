"""Is the evidence of many simulated releases that of the judge itself, release by release?"""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.many_streams import BINS, PLAN, ManyStreams, Seen, StreamWorld, first_alarms, play, timed
from evals.canary.absorb import absorb
from evals.canary.judgement import judge_canary
from evals.canary.state import CanaryState
from evals.planning.worlds import INTERVAL_S
from evals.signals.strata import ArmCounts, Stratum

BUSY = StreamWorld("busy", canary_hits=0.4, slower_between=1.1, requests_per_s=60.0, lasts_s=300.0, shares=(0.1, 0.3))


def arm_of(seen: Seen, release: int, arm: int) -> ArmCounts:
    """One arm of one release."""
    timings, rates = {}, {}
    for name, hist in seen.timed.items():
        mine = hist[release, arm]
        parts = {str(number): timed(mine[number]) for number in range(BINS) if mine[number].any()}
        whole = timed(mine.sum(axis=0))
        timings[name] = ArmCounts(whole.routed, over=whole.over, by_slice=parts)
    for what, counts in seen.rates.items():
        rates[what] = {str(number): (int(n), int(bad)) for number, (n, bad) in enumerate(counts[release, arm]) if n}
    n, errors = (int(counts[release, arm]) for counts in (seen.requests, seen.errors))
    return ArmCounts(n, errors, timings=timings, rates=rates)


def test_the_evidence_is_the_judges():
    """Of each of three releases, at the end of a busy time, over a change of share."""
    known, states = ManyStreams(3), [CanaryState()] * 3
    for number, seen in enumerate(play(BUSY, 3, seed=1)):
        known.absorb(seen)
        at = (number, "boot", INTERVAL_S * number, INTERVAL_S * (number + 1), 100 * seen.share)
        strata = [Stratum(*at, arm_of(seen, release, 0), arm_of(seen, release, 1)) for release in range(3)]
        states = [absorb(PLAN, state, one) for state, one in zip(states, strata, strict=True)]
    verdicts = [judge_canary(PLAN, state) for state in states]
    harm = [verdict.progress["together"] * -math.log(PLAN.alpha) for verdict in verdicts]
    assert known.harm() == pytest.approx(harm, abs=1e-3)
    assert known.goodput.bank.log_e == pytest.approx([state.rates["goodput"].harmless_log_e for state in states])
    harmless = known.timed["between_tokens"].harmless.bank.log_e.reshape(3, -1).min(axis=1)
    assert harmless == pytest.approx([state.streams["between_tokens"].harmless_log_e for state in states])


def test_a_slower_stream_is_found_and_an_equal_one_stays():
    """Within half an hour, also where the canary's cache is colder for its whole life."""
    slower, _ = first_alarms(StreamWorld("slower", slower_between=1.5, lasts_s=600.0), 20, seed=2)
    equal, _ = first_alarms(StreamWorld("colder", canary_hits=0.4, lasts_s=600.0), 50, seed=3)
    assert (np.isnan(slower).sum(), np.isfinite(equal).sum()) == (0, 0)
