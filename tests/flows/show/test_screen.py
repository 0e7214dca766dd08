"""Does a log without a terminal show that an evaluation goes on, and what is doubtful about its rows?"""

from __future__ import annotations

import pytest

from flows.show.screen import Screen
from pipelines.records.release import Phase, Release
from pipelines.stages.steps import STEPS


@pytest.fixture
def clock() -> list[float]:
    """The time, which the test moves."""
    return [100.0]


@pytest.fixture
def screen(clock) -> Screen:
    """A screen whose output is caught, so that it is no terminal."""
    return Screen(lambda: clock[0])


def test_rows_are_told_every_ten_seconds(screen, clock, capsys):
    """Of each model by name; what is fast says nothing."""
    for at_s, name, done in ((101, "candidate", 32), (110, "candidate", 640), (112, "candidate", 704)):
        clock[0] = at_s
        screen.progress(name, done, 2000)
    clock[0] = 120.0
    screen.progress("champion v1", 64, 2000)
    assert capsys.readouterr().err.splitlines() == [
        "   asking    candidate: 640 of 2,000 rows",
        "   asking    champion v1: 64 of 2,000 rows",
    ]


def test_a_step_that_begins_waits_ten_seconds_again(screen, clock, capsys):
    """Its first line is about itself."""
    clock[0] = 109.0
    screen.step_done(STEPS[0], Release(), {"evidence": None})
    capsys.readouterr()
    clock[0] = 118.0
    screen.progress("dynamic-int8", 32, 2000)
    assert capsys.readouterr().err == ""


def test_what_is_doubtful_about_the_rows_stands_below_the_evaluation(screen, capsys):
    """Whether it passed or not."""
    findings = {"evidence": None, "doubts": ["2 rows repeat [one]"], "verdict": {"outcome": "fail", "reasons": []}}
    screen.step_done(STEPS[0], Release(phase=Phase.REJECTED, reason="accuracy"), findings)
    assert capsys.readouterr().err.splitlines()[1] == "   doubtful: 2 rows repeat [one]"


def test_the_page_of_differences_is_named(screen, capsys):
    """Below what was measured."""
    kept = {"page": "pages/r/candidate.html", "rows": 200, "of": 1234}
    findings = {"evidence": None, "differences": kept, "verdict": {"outcome": "fail", "reasons": []}}
    screen.step_done(STEPS[0], Release(phase=Phase.REJECTED, reason="choice"), findings)
    said = "   1,234 rows differ from the champion: pages/r/candidate.html in SHIPWAY_HOME"
    assert capsys.readouterr().err.splitlines()[1] == said
