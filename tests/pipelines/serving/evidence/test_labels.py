"""Do labels find the answer they belong to, and are the others refused by name?"""

from __future__ import annotations

import pytest

from evals.signals.strata import Cohort
from pipelines.records.split import Arm, TrafficSplit
from pipelines.serving.evidence.intervals import Intervals
from pipelines.serving.evidence.labels import LabelRefused, Labels, label_of

STABLE, CANARY = (Arm(f"sha256:{n}", (f"http://127.0.0.1:{n}",)) for n in (1, 2))
HALF = TrafficSplit((1, 2), STABLE, CANARY, 50.0, 60.0)
MORE = TrafficSplit((1, 3), STABLE, CANARY, 75.0, 60.0)


def answered(labels, intervals, request_id, arm="canary", version="2"):
    """A request that was answered now."""
    ticket = intervals.routed(arm)
    intervals.answered(ticket, 5.0)
    labels.answered(request_id.encode(), ticket, version.encode())


def known(labels, request_id):
    """Whether a label finds this answer."""
    try:
        return labels.labelled(request_id, 1.0, None)
    except LabelRefused:
        return False


@pytest.fixture
def desk():
    """Labels of a gateway at half and half, which wait for 10 s."""
    intervals = Intervals("b", 1.0, 0.0)
    intervals.cut(0.0, HALF)
    return Labels(intervals, 10.0), intervals


def test_a_label_counts_when_it_arrives(desk):
    """Two intervals later, in thousandths, at the arm that answered."""
    labels, intervals = desk
    answered(labels, intervals, "r1")
    intervals.cut(1.0, HALF)
    intervals.cut(2.0, HALF)
    assert labels.labelled("r1", 0.85, "2")
    intervals.cut(3.0, HALF)
    assert [dict(s.canary.scores) for s in intervals.decided_after(0)] == [{}, {}, {850: 1}]


def test_a_label_after_a_change_of_shares_is_no_evidence(desk):
    """It would be compared with labels of another time."""
    labels, intervals = desk
    answered(labels, intervals, "r1")
    intervals.cut(1.0, MORE)
    assert not labels.labelled("r1", 1.0, None)
    intervals.cut(2.0, MORE)
    assert not any(s.canary.scores for s in intervals.decided_after(-1))


def test_the_cohort_says_who_was_labelled(desk):
    """Once their time is over; then nobody waits any more."""
    labels, intervals = desk
    for number in range(4):
        answered(labels, intervals, f"c{number}")
        answered(labels, intervals, f"s{number}", "stable", "1")
    labels.labelled("c0", 1.0, None)
    for number in range(3):
        labels.labelled(f"s{number}", 0.5, None)
    intervals.cut(1.0, HALF)
    labels.expire(10.9)
    assert labels.labelled("s3", 0.0, None)
    labels.expire(11.1)
    intervals.cut(11.2, HALF)
    assert [c for s in intervals.decided_after(0) for c in s.cohorts] == [Cohort(50.0, 4, 1, 4, 4)]
    with pytest.raises(LabelRefused) as refused:
        labels.labelled("c1", 1.0, None)
    assert (refused.value.status, refused.value.code) == (404, "E_LABEL_UNKNOWN")


def test_the_oldest_answer_is_forgotten_first(desk):
    """With it that it had a label, so that its id may come again; the others still wait."""
    _, intervals = desk
    labels = Labels(intervals, 10.0, most=2)
    answered(labels, intervals, "r1", version="1")
    labels.labelled("r1", 1.0, "1")
    answered(labels, intervals, "r2", "stable", "2")
    answered(labels, intervals, "r3", version="3")
    with pytest.raises(LabelRefused) as refused:
        labels.labelled("r1", 1.0, "1")
    assert refused.value.code == "E_LABEL_UNKNOWN"
    answered(labels, intervals, "r1", version="4")
    assert labels.labelled("r3", 1.0, "3")
    assert labels.labelled("r1", 1.0, "4")


def test_without_labels_no_more_answers_wait_than_may(desk):
    """The last ones can be labelled, and nobody else."""
    _, intervals = desk
    labels = Labels(intervals, 10.0, most=3)
    for number in range(10):
        answered(labels, intervals, f"r{number}")
    assert [known(labels, f"r{number}") for number in (0, 6, 7, 9)] == [False, False, True, True]


def test_an_id_that_comes_twice_keeps_its_first_answer_and_is_counted_once(desk):
    """Whether its label comes between the two, or after both."""
    labels, intervals = desk
    answered(labels, intervals, "r1", "canary", "2")
    answered(labels, intervals, "r1", "stable", "1")
    assert labels.labelled("r1", 1.0, "2")
    answered(labels, intervals, "r1", "stable", "1")
    intervals.cut(1.0, HALF)
    labels.expire(11.1)
    intervals.cut(11.2, HALF)
    assert [c for s in intervals.decided_after(0) for c in s.cohorts] == [Cohort(50.0, 1, 1, 0, 0)]


def test_answers_without_labels_are_forgotten_in_time(desk):
    """Neither do they make a label of the next interval wait."""
    labels, intervals = desk
    answered(labels, intervals, "r1")
    intervals.cut(1.0, HALF)
    answered(labels, intervals, "r2")
    labels.expire(11.1)
    assert [known(labels, name) for name in ("r1", "r2")] == [False, True]


@pytest.mark.parametrize(
    ("request_id", "version", "status", "code"),
    [("nobody", None, 404, "E_LABEL_UNKNOWN"), ("r1", "7", 409, "E_LABEL_VERSION"), ("r2", None, 409, "E_LABEL_TWICE")],
)
def test_labels_that_belong_to_no_answer_are_refused(desk, request_id, version, status, code):
    """An unknown request, another version, a second label: by name, and never evidence."""
    labels, intervals = desk
    answered(labels, intervals, "r1")
    answered(labels, intervals, "r2")
    labels.labelled("r2", 1.0, None)
    with pytest.raises(LabelRefused) as refused:
        labels.labelled(request_id, 0.5, version)
    assert (refused.value.status, refused.value.code) == (status, code)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ([], "body"),
        ({}, "request_id"),
        ({"request_id": 7, "score": 1}, "request_id"),
        ({"request_id": "r"}, "score"),
        ({"request_id": "r", "score": 1, "correct": True}, "score"),
        ({"request_id": "r", "score": float("nan")}, "score"),
        ({"request_id": "r", "score": -0.1}, "score"),
        ({"request_id": "r", "score": 1.1}, "score"),
        ({"request_id": "r", "score": True}, "score"),
        ({"request_id": "r", "correct": 1}, "correct"),
        ({"request_id": "r", "score": 1, "model_version": 2}, "model_version"),
    ],
)
def test_a_body_that_is_no_label_names_the_field(body, field):
    """A score is a number from 0 to 1, and nothing else."""
    with pytest.raises(LabelRefused) as refused:
        label_of(body)
    assert (refused.value.status, refused.value.code, refused.value.field) == (422, "E_LABEL", field)


def test_right_and_wrong_are_scores():
    """What most users can say."""
    assert label_of({"request_id": "r", "correct": False, "model_version": "3"}) == ("r", 0.0, "3")
    assert label_of({"request_id": "r", "score": 0.25}) == ("r", 0.25, None)
