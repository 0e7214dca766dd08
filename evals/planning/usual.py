"""What do a service's requests look like on a usual day? Its rate, its errors, its latencies and scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from evals.planning.worlds import EQUAL, MEDIAN_MS, SCORE_SPREAD, SIGMA
from evals.signals.latency import histogram
from evals.signals.strata import GRID_RATIO, ArmCounts, Stratum

ENOUGH = 1000
"""So many of a kind must have been seen before they stand for what is usual."""

LEAST_S = 60.0
"""A rate that was counted for less than this is none."""

Histogram = Mapping[int, int]

STREAM_SIGMA = {"first_token": 0.6, "between_tokens": 0.3, "shorter": 0.8, "longer": 0.8}
"""How far timings and lengths of streams are taken to lie apart where too few were seen: deviations of their logs."""


def _typical_latencies(sigma: float = SIGMA) -> Histogram:
    """A hundred thousand lognormal latencies, those of the simulated releases, by grid step."""
    rng = np.random.default_rng(0)
    steps = np.ceil((np.log(MEDIAN_MS) + sigma * rng.normal(size=100_000)) / np.log(GRID_RATIO)).astype(int)
    return dict(zip(*(values.tolist() for values in np.unique(steps, return_counts=True)), strict=True))


def _typical_scores() -> Histogram:
    """Ten thousand scores of the simulated releases, by hundredths."""
    mean, rng = EQUAL.stable_score, np.random.default_rng(0)
    scores = np.rint(rng.beta(mean * SCORE_SPREAD, (1 - mean) * SCORE_SPREAD, 10_000) * 100).astype(int) * 10
    return dict(zip(*(values.tolist() for values in np.unique(scores, return_counts=True)), strict=True))


@dataclass(frozen=True)
class Usual:
    """Stable's requests; histograms are by grid step and by thousandths. What was not seen enough is assumed."""

    requests_per_s: float | None = None
    error_rate: float = EQUAL.stable_errors
    labelled: float = EQUAL.scored
    """Scores for each request."""
    latencies: Histogram = field(default_factory=_typical_latencies)
    scores: Histogram = field(default_factory=_typical_scores)
    timings: Mapping[str, Histogram] = field(default_factory=dict)
    """Of streamed answers, by what is timed."""
    rates: Mapping[str, float] = field(default_factory=dict)
    """The part of the answers that are bad, by what they were asked about."""
    assumed: tuple[str, ...] = ("errors", "latency", "scores")
    """What was not measured."""

    def of_streams(self, name: str) -> Usual:
        """The same with the time of something in streamed answers in place of latencies."""
        return replace(self, latencies=self.timings.get(name) or _typical_latencies(STREAM_SIGMA[name]))

    def slower_than(self, step: float) -> float:
        """The fraction of requests that take longer than a step of the latency grid."""
        return sum(n for s, n in self.latencies.items() if s > step) / sum(self.latencies.values())

    def quantile_step(self, quantile: float) -> int:
        """The grid step of a quantile of latency."""
        steps = sorted(self.latencies)
        seen = np.cumsum([self.latencies[step] for step in steps])
        return steps[int(np.searchsorted(seen, quantile * seen[-1]))]


def usual_of(strata: Sequence[Stratum]) -> Usual | None:
    """What these strata show; None where they are too short to give a rate."""
    lasted_s = sum(s.routed_to_s - s.routed_from_s for s in strata)
    if lasted_s < LEAST_S:
        return None
    stable = [s.stable for s in strata]
    routed, errors = (sum(getattr(arm, name) for arm in stable) for name in ("routed", "errors"))
    usual = Usual((routed + sum(s.canary.routed for s in strata)) / lasted_s)
    if routed >= ENOUGH:
        usual = replace(usual, error_rate=(errors + 0.1) / (routed + 20), assumed=usual.assumed[1:])
    usual = replace(usual, timings=_timings(stable), rates=_rates(stable))
    return _with_scores(_with_latencies(usual, _sum([histogram(arm) for arm in stable])), stable, routed)


def _timings(stable: Sequence[ArmCounts]) -> dict[str, Histogram]:
    names = sorted({name for arm in stable for name in arm.timings})
    found = {name: _sum([histogram(arm.timings[name]) for arm in stable if name in arm.timings]) for name in names}
    return {name: counts for name, counts in found.items() if sum(counts.values()) >= ENOUGH}


def _rates(stable: Sequence[ArmCounts]) -> dict[str, float]:
    """Drawn a little towards half a percent, as errors are."""
    asked: dict[str, list[int]] = {}
    for what, n, bad in (
        (what, *counts) for arm in stable for what, bins in arm.rates.items() for counts in bins.values()
    ):
        total = asked.setdefault(what, [0, 0])
        total[0], total[1] = total[0] + n, total[1] + bad
    return {what: (bad + 0.1) / (n + 20) for what, (n, bad) in asked.items() if n >= ENOUGH}


def _with_latencies(usual: Usual, latencies: Histogram) -> Usual:
    if sum(latencies.values()) < ENOUGH:
        return usual
    return replace(usual, latencies=latencies, assumed=tuple(a for a in usual.assumed if a != "latency"))


def _with_scores(usual: Usual, stable: Sequence[ArmCounts], routed: int) -> Usual:
    scores = _sum([arm.scores for arm in stable])
    seen = sum(scores.values())
    if routed >= ENOUGH:
        usual = replace(usual, labelled=seen / routed)
    if seen < ENOUGH:
        return usual
    return replace(usual, scores=scores, assumed=tuple(a for a in usual.assumed if a != "scores"))


def _sum(histograms: Sequence[Histogram]) -> dict[int, int]:
    total: dict[int, int] = {}
    for counts in histograms:
        for step, n in counts.items():
            total[step] = total.get(step, 0) + n
    return total
