"""What was stable like in the last minutes? Known before the requests that are held against it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from evals.signals.strata import Stratum

WINDOW_S, CHUNK_S = 300.0, 30.0
MIN_SEEN = 50
"""Stable requests that must have been seen before its quantiles mean anything."""

Histogram = Mapping[int, int]


@dataclass(frozen=True)
class Window:
    """Chunks of (start, requests by grid step), in one gateway boot."""

    boot: str = ""
    chunks: tuple[tuple[float, Histogram], ...] = ()

    def after(self, stratum: Stratum, fresh: Histogram) -> Window:
        """The window with what one more stratum counted, and without what is too old."""
        chunks = self.chunks if stratum.boot == self.boot else ()
        chunks = tuple(c for c in chunks if stratum.routed_from_s - c[0] <= WINDOW_S)
        if chunks and stratum.routed_from_s - chunks[-1][0] < CHUNK_S:
            chunks = (*chunks[:-1], (chunks[-1][0], _sum(chunks[-1][1], fresh)))
        else:
            chunks = (*chunks, (stratum.routed_from_s, fresh))
        return Window(stratum.boot, chunks)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {"boot": self.boot, "chunks": [[start, sorted(map(list, n.items()))] for start, n in self.chunks]}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Window:
        """The window of `as_dict`."""
        chunks = ((float(start), {int(s): int(n) for s, n in counts}) for start, counts in raw["chunks"])
        return cls(str(raw["boot"]), tuple(chunks))

    def quantile_steps(self, quantiles: tuple[float, ...]) -> tuple[int, ...]:
        """The grid steps of stable's quantiles; () while too little has been seen."""
        counted = [counts for _, counts in self.chunks]
        steps = np.fromiter(chain.from_iterable(counted), dtype=np.int64)
        seen = np.fromiter(chain.from_iterable(counts.values() for counts in counted), dtype=np.int64)
        if seen.sum() < MIN_SEEN:
            return ()
        order = np.argsort(steps, kind="stable")
        ranks = np.asarray(quantiles) * seen.sum()
        return tuple(steps[order][np.searchsorted(np.cumsum(seen[order]), ranks)].tolist())


def _sum(a: Histogram, b: Histogram) -> dict[int, int]:
    return {step: a.get(step, 0) + b.get(step, 0) for step in {*a, *b}}
