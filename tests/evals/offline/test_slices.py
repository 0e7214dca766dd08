"""Which rows belong to which slice?"""

from __future__ import annotations

import pytest

from evals.evidence import MIN_ROWS, column_of, is_too_few, too_few
from evals.offline.slices import slice_rows

COLUMNS = {"topic": ("rail", "air", "rail"), "channel": ("web", "web", "app")}


def test_every_value_of_a_declared_column_is_a_slice():
    """All rows first, then `column=value` in a stable order; undeclared columns make none."""
    found = {name: rows.tolist() for name, rows in slice_rows(COLUMNS, ["topic"], 3).items()}
    assert list(found.items()) == [("all", [0, 1, 2]), ("topic=air", [1]), ("topic=rail", [0, 2])]


def test_slices_of_a_column_part_the_rows():
    """Each row is in exactly one slice of each column."""
    found = slice_rows(COLUMNS, ["topic", "channel"], 3)
    for column in COLUMNS:
        rows = sorted(int(i) for name, part in found.items() if column_of(name) == column for i in part)
        assert rows == [0, 1, 2]


@pytest.mark.parametrize(("name", "column"), [("all", None), ("topic=air", "topic"), ("topic=a=b", "topic")])
def test_a_slice_knows_its_column(name, column):
    """Values may hold an equals sign."""
    assert column_of(name) == column


def test_too_few_rows_are_marked_as_that():
    """The mark tells a small slice from a broken measurement."""
    assert too_few(MIN_ROWS) is None
    assert is_too_few(too_few(MIN_ROWS - 1))
    assert not is_too_few("3 of 40 answers are NaN or infinite")
    assert not is_too_few(None)
