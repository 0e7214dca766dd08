"""Releases that were never made: a canary beside stable in one environment, interval by interval.

It knows nothing of any rule: whoever plays decides the canary's share from interval to interval. Latencies are
lognormal around 100 ms (p99 about 404 ms), and both arms share a drift that remembers itself; scores are of a beta
distribution around 0.85 and arrive a minute late for a fifth of the requests.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

INTERVAL_S = 5.0
MEDIAN_MS, SIGMA = 100.0, 0.6
P90_MS, P99_MS = (MEDIAN_MS * math.exp(SIGMA * z) for z in (1.2815515655446004, 2.3263478740408408))
SCORES_LATE_S = 60.0
SCORED, SCORE_SPREAD = 0.2, 5.0
DRIFT, DRIFT_MEMORY = 0.1, 0.9
"""How far both arms' latencies wander together, and what they remember of it after `INTERVAL_S`."""

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Slice:
    """Requests with one value of a declared attribute (`attribute=value`), and how many fail there at the canary."""

    name: str
    share: float
    canary_errors: float | None = None
    """None: as many as elsewhere."""


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
    scored: float = SCORED
    """The fraction of requests that are ever given a score."""
    slices: tuple[Slice, ...] = ()
    """Every request is in one of them, where there are any."""
    busy: float = 0.0
    """How busy one arm is with all of the traffic: latency grows as in a queue, by 1 / (1 - busy·share)."""


@dataclass(frozen=True)
class ArmSeen:
    """What one arm did in one interval."""

    n: int
    errors: int
    latency: Values
    quality: Values
    by_slice: Mapping[str, ArmSeen] = field(default_factory=dict)


@dataclass(frozen=True)
class IntervalSeen:
    """Both arms in the `lasts_s` seconds before `t`. One in ten of stable's requests took longer than `slow_ms`."""

    t: float
    weight: float
    stable: ArmSeen
    canary: ArmSeen
    lasts_s: float = INTERVAL_S
    slow_ms: float = math.inf


def play(world: World, seed: int) -> Iterator[IntervalSeen]:
    """One release at the world's own shares, each for as long as the others."""
    traffic = Traffic(world, seed)
    count = round(world.lasts_s / INTERVAL_S)
    for number in range(count):
        yield traffic.interval(world.shares[number * len(world.shares) // count])


class Traffic:
    """The requests of one release."""

    def __init__(self, world: World, seed: int) -> None:
        self._world = world
        self._rng = np.random.default_rng(seed)
        self._drift = _Drift(self._rng, world.pod_noise)
        self._late: deque[tuple[float, Values, Values]] = deque()
        self._at_s = 0.0

    def interval(self, share: float, lasts_s: float = INTERVAL_S) -> IntervalSeen:
        """What happens next, while the canary has this share."""
        rng, world, at_s = self._rng, self._world, self._at_s
        total = int(rng.poisson(world.requests_per_s * lasts_s))
        canary = int(rng.binomial(total, share))
        sizes, drift = (total - canary, canary), self._drift.step(lasts_s)
        stable_scale, canary_scale = (f * c for f, c in zip(drift, crowding(world, share), strict=True))
        scores = self._scores(sizes)
        errors = [int(rng.binomial(n, p)) for n, p in zip(sizes, error_rates(world, at_s), strict=True)]
        fast = stable_scale * MEDIAN_MS * np.exp(SIGMA * rng.normal(size=sizes[0]))
        slow = canary_scale * _slowed(world, at_s, MEDIAN_MS * np.exp(SIGMA * rng.normal(size=sizes[1])))
        arms = [ArmSeen(n, k, ms, q) for n, k, ms, q in zip(sizes, errors, (fast, slow), scores, strict=True)]
        if world.slices:
            arms = [self._sliced(arm, is_canary=arm is arms[1]) for arm in arms]
        self._at_s += lasts_s
        return IntervalSeen(self._at_s, share, arms[0], arms[1], lasts_s, stable_scale * P90_MS)

    def _scores(self, sizes: tuple[int, int]) -> tuple[Values, Values]:
        """The scores that arrive now; those of the requests that are made now arrive a minute later."""
        world, drawn = self._world, []
        for requests, mean in zip(sizes, (world.stable_score, world.canary_score), strict=True):
            labelled = self._rng.binomial(requests, world.scored)
            drawn.append(self._rng.beta(mean * SCORE_SPREAD, (1 - mean) * SCORE_SPREAD, labelled))
        self._late.append((self._at_s + SCORES_LATE_S, drawn[0], drawn[1]))
        due = []
        while self._late[0][0] <= self._at_s + 1e-6:
            due.append(self._late.popleft()[1:])
        stable, canary = (np.concatenate([np.empty(0), *(scores[arm] for scores in due)]) for arm in (0, 1))
        return stable, canary

    def _sliced(self, arm: ArmSeen, *, is_canary: bool) -> ArmSeen:
        """The arm's requests dealt to the slices, each with its own errors; who failed comes last, as in every arm."""
        rng, slices = self._rng, self._world.slices
        sizes = rng.multinomial(arm.n, [s.share for s in slices])
        usual = arm.errors / arm.n if arm.n else 0.0
        parts, answered, failed = {}, [], []
        for part, n, latency in zip(slices, sizes, np.split(arm.latency, np.cumsum(sizes)[:-1]), strict=True):
            errors = int(rng.binomial(n, usual if part.canary_errors is None or not is_canary else part.canary_errors))
            parts[part.name] = ArmSeen(int(n), errors, latency, np.empty(0))
            answered.append(latency[: n - errors])
            failed.append(latency[n - errors :])
        errors = sum(part.errors for part in parts.values())
        return ArmSeen(arm.n, errors, np.concatenate(answered + failed), arm.quality, parts)


def crowding(world: World, share: float) -> tuple[float, float]:
    """By how much the load slows down stable and the canary."""
    return 1 / (1 - world.busy * (1 - share)), 1 / (1 - world.busy * share)


def error_rates(world: World, at_s: float) -> tuple[float, float]:
    """Stable's and the canary's."""
    incident = world.incident
    shared = incident[2] if incident and incident[0] <= at_s < incident[1] else 0.0
    return max(world.stable_errors, shared), max(world.canary_errors, shared)


def _slowed(world: World, at_s: float, latency: Values) -> Values:
    """The canary's latencies: as a whole, in the tail above p90, or more and more."""
    stretch = 1 + math.log(world.p99_slower) / math.log(P99_MS / P90_MS)
    tail = np.where(latency > P90_MS, P90_MS * (latency / P90_MS) ** stretch, latency)
    if world.leak_to == 1:
        return np.asarray(tail * world.slower)
    leaking = max(0.0, (at_s - world.leak_from_s) / (world.lasts_s - world.leak_from_s))
    return np.asarray(tail * world.slower * (1 + (world.leak_to - 1) * leaking))


class _Drift:
    """Factors of both arms' latencies: one that they share, and one of each pod."""

    def __init__(self, rng: np.random.Generator, pod_noise: float) -> None:
        self._rng = rng
        self._sizes = np.array([DRIFT, pod_noise, pod_noise])
        self._now = rng.normal(size=3) * self._sizes

    def step(self, lasts_s: float) -> tuple[float, float]:
        """Stable's and the canary's factor in the next interval."""
        memory = DRIFT_MEMORY ** (lasts_s / INTERVAL_S)
        fresh = self._rng.normal(size=3) * self._sizes * math.sqrt(1 - memory**2)
        self._now = memory * self._now + fresh
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
