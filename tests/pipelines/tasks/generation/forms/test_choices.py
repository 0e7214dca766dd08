"""Is the likeliest choice taken, as lm-eval defines it, and is a row without a right one refused?"""

from __future__ import annotations

from math import inf, nan
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import BadInput
from pipelines.tasks.generation.forms.choices import Choices, choices_of, parted, read_choices

FILE = Path("rows.jsonl")
LIST = [" Oslo", " Copenhagen"]


def read(said: Any = LIST, right: Any = 0) -> Choices:
    """What the row offers."""
    return read_choices({"choices": said}, right, 3, FILE)


@pytest.mark.parametrize(
    ("sums", "choice", "choice_norm"),
    [
        ((-4.0, -5.0), 1, 0),
        ((-4.0, -9.0), 1, 0),
        ((-4.0, -10.1), 1, 1),
        ((-6.0, -5.0), 0, 0),
        ((-5.0, -5.0), 1, 0),
        ((nan, -5.0), 0, 0),
        ((-1.0, -inf), 0, 0),
    ],
)
def test_the_likeliest_is_taken_as_it_is_and_by_its_bytes(sums, choice, choice_norm):
    """Four bytes and ten: the space that parts them from the prompt is none of theirs. NaN chooses nothing."""
    assert read().scores(sums) == {"choice": choice, "choice_norm": choice_norm}


def test_bytes_are_counted_and_not_letters():
    """A letter of another script has several: -6 over 2 bytes against -10 over 3 letters of 2 bytes each."""
    assert Choices(("no", "нет"), 1).scores((-6.0, -10.0)) == {"choice": 0.0, "choice_norm": 1.0}


@pytest.mark.parametrize(("right", "place"), [(1, 1), ("Copenhagen", 1), (" Oslo", 0)])
def test_the_answer_is_a_place_or_a_text(right, place):
    """And the same after it was sent to a child."""
    assert read(right=right) == Choices(tuple(LIST), place) == choices_of(read(right=right).as_dict())
    assert read_choices({}, (), 1, FILE).as_dict() == {}


@pytest.mark.parametrize(
    ("said", "right"),
    [
        ("Oslo", 0),
        (["Oslo"], 0),
        (["Oslo", ""], 0),
        (["Oslo", 5], 0),
        (["x"] * 2, 0),
        ([str(number) for number in range(101)], 0),
        (["Oslo", "x" * 100_000], 0),
        (["Oslo", "\ud800"], 0),
        (LIST, 2),
        (LIST, -1),
        (LIST, True),
        (LIST, 1.0),
        (LIST, "Rome"),
        (LIST, ()),
        (["Oslo", " Oslo"], "Oslo"),
    ],
)
def test_a_row_without_a_right_choice_is_refused(said, right):
    """By its number."""
    with pytest.raises(BadInput, match="row 3") as caught:
        read(said, right)
    assert caught.value.code == "E_DATASET"


@pytest.mark.parametrize(
    ("context", "text", "parts"),
    [
        ("a b", " c", (["a", " b"], [" c"])),
        ("a b ", "c", (["a", " b"], [" c"])),
        ("a", "bc", (["a"], [])),
        (" ", "c", ([" "], ["c"])),
    ],
)
def test_spaces_at_the_end_of_a_prompt_begin_the_choice(context, text, parts):
    """As in lm-eval: else no model has seen such tokens. A choice that melts into the prompt's last word has none."""

    def words(said: str) -> list[str]:
        return [said] if not said.strip() else [("" if n == 0 else " ") + one for n, one in enumerate(said.split())]

    found = parted(words, context, text)
    assert found == parts if text != "c" or context != " " else found[0] == [" "]
