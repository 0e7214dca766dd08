"""Is a judge believed only where it can be, and is what it likes for other reasons no merit?"""

from __future__ import annotations

import random

import numpy as np
import pytest

from evals.offline import paired
from evals.offline.clusters import Draws
from evals.offline.judged import Opinion, judge_rows, notes_of, why_not_believed

WIN, LOSS, TIE = ("A", "B"), ("B", "A"), ("tie", "tie")
SEAT, SILENT = ("A", "A"), (None, "B")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer resamples: these tests are about what is drawn, not about the last digit."""
    monkeypatch.setattr(paired, "RESAMPLES", 200)


def opinions(longer: float = 0.0, **counts: int) -> list[Opinion]:
    """So many of each kind."""
    kinds = {"wins": WIN, "losses": LOSS, "ties": TIE, "seats": SEAT, "silent": SILENT}
    said = [kinds[name] for name, n in counts.items() for _ in range(n)]
    return [Opinion(*words, longer * (-1) ** n) for n, words in enumerate(said)]


@pytest.mark.parametrize(
    ("first", "second", "won"),
    [
        ("A", "B", 1.0),
        ("B", "A", 0.0),
        ("A", "A", 0.5),
        ("B", "B", 0.5),
        ("tie", "A", 0.5),
        ("tie", "tie", 0.5),
        ("A", None, None),
        (None, None, None),
    ],
)
def test_a_preference_outlives_the_seats(first, second, won):
    """With the candidate in the first seat and then in the second; a word that is missing is no tie."""
    assert Opinion(first, second).won == won


@pytest.mark.parametrize(
    ("counts", "drop"),
    [
        ({"wins": 50, "losses": 50}, 0.0),
        ({"losses": 60, "wins": 20, "ties": 20}, 0.4),
        ({"wins": 60, "losses": 20, "ties": 20}, -0.4),
        ({"losses": 30, "wins": 30, "seats": 40}, 0.0),
    ],
)
def test_the_drop_is_losses_less_wins(counts, drop):
    """As a part of the rows, but for one tie that keeps it finite."""
    said = judge_rows(opinions(**counts), 0.95, Draws(100))
    assert said.drop == pytest.approx(drop, abs=0.01)
    low, high = said.interval
    assert low < said.drop < high
    assert said.method == "paired bootstrap, 2000 resamples of rows, at equal length"


def liking(length: float, merit: float, seed: int = 1, n: int = 300) -> list[Opinion]:
    """A judge who likes long answers so much, and the candidate, whose answers are mostly longer, so much."""
    rng = random.Random(seed)
    longer = [rng.gauss(0.4, 0.5) for _ in range(n)]
    return [Opinion(*(WIN if rng.gauss(0, 1) < length * one + merit else LOSS), one) for one in longer]


@pytest.mark.parametrize("length", [0.0, 2.0, 20.0])
def test_a_liking_for_length_is_no_merit(length):
    """The candidate's answers are longer and preferred for it: at equal length there is no difference."""
    said = liking(length, 0.0)
    if length:
        assert np.mean([one.won for one in said]) > 0.65
    low, high = judge_rows(said, 0.95, Draws(300)).interval
    assert low < 0.0 < high


def test_a_merit_is_seen_beside_a_liking_for_length():
    """Worse answers that are longer."""
    assert judge_rows(liking(2.0, -1.0), 0.95, Draws(300)).interval[0] > 0.2


def test_where_one_is_always_longer_nobody_knows_why_it_is_preferred():
    """It may be either."""
    said = [Opinion(*WIN, 0.3 + 0.001 * n) for n in range(100)]
    assert "length and preference cannot be told apart" in judge_rows(said, 0.95, Draws(100)).missing
    same = [Opinion(*WIN, 0.01) for _ in range(100)]
    assert judge_rows(same, 0.95, Draws(100)).drop == pytest.approx(-0.98, abs=0.02)


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({"wins": 40, "seats": 60}, "preferred a seat, and not an answer, in 60 of 100 rows"),
        ({"wins": 85, "silent": 15}, "no verdict on 15 of 100 rows"),
        ({"wins": 29}, "29 rows are too few"),
        ({}, "0 rows are too few"),
    ],
)
def test_a_judge_that_cannot_tell_is_no_evidence(counts, said):
    """Ties that are none, silence, too little."""
    found = judge_rows(opinions(**counts), 0.95, Draws(sum(counts.values())))
    assert (found.drop, found.interval) == (None, None)
    assert said in found.missing


def test_missing_answers_are_missing_rows():
    """Nobody wins or loses them."""
    said = judge_rows(opinions(losses=60, wins=30, silent=10), 0.95, Draws(100))
    assert (said.n, said.drop) == (90, pytest.approx(1 / 3, abs=0.01))


def test_nothing_but_ties_is_no_certainty():
    """A hundred ties leave room for a loss of some percent."""
    low, high = judge_rows(opinions(ties=100), 0.95, Draws(100)).interval
    assert -low == pytest.approx(high)
    assert 0.03 < high < 0.05


def test_rows_of_a_document_are_one_draw():
    """Ten opinions on one document are no ten draws."""
    rng = random.Random(1)
    once = [Opinion(*rng.choice([WIN, LOSS, TIE]), rng.gauss(0, 0.3)) for _ in range(40)]
    tenfold = [one for one in once for _ in range(10)]
    documents = [str(n // 10) for n in range(400)]
    widths = [
        np.diff(judge_rows(said, 0.95, draws).interval)[0]
        for said, draws in ((tenfold, Draws(400, documents, "doc")), (tenfold, Draws(400)))
    ]
    assert widths[0] > 2.5 * widths[1]


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({"ties": 20}, None),
        ({"seats": 20}, None),
        ({"ties": 18, "wins": 2}, None),
        ({"ties": 17, "wins": 2, "losses": 1}, "preferred one of two equal answers in 3 of 20 rows"),
        ({"ties": 17, "silent": 3}, "no verdict on 3 of 20 pairs of equal answers"),
    ],
)
def test_equal_answers_are_equal_to_a_judge(counts, said):
    """One that has a favourite seat is found out later; one that sees a winner here tosses a coin."""
    why = why_not_believed(opinions(**counts))
    assert (why is None) if said is None else said in why


def test_what_was_said_is_counted():
    """For who reads the evidence."""
    assert notes_of(opinions(wins=3, losses=2, ties=4, seats=5, silent=1)) == {
        "won": 3, "lost": 2, "tied": 9, "missing": 1, "flipped": 5,
    }  # fmt: skip
