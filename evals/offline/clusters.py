"""Which rows are one draw, as those of one document are?

Rows of one cluster are alike: ten questions on one document say less than ten documents. So where rows have clusters,
whole clusters are drawn anew. Source: Field and Welsh, JRSS B 69 (2007), 369–390; Miller, arXiv:2411.00640 (2024),
section 2.2, on why suites of questions need it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

RowNumbers = npt.NDArray[np.int64]


class Draws:
    """What is drawn with replacement: n rows, or the clusters that they are of.

    `labels` are the rows' clusters, or none; `column` is what those are called.
    """

    def __init__(self, n: int, labels: Sequence[str] = (), column: str = "") -> None:
        self.rows, self._labels, self.column = n, labels, column

    @property
    def of_clusters(self) -> bool:
        """Whether whole clusters are drawn."""
        return bool(self._labels)

    @property
    def count(self) -> int:
        """How many draws there are: of clusters where rows have them."""
        return len(self._starts) if self.of_clusters else self.rows

    @property
    def what(self) -> str:
        """What is drawn, in a word."""
        return f"clusters ({self.column})" if self.of_clusters else "rows"

    @property
    def notes(self) -> dict[str, str | int]:
        """What an evidence says of it; nothing where rows are drawn."""
        return {"clusters": self.column, "clusters_n": self.count} if self.of_clusters else {}

    def among(self, rows: RowNumbers) -> Draws:
        """The same of some rows, which are numbered anew."""
        return Draws(len(rows), [self._labels[row] for row in rows] if self.of_clusters else (), self.column)

    def drawn(self, rng: np.random.Generator) -> RowNumbers:
        """The rows of as many draws as there are."""
        if not self.of_clusters:
            return rng.integers(0, self.rows, self.rows)
        taken = rng.integers(0, self.count, self.count)
        sizes = self._sizes[taken]
        begins = np.repeat(self._starts[taken] - np.cumsum(sizes) + sizes, sizes)
        return np.asarray(self._order[begins + np.arange(sizes.sum())])

    @cached_property
    def _codes(self) -> RowNumbers:
        return np.unique(np.asarray(self._labels), return_inverse=True)[1]

    @cached_property
    def _order(self) -> RowNumbers:
        """Row numbers, those of one cluster beside each other."""
        return np.argsort(self._codes, kind="stable")

    @cached_property
    def _sizes(self) -> RowNumbers:
        return np.bincount(self._codes)

    @cached_property
    def _starts(self) -> RowNumbers:
        return np.concatenate([[0], np.cumsum(self._sizes)[:-1]])
