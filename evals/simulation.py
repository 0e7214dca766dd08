"""Releases that were never made: a canary beside stable in one environment, in intervals of five seconds.

It knows nothing of any rule. Latencies are lognormal around 100 ms (p99 about 404 ms), and both arms share a drift that
remembers itself; scores are of a beta distribution around 0.85 and arrive a minute late for a fifth of the requests.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

INTERVAL_S = 5.0
MEDIAN_MS, SIGMA = 100.0, 0.6
P90_MS, P99_MS = (MEDIAN_MS * math.exp(SIGMA * z) for z in (1.2815515655446004, 2.3263478740408408))
SCORES_LATE = 12
SCORED, SCORE_SPREAD = 0.2, 5.0
DRIFT, DRIFT_MEMORY = 0.1, 0.9

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class World:
    """What happens; a canary that equals stable is the default. Rates and shares are fractions, times seconds."""

    name: str
    requests_per_s: float = 50.0
    lasts_s: float = 1800.0
    shares: tuple[float, ...] = (0.05, 0.1, 0.25, 0.5)
    stable_errors: float = 0.005
    canary_errors: float = 0.005
    slower: float = 1.0
    p99_slower: float = 1.0
    leak_to: float = 1.0
    leak_from_s: float = 300.0
    stable_score: float = 0.85
    canary_score: float = 0.85
    pod_noise: float = 0.0
    incident: tuple[float, float, float] | None = None
    """From, to, and the error rate of both arms in between."""


@dataclass(frozen=True)
class Arm:
    """What one arm did in one interval."""

    n: int
    errors: int
    latency: Values
    quality: Values


@dataclass(frozen=True)
class Interval:
    """Both arms."""

    t: float
    weight: float
    stable: Arm
    canary: Arm


def play(world: World, seed: int) -> Iterator[Interval]:
    """One release."""
    rng = np.random.default_rng(seed)
    drift = _Drift(rng, world.pod_noise)
    late: deque[tuple[Values, Values]] = deque()
    count = round(world.lasts_s / INTERVAL_S)
    for number in range(count):
        at_s = number * INTERVAL_S
        weight = world.shares[number * len(world.shares) // count]
        total = int(rng.poisson(world.requests_per_s * INTERVAL_S))
        canary = int(rng.binomial(total, weight))
        sizes, (stable_scale, canary_scale) = (total - canary, canary), drift.step()
        late.append((_scores(rng, sizes[0], world.stable_score), _scores(rng, sizes[1], world.canary_score)))
        scores = late.popleft() if len(late) > SCORES_LATE else (np.empty(0), np.empty(0))
        errors = [rng.binomial(n, p) for n, p in zip(sizes, error_rates(world, at_s), strict=True)]
        fast = stable_scale * MEDIAN_MS * np.exp(SIGMA * rng.normal(size=sizes[0]))
        slow = canary_scale * _slowed(world, at_s, MEDIAN_MS * np.exp(SIGMA * rng.normal(size=sizes[1])))
        arms = [Arm(n, int(k), ms, q) for n, k, ms, q in zip(sizes, errors, (fast, slow), scores, strict=True)]
        yield Interval(at_s + INTERVAL_S, weight, *arms)


def error_rates(world: World, at_s: float) -> tuple[float, float]:
    """Stable's and the canary's."""
    incident = world.incident
    shared = incident[2] if incident and incident[0] <= at_s < incident[1] else 0.0
    return max(world.stable_errors, shared), max(world.canary_errors, shared)


def _scores(rng: np.random.Generator, requests: int, mean: float) -> Values:
    return rng.beta(mean * SCORE_SPREAD, (1 - mean) * SCORE_SPREAD, rng.binomial(requests, SCORED))


def _slowed(world: World, at_s: float, latency: Values) -> Values:
    """The canary's latencies: as a whole, in the tail above p90, or more and more."""
    stretch = 1 + math.log(world.p99_slower) / math.log(P99_MS / P90_MS)
    tail = np.where(latency > P90_MS, P90_MS * (latency / P90_MS) ** stretch, latency)
    leaking = max(0.0, (at_s - world.leak_from_s) / (world.lasts_s - world.leak_from_s))
    return np.asarray(tail * world.slower * (1 + (world.leak_to - 1) * leaking))


class _Drift:
    """Factors of both arms' latencies: one that they share, and one of each pod."""

    def __init__(self, rng: np.random.Generator, pod_noise: float) -> None:
        self._rng = rng
        self._sizes = np.array([DRIFT, pod_noise, pod_noise])
        self._now = rng.normal(size=3) * self._sizes

    def step(self) -> tuple[float, float]:
        """Stable's and the canary's factor in the next interval."""
        fresh = self._rng.normal(size=3) * self._sizes * math.sqrt(1 - DRIFT_MEMORY**2)
        self._now = DRIFT_MEMORY * self._now + fresh
        shared, stable, canary = self._now
        return math.exp(shared + stable), math.exp(shared + canary)


EQUAL = World("A/A")
WORLDS = (
    EQUAL,
    replace(EQUAL, name="A/A, incident on both arms", incident=(600.0, 960.0, 0.05)),
    replace(EQUAL, name="A/A, 5 % pod noise", pod_noise=0.05),
    replace(EQUAL, name="A/A, 1 request/s, 2 h", requests_per_s=1.0, lasts_s=7200.0),
    replace(EQUAL, name="errors 0.5 → 1 %", canary_errors=0.01),
    replace(EQUAL, name="errors 0.5 → 2 %", canary_errors=0.02),
    replace(EQUAL, name="errors 0.5 → 5 %", canary_errors=0.05),
    replace(EQUAL, name="errors 0.5 → 50 %", canary_errors=0.5),
    replace(EQUAL, name="errors worse by the margin", canary_errors=0.015),
    replace(EQUAL, name="p50 +10 %", slower=1.1),
    replace(EQUAL, name="p99 +20 %", p99_slower=1.2),
    replace(EQUAL, name="p99 +50 %", p99_slower=1.5),
    replace(EQUAL, name="latency worse by the margin", slower=1.1576),
    replace(EQUAL, name="leak to +60 %", leak_to=1.6),
    replace(EQUAL, name="quality −2 points", canary_score=0.83),
)
