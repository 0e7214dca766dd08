"""Does the series say what the looks said, and nothing else?"""

from __future__ import annotations

import json
from itertools import pairwise

import pytest

from pipelines.records.evidence_series import evidence_series
from pipelines.records.release import Phase, Release
from tests.pipelines.rollout.test_look import World


@pytest.fixture(scope="module")
def rolled_back() -> Release:
    """A release that was proven harmless at errors, then failed more and more, and went home."""
    world = World()
    for _ in range(14):
        world.look()
    world.look_until(Phase.ROLLED_BACK, errors=3)
    return world.release


def test_every_look_has_its_values(rolled_back):
    """In order, as they were recorded."""
    series, looks = evidence_series(rolled_back), rolled_back.of_kind("looked")
    errors = next(line for line in series.lines if (line.metric, line.of) == ("errors", "harm"))
    assert errors.values == tuple(look.data["verdict"]["progress"]["errors"] for look in looks)
    assert [a <= b for a, b in pairwise(series.looks_s)] == [True] * (len(looks) - 1)
    assert series.canary_requests == tuple(look.data["verdict"]["canary_requests"] for look in looks)


def test_the_first_crossing_is_found(rolled_back):
    """Of harmlessness before the faults, of harm at the end; not of what never came that far."""
    crossed = {(line.metric, line.of): line.crossed_s for line in evidence_series(rolled_back).lines}
    assert 0 < crossed["errors", "harmlessness"] < crossed["errors", "harm"]
    assert crossed["latency", "harm"] is None


def test_a_line_ends_with_its_last_and_largest_value(rolled_back):
    """The largest may be long ago."""
    (harmless,) = (line for line in evidence_series(rolled_back).lines if line.of == "harmlessness")
    assert (harmless.last, harmless.largest) == (harmless.values[-1], max(harmless.values))
    assert harmless.last < harmless.largest


def test_the_shares_follow_each_other(rolled_back):
    """From the first users to the way home, without a gap."""
    series = evidence_series(rolled_back)
    assert [share.pct for share in series.shares] == [10, 50, 90]
    assert [a.to_s for a in series.shares[:-1]] == [b.from_s for b in series.shares[1:]]
    assert (series.shares[0].from_s, series.shares[-1].to_s) == (0.0, series.ended_s)


def test_an_interruption_ends_a_share():
    """A canary whose lease was lost had no users until it began again."""
    world = World()
    for _ in range(7):
        world.look()
    world.ports.router.advance(1e6)
    for _ in range(3):
        world.look()
    shares = evidence_series(world.release).shares
    assert [share.pct for share in shares] == [10, 50, 10]


def test_a_metric_that_some_looks_did_not_judge_has_gaps():
    """None, and not zero."""
    release = Release().record(1.0, "opened", id="r", service="s", spec={"model": "m"}, spec_digest="")
    for at_s, progress in ((2.0, {"errors": 0.5}), (3.0, {"errors": 1.5, "latency": 0.25}), (4.0, {"latency": 0.5})):
        verdict = {"progress": progress, "canary_requests": int(at_s), "stable_requests": 9}
        release = release.record(at_s, "looked", strata=[], verdict=verdict, why="")
    errors, latency = evidence_series(release).lines
    assert (errors.values, errors.last, errors.crossed_at_requests) == ((0.5, 1.5, None), None, 3)
    assert (latency.values, latency.crossed_s) == ((None, 0.25, 0.5), None)


def test_a_release_without_users_has_no_evidence():
    """Nothing is made up."""
    release = World().release
    series = evidence_series(release)
    assert (series.lines, series.shares, series.ended_s) == ((), (), None)


def test_the_series_is_plain_json(rolled_back):
    """Strictly, as the API gives it."""
    told = evidence_series(rolled_back).as_dict()
    assert json.loads(json.dumps(told, allow_nan=False))["phase"] == "rolled_back"
