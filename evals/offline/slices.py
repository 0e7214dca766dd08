"""Which rows belong together?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]


def slice_rows(columns: Mapping[str, Sequence[str]], declared: Sequence[str], n: int) -> dict[str, Rows]:
    """The row numbers of `all` and of each `column=value`, in a stable order."""
    found: dict[str, Rows] = {"all": np.arange(n)}
    for column in declared:
        values = np.asarray(columns[column])
        for value in sorted(set(columns[column])):
            found[f"{column}={value}"] = np.flatnonzero(values == value)
    return found
