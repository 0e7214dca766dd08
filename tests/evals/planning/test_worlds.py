"""Are the simulated releases what they say?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evals.planning.worlds import EQUAL, P90_MS, Slice, Traffic, play

SLICES = (Slice("country=a", 0.9), Slice("country=b", 0.1, canary_errors=0.5))


def seconds(world, share, looks, lasts_s=5.0, seed=1):
    """Some intervals at one share."""
    traffic = Traffic(world, seed)
    return [traffic.interval(share, lasts_s) for _ in range(looks)]


def test_a_release_at_its_own_shares_is_played_by_the_same_traffic():
    """`play` chooses the shares, and nothing else."""
    world = replace(EQUAL, lasts_s=20.0, shares=(0.5,))
    for played, stepped in zip(play(world, 7), seconds(world, 0.5, 4, seed=7), strict=True):
        assert (played.t, played.weight, played.canary.n) == (stepped.t, stepped.weight, stepped.canary.n)
        assert np.array_equal(played.canary.latency, stepped.canary.latency)


def test_requests_grow_with_the_time_between_two_looks():
    """Twenty times as long, about twenty times as many."""
    short, long = (sum(i.canary.n + i.stable.n for i in seconds(EQUAL, 0.5, 20, s)) for s in (1.0, 20.0))
    assert 15 < long / short < 25


def test_scores_come_a_minute_late():
    """However long an interval is; the first minute has none."""
    for lasts_s in (2.0, 5.0, 60.0):
        first = [i.canary.quality.size for i in seconds(EQUAL, 0.5, 40, lasts_s) if i.t <= 60.0]
        later = [i.canary.quality.size for i in seconds(EQUAL, 0.5, 40, lasts_s) if i.t > 65.0]
        assert sum(first) == 0
        assert sum(later) > 0


def test_who_gives_no_scores_has_none():
    """The label rate is the world's."""
    world = replace(EQUAL, scored=0.0)
    assert sum(i.stable.quality.size for i in seconds(world, 0.5, 20)) == 0


def test_slices_add_up_and_one_of_them_fails():
    """Every request is in one slice; the errors of the bad one are the canary's alone."""
    found = seconds(replace(EQUAL, slices=SLICES), 0.5, 40)
    for interval in found:
        for arm in (interval.stable, interval.canary):
            parts = arm.by_slice.values()
            assert (arm.n, arm.errors) == (sum(p.n for p in parts), sum(p.errors for p in parts))
            assert arm.latency.size == arm.n
    bad = [interval.canary.by_slice["country=b"] for interval in found]
    assert sum(p.errors for p in bad) == pytest.approx(sum(p.n for p in bad) / 2, rel=0.2)
    assert sum(i.stable.by_slice["country=b"].errors for i in found) < 10


def test_an_arm_slows_down_with_its_own_load():
    """At half of the traffic both are equal; with nearly all of it the canary waits in its own queue."""
    world = replace(EQUAL, busy=0.7)
    equal, crowded = (
        np.median(np.concatenate([i.canary.latency for i in found]))
        / np.median(np.concatenate([i.stable.latency for i in found]))
        for found in (seconds(world, 0.5, 40), seconds(world, 0.95, 40))
    )
    assert equal == pytest.approx(1.0, abs=0.1)
    assert crowded > 2


def test_one_in_ten_of_stables_requests_is_slow():
    """By the threshold that the world itself gives."""
    found = seconds(EQUAL, 0.5, 40)
    slow = sum(int(np.sum(i.stable.latency > i.slow_ms)) for i in found)
    assert slow / sum(i.stable.n for i in found) == pytest.approx(0.1, abs=0.02)
    assert found[0].slow_ms == pytest.approx(P90_MS, rel=0.5)
