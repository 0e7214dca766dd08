"""A release that is killed at any effect ends as it would have ended, or at home; and nothing is wrong on the way."""

from __future__ import annotations

import os

import pytest

from tests.faults.recording import KILLS, OTHER_FAULTS, Fault
from tests.faults.stories import STORIES
from tests.faults.sweep import kill_sweep, play, sweep
from tests.faults.world import begin

EVERY = 1 if os.environ.get("SHIPWAY_FUZZ") else 3
"""Faults other than kills meet every third effect, and with `make fuzz` every effect."""


@pytest.mark.parametrize("story", STORIES, ids=lambda s: s.name)
def test_an_undisturbed_release_ends_as_its_story_says(story, tmp_path):
    """What the sweep compares with is itself right."""
    played = play(story, begin(tmp_path))
    assert (played.release.phase, played.violations, played.is_stuck) == (story.end, [], False)


@pytest.mark.integration
def test_a_kill_at_any_effect_breaks_nothing():
    """Before the effect, or after it and before the controller sees that it happened."""
    swept = sweep(faults=KILLS)
    assert (swept.violations, swept.stuck) == ([], [])
    assert swept.points >= 500


@pytest.mark.integration
@pytest.mark.parametrize("fault", OTHER_FAULTS)
def test_a_refusal_a_lost_answer_or_a_pause_breaks_nothing(fault):
    """A paused controller comes back after another one took over and finished."""
    swept = sweep(faults=[fault], every=EVERY)
    assert (swept.violations, swept.stuck) == ([], [])


def test_a_sweep_notices_what_is_wrong(monkeypatch):
    """Where a rolled-back release leaves its traffic with the canary, the sweep says so."""
    monkeypatch.setattr("pipelines.rollout.look.send_home", lambda *_: None)
    errors = [story for story in STORIES if story.errors_pct]
    assert any("users still meet" in what for what in sweep(errors, [Fault.REFUSED]).violations)


def test_the_benchmark_gets_three_numbers(monkeypatch):
    """How many points, and how many were bad."""
    monkeypatch.setattr("tests.faults.sweep.STORIES", STORIES[:1])
    assert kill_sweep().keys() == {"kill_points", "violations", "stuck"}
