"""Is the canary slower than stable, at stable's own recent quantiles?

Thresholds come from stable's *previous* strata, so they are known before the requests that are judged by them; the
judge counts in each arm how many requests took longer. Nothing is assumed about the distribution's shape.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from evals.processes import Counts, OddsRatio, Process, log_mean
from evals.strata import GRID_RATIO, ArmCounts, Stratum

WINDOW_S, CHUNK_S = 300.0, 30.0
MIN_SEEN = 50
"""Stable requests that must have been seen before its quantiles mean anything."""

EXCEEDANCE = OddsRatio(ratios=(1.0, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0), prior=(0.1, *[0.15] * 6))

HARMLESS = OddsRatio(ratios=(1 / 1.2, 1 / 1.5, 1 / 2.0, 1 / 3.0), prior=(0.25,) * 4)
"""Ratios below one turn the null over: it says that the canary exceeds the threshold at least as often as stable."""

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
    """For each quantile an e-process of harm and one of harmlessness, and the window that sets their thresholds."""

    window: Window = field(default_factory=Window)
    processes: tuple[Process, ...] = ()
    harmless: tuple[Process, ...] = ()

    @property
    def log_e(self) -> float:
        """Log of the mean of the quantiles' e-values; 0 before anything was judged."""
        if not self.processes:
            return 0.0
        return log_mean([p.log_e for p in self.processes], [1 / len(self.processes)] * len(self.processes))

    @property
    def harmless_log_e(self) -> float:
        """Log E of the quantile that is furthest from being proven harmless."""
        return min((p.log_e for p in self.harmless), default=0.0)

    def cut(self) -> LatencyState:
        """The state without the counts that wait for a stratum."""
        harmless = tuple(p.cut() for p in self.harmless)
        return replace(self, processes=tuple(p.cut() for p in self.processes), harmless=harmless)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        chunks = [[start, sorted(map(list, counts.items()))] for start, counts in self.window.chunks]
        processes, harmless = ([p.as_dict() for p in each] for each in (self.processes, self.harmless))
        return {"boot": self.window.boot, "chunks": chunks, "processes": processes, "harmless": harmless}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> LatencyState:
        """The state of `as_dict`."""
        chunks = tuple((float(start), {int(s): int(n) for s, n in counts}) for start, counts in raw["chunks"])
        processes, harmless = (tuple(Process.from_dict(p) for p in raw[key]) for key in ("processes", "harmless"))
        return cls(Window(raw["boot"], chunks), processes, harmless)


def absorb_latency(
    state: LatencyState, stratum: Stratum, quantiles: tuple[float, ...], tolerance: float, margin: float | None = None
) -> LatencyState:
    """The state after one stratum: judged at the old thresholds first, then part of the window.

    Harm is being slower by more than `tolerance`; harmless is being slower by less than `margin` (None does not ask).
    """
    steps = state.window.quantile_steps(quantiles)
    processes = _judged(EXCEEDANCE, state.processes or (Process(),) * len(quantiles), stratum, steps, tolerance)
    harmless = state.harmless
    if margin is not None:
        harmless = _judged(HARMLESS, harmless or (Process(),) * len(quantiles), stratum, steps, margin)
    return replace(state, window=state.window.after(stratum), processes=processes, harmless=harmless)


def _judged(
    test: OddsRatio, processes: tuple[Process, ...], stratum: Stratum, steps: tuple[int, ...], slower: float
) -> tuple[Process, ...]:
    """One process for each quantile, after a stratum; unchanged while there are no thresholds yet."""
    if not steps:
        return processes
    shift = math.ceil(math.log1p(slower) / math.log(GRID_RATIO) - 1e-9)
    return tuple(test.absorb(p, _slower(stratum, s, shift)) for p, s in zip(processes, steps, strict=True))


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
