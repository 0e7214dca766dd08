"""Is each label sent once, and is what is none refused before it travels?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import BadInput, DependencyDown
from pipelines.services.label_file import read_labels
from pipelines.services.labels import MOST_KEYS, Fate, Label, Sent, Tally, send_labels


class Everything:
    """A desk at which every label is evidence, until `broken` of them were taken."""

    def __init__(self, broken: int = 10**9) -> None:
        self.taken: list[Mapping[str, Any]] = []
        self._broken = broken

    def take(self, body: Mapping[str, Any]) -> Fate:
        """Evidence."""
        if len(self.taken) == self._broken:
            raise DependencyDown("closed")
        self.taken.append(body)
        return Fate("evidence")


def good(number: int) -> Label:
    """A label that could be evidence."""
    return Label(f"k{number}", {"request_id": f"r{number}", "score": 0.5}, f"row {number}")


def test_a_label_is_sent_once(tmp_path):
    """Not again in the same run, nor by one that is begun again; what is new is sent."""
    sent, desk = Sent(tmp_path / "s"), Everything()
    assert send_labels([good(1), good(2), good(1)], desk, sent).as_dict()["evidence"] == 2
    again = Sent(tmp_path / "s")
    first, second = (send_labels([good(1), good(2), good(3)], desk, again) for _ in range(2))
    assert (first.counts["evidence"], first.before) == (1, 2)
    assert (second.counts["evidence"], second.before) == (0, 0)
    assert [body["request_id"] for body in desk.taken] == ["r1", "r2", "r3"]


def test_a_desk_that_closes_loses_nothing(tmp_path):
    """What it did not answer is sent by the next run."""
    with pytest.raises(DependencyDown):
        send_labels([good(1), good(2)], Everything(broken=1), Sent(tmp_path / "s"))
    desk = Everything()
    send_labels([good(1), good(2)], desk, Sent(tmp_path / "s"))
    assert [body["request_id"] for body in desk.taken] == ["r2"]


def test_a_torn_line_is_no_key(tmp_path):
    """A kill in the middle of it costs one label that is sent twice, and refused."""
    (tmp_path / "s").write_text("k1\nk2")
    sent = Sent(tmp_path / "s")
    sent.add("k3")
    assert [key in Sent(tmp_path / "s") for key in ("k1", "k2", "k3")] == [True, False, True]


def test_the_file_does_not_grow_for_ever(tmp_path):
    """The oldest keys are forgotten: their requests have been forgotten, too."""
    (tmp_path / "s").write_text("".join(f"k{n}\n" for n in range(MOST_KEYS + 5)))
    sent = Sent(tmp_path / "s")
    assert ["k4" in Sent(tmp_path / "s"), "k5" in sent] == [False, True]
    assert len((tmp_path / "s").read_text().splitlines()) == MOST_KEYS


def test_a_place_that_cannot_be_written_is_a_dependency(tmp_path):
    """Nothing is sent that could not be noted."""
    (tmp_path / "s").mkdir()
    with pytest.raises(DependencyDown) as caught:
        Sent(tmp_path / "s")
    assert caught.value.code == "E_SENT"


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({"request_id": "r", "score": float("nan")}, "row 1: score: a number from 0 to 1 is expected"),
        ({"request_id": "r", "score": 10**400}, "row 1: score: a number from 0 to 1 is expected"),
        ({"request_id": "r", "score": "yes"}, "row 1: score: a number from 0 to 1 is expected"),
        ({"request_id": "r", "score": None}, "row 1: score: one of score (0 to 1) and correct (true or false)"),
        ({"request_id": None, "score": 1}, "row 1: request_id: the x-request-id of an answer is expected"),
        ({"request_id": "\ud800", "score": 1}, "row 1: body: it is not text in UTF-8"),
    ],
)
def test_what_is_no_label_is_refused_by_name(tmp_path, body, why):
    """It never travels, and it is not asked about again."""
    sent, desk = Sent(tmp_path / "s"), Everything()
    tally = send_labels([Label("k", body, "row 1")], desk, sent)
    assert (tally.refused, desk.taken, "k" in sent) == ({"E_LABEL": 1}, [], True)
    assert tally.reasons["E_LABEL"].startswith(why)


@given(st.lists(st.sampled_from(["evidence", "late", "unknown", "E_LABEL", "E_LABEL_TWICE"])))
def test_every_label_is_counted_once(names):
    """Whatever became of it, in one look or in two."""
    halves = [Tally(), Tally()]
    for number, name in enumerate(names):
        halves[number % 2].count(good(number), Fate(name))
    halves[0].add(halves[1])
    told = halves[0].as_dict()
    assert told["evidence"] + told["late"] + told["unknown"] + sum(told["refused"].values()) == len(names)


CSV = "request_id,score,correct,model_version\nr1,0.5,,2\nr2,,True,\nr3,1_0,,\nr4,,,\n"
JSONL = '{"request_id": "r1", "score": 1, "other": 3}\n{"request_id": 7, "correct": "true"}\n'


def test_a_csv_file_says_what_its_cells_say(tmp_path):
    """Numbers, truth, nothing; what is none of these stays text and is refused later."""
    (tmp_path / "l.csv").write_text(CSV)
    assert [label.body for label in read_labels(tmp_path / "l.csv")] == [
        {"request_id": "r1", "score": 0.5, "model_version": "2"},
        {"request_id": "r2", "correct": True},
        {"request_id": "r3", "score": "1_0"},
        {"request_id": "r4"},
    ]


def test_json_lines_stay_as_they_are(tmp_path):
    """Without the fields that are no part of a label."""
    (tmp_path / "l.jsonl").write_text(JSONL)
    bodies = [label.body for label in read_labels(tmp_path / "l.jsonl")]
    assert bodies == [{"request_id": "r1", "score": 1}, {"request_id": 7, "correct": "true"}]


def test_a_row_keeps_its_key_when_the_file_grows(tmp_path):
    """So that a file may be sent every day."""
    path: Path = tmp_path / "l.csv"
    path.write_text(CSV)
    before = [label.key for label in read_labels(path)]
    path.write_text(CSV.replace("\nr1", "\nr0,1,,\nr1"))
    assert [label.key for label in read_labels(path)][1:] == before


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("l.csv", b"id,score\nr1,1\n", "there is no column 'request_id': it has columns 'id', 'score'"),
        ("l.csv", b"request_id,score\n", "there is no row"),
        ("l.csv", b"request_id,score\nr1\n", "row 1 has 1 fields, the header 2"),
        ("l.jsonl", b"[1]\n", "row 1 is not an object"),
        ("l.jsonl", b'{"request_id"\n', "row 1 is not JSON"),
        ("l.jsonl", b'{"request_id": "\xff"}\n', "row 1: byte 16 is not UTF-8"),
        ("l.txt", b"r1 1\n", "the kind '.txt' is not known"),
    ],
)
def test_a_file_that_is_none_is_refused_whole(tmp_path, name, data, reason):
    """With the row, before anything is sent."""
    (tmp_path / name).write_bytes(data)
    with pytest.raises(BadInput) as caught:
        read_labels(tmp_path / name)
    assert (caught.value.code, caught.value.reason) == ("E_DATASET", reason)
