"""Can every series be drawn, also one with hostile names, and is a bad wish refused?"""

from __future__ import annotations

import sys
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest

from flows.show.evidence_picture import COLOURS, draw, write_picture
from flows.show.evidence_text import evidence_text
from pipelines.errors import BadInput
from pipelines.records.evidence_series import EvidenceSeries, evidence_series
from pipelines.records.release import Phase
from tests.pipelines.rollout.test_look import World

HOSTILE = ("$\\frac{$", "_hidden", "\u202e\ud800\0", "--><script>", "a\nb", "x" * 500, "日本", "}{%s")


@pytest.fixture(scope="module")
def series() -> EvidenceSeries:
    """Of a promoted release."""
    world = World()
    world.look_until(Phase.PROMOTED)
    return evidence_series(world.release)


def test_a_picture_says_what_it_shows(series):
    """Metrics, shares, outcome, n: each text stands in a comment before its outlines, in SVG that is well formed."""
    svg = draw(series, "svg")
    ET.fromstring(svg)
    for said in ("errors", "latency", "10 %", "50 %", "90 %", "promoted", "n = 1200 canary and 800 stable requests"):
        assert said in svg.decode()


def test_the_same_evidence_is_the_same_picture(series):
    """So that a page may keep it."""
    assert draw(series, "png") == draw(series, "png")


@pytest.mark.parametrize("name", HOSTILE)
def test_names_from_outside_are_drawn_as_they_are(series, name):
    """No formula, no markup, no missing letters: slices are named by what clients send."""
    line = replace(series.lines[0], metric=f"errors where {name}")
    drawn = draw(replace(series, lines=(*series.lines, line), why=name), "svg")
    ET.fromstring(drawn)
    assert b"<script" not in drawn


def test_more_lines_than_colours_are_counted(series):
    """Fifty slices: the rest is grey, and said."""
    lines = [replace(series.lines[0], metric=f"errors where x={n}") for n in range(50)]
    many = replace(series, lines=(*series.lines, *lines))
    known = len({line.metric for line in series.lines})
    assert f"{50 + known - len(COLOURS)} more" in draw(many, "svg").decode()


def test_a_guilty_slice_is_named(series):
    """However many others there are."""
    others = [replace(series.lines[0], metric=f"m{n}") for n in range(20)]
    guilty = replace(series.lines[0], metric="errors where country=NZ", largest=1.7)
    assert "errors where country=NZ" in draw(replace(series, lines=(*others, guilty)), "svg").decode()


def test_gaps_and_extremes_are_drawn(series):
    """What was not judged, and what is far beyond the boundary."""
    values = (None, -50.0, 1e6, *series.lines[0].values[3:])
    assert draw(replace(series, lines=(replace(series.lines[0], values=values, last=None),)), "png")


@pytest.mark.parametrize("name", ["x.pdf", "x", "x.svg.exe", "no/folder.svg"])
def test_a_file_that_cannot_be_is_refused(series, tmp_path, name):
    """By the option's name, and nothing is written."""
    with pytest.raises(BadInput) as caught:
        write_picture(series, tmp_path / name)
    assert (caught.value.field, list(tmp_path.iterdir())) == ("--plot", [])


def test_without_matplotlib_it_says_so(series, monkeypatch):
    """The table is there all the same."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(BadInput) as caught:
        draw(series, "svg")
    assert (caught.value.code, "shipway[release]" in caught.value.hint) == ("E_PLOT", True)
    assert "errors" in evidence_text(series)


def test_no_evidence_is_no_picture(series):
    """And the table says why it is empty."""
    empty = replace(series, lines=(), looks_s=(), canary_requests=(), stable_requests=(), shares=())
    with pytest.raises(BadInput) as caught:
        draw(empty, "svg")
    assert caught.value.code == "E_NO_EVIDENCE"
    assert "no evidence yet" in evidence_text(empty)


def test_the_table_names_last_largest_and_crossing(series):
    """A line for each metric."""
    (errors,) = (line for line in evidence_text(series).splitlines() if "errors" in line and "after" in line)
    assert errors.split() == ["errors", "2.93", "2.93", "after", "13", "s,", "570", "requests"]
