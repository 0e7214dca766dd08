"""Which rows belong together?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

MIN_ROWS = 30
"""A slice with fewer rows is reported as missing: too small to say anything, and not silently dropped."""

_TOO_FEW = "too few to judge"

Rows = npt.NDArray[np.int64]


def slice_rows(columns: Mapping[str, Sequence[str]], declared: Sequence[str], n: int) -> dict[str, Rows]:
    """The row numbers of `all` and of each `column=value`, in a stable order."""
    found: dict[str, Rows] = {"all": np.arange(n)}
    for column in declared:
        values = np.asarray(columns[column])
        for value in sorted(set(columns[column])):
            found[f"{column}={value}"] = np.flatnonzero(values == value)
    return found


def too_few(n: int, what: str = "rows", least: int = MIN_ROWS) -> str | None:
    """Why can n rows (or batches) not be judged? None where they are enough."""
    return f"{n} {what} are {_TOO_FEW} (at least {least})" if n < least else None


def is_too_few(missing: str | None) -> bool:
    """Whether something is missing for want of rows, and for no worse reason."""
    return missing is not None and _TOO_FEW in missing


def column_of(slice_name: str) -> str | None:
    """The column of a slice's name; None for `all`."""
    return slice_name.partition("=")[0] if "=" in slice_name else None
