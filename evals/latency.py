"""Is the canary slower than stable, at stable's own recent quantiles?

Thresholds come from stable's *previous* strata, so they are known before the requests that are judged by them; the
judge counts in each arm how many requests took longer. Nothing is assumed about the distribution's shape.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from evals.sequential import Counts, OddsRatio, Process, log_mean
from evals.strata import GRID_RATIO, ArmCounts, Stratum

WINDOW_S, CHUNK_S = 300.0, 30.0
MIN_SEEN = 50
"""Stable requests that must have been seen before its quantiles mean anything."""

EXCEEDANCE = OddsRatio(ratios=(1.0, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0), prior=(0.1, *[0.15] * 6))

Histogram = Mapping[int, int]


@dataclass(frozen=True)
class Window:
    """Stable's latencies of the last minutes: chunks of (start, requests by grid step), in one gateway boot."""

    boot: str = ""
    chunks: tuple[tuple[float, Histogram], ...] = ()

    def after(self, stratum: Stratum) -> Window:
        """The window with one more stratum, and without what is too old."""
        chunks = self.chunks if stratum.boot == self.boot else ()
        chunks = tuple(c for c in chunks if stratum.routed_from_s - c[0] <= WINDOW_S)
        fresh = histogram(stratum.stable)
        if chunks and stratum.routed_from_s - chunks[-1][0] < CHUNK_S:
            chunks = (*chunks[:-1], (chunks[-1][0], _sum(chunks[-1][1], fresh)))
        else:
            chunks = (*chunks, (stratum.routed_from_s, fresh))
        return Window(stratum.boot, chunks)

    def quantile_steps(self, quantiles: tuple[float, ...]) -> tuple[int, ...]:
        """The grid steps of stable's quantiles; () while too little has been seen."""
        total: dict[int, int] = {}
        for _, counts in self.chunks:
            total = _sum(total, counts)
        seen = sum(total.values())
        return tuple(_step_of(total, q * seen) for q in quantiles) if seen >= MIN_SEEN else ()


@dataclass(frozen=True)
class LatencyState:
    """One e-process for each quantile, and the window that sets their thresholds."""

    window: Window = field(default_factory=Window)
    processes: tuple[Process, ...] = ()

    @property
    def log_e(self) -> float:
        """Log of the mean of the quantiles' e-values; 0 before anything was judged."""
        if not self.processes:
            return 0.0
        return log_mean([p.log_e for p in self.processes], [1 / len(self.processes)] * len(self.processes))

    def cut(self) -> LatencyState:
        """The state without the counts that wait for a stratum."""
        return replace(self, processes=tuple(p.cut() for p in self.processes))

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        chunks = [[start, sorted(map(list, counts.items()))] for start, counts in self.window.chunks]
        processes = [p.as_dict() for p in self.processes]
        return {"boot": self.window.boot, "chunks": chunks, "processes": processes}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> LatencyState:
        """The state of `as_dict`."""
        chunks = tuple((float(start), {int(s): int(n) for s, n in counts}) for start, counts in raw["chunks"])
        return cls(Window(raw["boot"], chunks), tuple(Process.from_dict(p) for p in raw["processes"]))


def absorb_latency(
    state: LatencyState, stratum: Stratum, quantiles: tuple[float, ...], tolerance: float
) -> LatencyState:
    """The state after one stratum: judged at the old thresholds first, then part of the window."""
    steps = state.window.quantile_steps(quantiles)
    processes = state.processes or tuple(Process() for _ in quantiles)
    if steps:
        shift = math.ceil(math.log1p(tolerance) / math.log(GRID_RATIO) - 1e-9)
        judged = [EXCEEDANCE.absorb(p, _slower(stratum, s, shift)) for p, s in zip(processes, steps, strict=True)]
        processes = tuple(judged)
    return replace(state, window=state.window.after(stratum), processes=processes)


def _slower(stratum: Stratum, step: int, shift: int) -> Counts:
    """Requests over the threshold in each arm; the canary's is higher by the tolerance."""
    canary, stable = stratum.canary, stratum.stable
    return Counts(canary.timed, canary.exceeding(step + shift), stable.timed, stable.exceeding(step))


def histogram(arm: ArmCounts) -> dict[int, int]:
    """How many requests ended at each grid step (the inverse of the survival steps of `over`)."""
    found, left, step = {}, arm.timed, 0
    for step, over in sorted(arm.over.items()):
        if left > over:
            found[step] = left - over
        left = over
    if arm.over and left:
        found[step + 1] = left  # slower than the last threshold that was counted
    return found


def _sum(a: Histogram, b: Histogram) -> dict[int, int]:
    return {step: a.get(step, 0) + b.get(step, 0) for step in {*a, *b}}


def _step_of(counts: Histogram, rank: float) -> int:
    seen = 0
    for step in sorted(counts):
        seen += counts[step]
        if seen >= rank:
            return step
    return max(counts)
