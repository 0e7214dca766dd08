"""Thousands of releases of a language model at once, with all of its gates, in arrays.

Traffic is bursty and heavy-tailed: arrivals come by a Poisson process whose rate remembers itself and now and then is
four times as high, prompts and answers are lognormal, one answer in fifty waits by Pareto's law, and what both arms
share (load) slows both. A canary finds its prompts in a cache as often as `canary_hits` says. Banks, bets, windows'
rules and weights are the judge's own; `tests/benchmarks/test_many_streams.py` holds the evidence against the judge's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from evals.canary.plan import CanaryPlan
from evals.canary.state import ERRORS
from evals.maths.e_processes import Bank, Bets, Ints, NonInferiority, Values, absorb, absorb_parts, log_sum
from evals.planning.needs import Timetable, needs
from evals.planning.usual import Usual, usual_of
from evals.planning.worlds import INTERVAL_S
from evals.signals.binned import RateTest
from evals.signals.graded import TAIL
from evals.signals.latency import EXCEEDANCE, HARMLESS, LatencyTest, quantile_weights, tempers
from evals.signals.strata import GRID_RATIO, ArmCounts, Stratum
from evals.signals.window import CHUNK_S, MIN_SEEN, WINDOW_S

BINS, STEPS = 10, 290
"""Bins of uncached tokens (below 32, then powers of two up to 8,192), and steps of the grid: up to 23 minutes."""

TTFT_MS, TPOT_MS, E2E_MS = 1500.0, 60.0, 60_000.0
TIMED = ("first_token", "between_tokens")
ASKED = {
    "empty": (1.0, 0.002),
    "cut": (1.0, 0.08),
    "refused": (1.0, 0.01),
    "rejected": (1.0, 0.01),
    "invalid_json": (0.2, 0.03),
    "invalid_tool_call": (0.1, 0.02),
}
"""The part of the answers that is asked about each, and of those the part that is bad."""

TEST = LatencyTest((0.5, 0.9, 0.99), 0.05, 0.15)
PLAN = CanaryPlan(
    latency_tolerance=None,
    streams=dict.fromkeys(TIMED, TEST),
    rates={"goodput": RateTest(0.25, 0.05), **{what: RateTest(0.25) for what in ASKED}},
)
"""All that may be judged of a language model without labels."""


@dataclass(frozen=True)
class StreamWorld:
    """What happens; a canary that equals stable, with as warm a cache, is the default."""

    name: str
    canary_hits: float = 0.9
    slower_between: float = 1.0
    missed: float = 0.0
    """So many more of the canary's answers miss the objective."""
    stable_hits: float = 0.9
    errors: float = 0.005
    requests_per_s: float = 20.0
    lasts_s: float = 1800.0
    shares: tuple[float, ...] = (0.05, 0.1, 0.25, 0.5)

    @property
    def is_equal(self) -> bool:
        """Whether the canary answers as stable does, wherever it finds its prompts."""
        return self.slower_between == 1.0 and self.missed == 0.0


STREAM_WORLDS = (
    StreamWorld("A/A"),
    StreamWorld("A/A, 40 % of the canary's prompts in its cache, 90 % of stable's", canary_hits=0.4),
    StreamWorld("time per output token +30 %", slower_between=1.3),
    StreamWorld("goodput −5 points", missed=0.05),
)


@dataclass(frozen=True)
class Seen:
    """One interval of many releases: counts by [release, arm, …], arm 1 is the canary."""

    share: float
    requests: Ints
    errors: Ints
    timed: Mapping[str, Ints]
    """[release, arm, bin, step]."""
    rates: Mapping[str, Ints]
    """[release, arm, bin, (asked, bad)]; of all but goodput there is one bin."""


def play(world: StreamWorld, releases: int, seed: int) -> Iterator[Seen]:
    """The intervals of so many releases."""
    rng, count = np.random.default_rng(seed), round(world.lasts_s / INTERVAL_S)
    load, pace = rng.normal(0, 0.1, releases), rng.normal(0, 0.5, releases)
    for number in range(count):
        load = 0.9 * load + rng.normal(0, 0.1 * math.sqrt(1 - 0.81), releases)
        pace = 0.9 * pace + rng.normal(0, 0.5 * math.sqrt(1 - 0.81), releases)
        burst = np.exp(pace) * np.where(rng.random(releases) < 0.03, 4.0, 1.0)
        requests = rng.poisson(world.requests_per_s * INTERVAL_S * burst)
        share = world.shares[number * len(world.shares) // count]
        yield _interval(rng, world, share, requests, np.exp(load) * (1 + 0.1 * np.log1p(burst)))


def _interval(rng: np.random.Generator, world: StreamWorld, share: float, requests: Ints, load: Values) -> Seen:
    """What happens to this many requests of each release."""
    releases, n = len(requests), int(requests.sum())
    release = np.repeat(np.arange(releases), requests)
    arm = (rng.random(n) < share).astype(np.int64)
    place = 2 * release + arm
    failed = rng.random(n) < world.errors
    prompt = np.clip(300 * rng.lognormal(sigma=1.2, size=n), 16, 16_000)
    hit = rng.random(n) < np.where(arm == 1, world.canary_hits, world.stable_hits)
    uncached = np.where(hit, rng.integers(1, 64, n), prompt)
    bins = np.clip(np.log2(np.maximum(uncached, 16)).astype(np.int64) - 4, 0, BINS - 1)
    late = np.where(rng.random(n) < 0.02, 1 + rng.pareto(1.5, n), 1.0)
    ms = {"first_token": (30 + 0.4 * uncached) * load[release] * rng.lognormal(sigma=0.35, size=n) * late}
    between = 25 * np.sqrt(load[release]) * rng.lognormal(sigma=0.25, size=n) * np.where(late > 3, 2.0, 1.0)
    ms["between_tokens"] = between * np.where(arm == 1, world.slower_between, 1.0)
    whole = ms["first_token"] + 150 * rng.lognormal(sigma=0.8, size=n) * ms["between_tokens"]
    missed = (ms["first_token"] > TTFT_MS) | (ms["between_tokens"] > TPOT_MS) | (whole > E2E_MS)
    missed |= (arm == 1) & (rng.random(n) < world.missed)
    well = ~failed
    rates = {"goodput": _asked(releases, BINS, (place * BINS + bins)[well], missed[well])}
    for what, (part, bad) in ASKED.items():
        among = well & (rng.random(n) < part)
        rates[what] = _asked(releases, 1, place[among], rng.random(int(among.sum())) < bad)
    timed = {name: _steps(releases, (place * BINS + bins)[well], times[well]) for name, times in ms.items()}
    counts = [np.bincount(at, minlength=2 * releases).reshape(releases, 2) for at in (place, place[failed])]
    return Seen(share, counts[0], counts[1], timed, rates)


def _asked(releases: int, bins: int, at: Ints, bad: npt.NDArray[np.bool_]) -> Ints:
    both = [np.bincount(one, minlength=2 * releases * bins) for one in (at, at[bad])]
    return np.stack(both, axis=-1).reshape(releases, 2, bins, 2)


def _steps(releases: int, at: Ints, ms: Values) -> Ints:
    step = np.clip(np.ceil(np.log(ms) / math.log(GRID_RATIO) - 1e-9).astype(np.int64), 0, STEPS - 1)
    found = np.bincount(at * STEPS + step, minlength=2 * releases * BINS * STEPS)
    return found.reshape(releases, 2, BINS, STEPS)


@dataclass
class _Parts:
    """Processes of many releases, row by row, and what waits in each bin, [bins, rows, columns]."""

    bets: Bets
    bank: Bank
    waiting: Ints

    @classmethod
    def of(cls, bets: Bets, rows: int, bins: int) -> _Parts:
        return cls(bets, Bank.of(bets, rows), np.zeros((bins, rows, bets.columns), dtype=np.int64))

    def absorb(self, counts: Ints, temper: Values | float = 1.0) -> None:
        """Counts as [releases, bins, quantiles, columns]."""
        releases, bins, each, columns = counts.shape
        parts = counts.transpose(1, 0, 2, 3).reshape(bins, releases * each, columns)
        self.bank, self.waiting = absorb_parts(self.bets, self.bank, self.waiting, parts, temper)


@dataclass
class _Timed:
    """What is timed in the streams of many releases, and stable's last minutes."""

    releases: int
    chunks: list[tuple[float, Ints]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Nothing was seen."""
        quantiles = len(TEST.quantiles)
        self.body = _Parts.of(EXCEEDANCE, self.releases * (quantiles - 1), BINS)
        self.tail = _Parts.of(TAIL, self.releases, BINS)
        self.harmless = _Parts.of(HARMLESS, self.releases * quantiles, BINS)

    def absorb(self, seen: Ints, began_s: float) -> None:
        """Judged at the old thresholds first, then part of the window."""
        if self.chunks:
            self._judge(seen)
        self._remember(seen[:, 0], began_s)

    def _judge(self, seen: Ints) -> None:
        past = sum(hist for _, hist in self.chunks)
        total = past.sum(axis=-1)
        known = (total >= MIN_SEEN)[..., None]
        below = np.cumsum(past, axis=-1)
        quantiles = (*TEST.quantiles, 1 - (1 - TEST.quantiles[-1]) / 10)
        steps = np.stack([(below < (q * total)[..., None]).sum(axis=-1) for q in quantiles], axis=-1)
        slower, less = TEST.shift(TEST.tolerance), TEST.shift(TEST.margin or 0.0)
        at_most = np.cumsum(seen, axis=-1)
        stable, canary, canary_less = (
            _over(at_most[:, arm], steps + shift) * known for arm, shift in ((0, 0), (1, slower), (1, less))
        )
        n_s, n_c = (seen[:, arm].sum(axis=-1)[..., None] * known for arm in (0, 1))
        n_s, n_c = np.broadcast_to(n_s, steps.shape), np.broadcast_to(n_c, steps.shape)
        body = np.stack([n_c, canary, n_s, stable], axis=-1)[:, :, :-2]
        self.body.absorb(body, np.tile(tempers(TEST.quantiles[:-1]), self.releases))
        arms = [n_c[..., 0], canary[..., -2], canary[..., -1], n_s[..., 0], stable[..., -2], stable[..., -1]]
        self.tail.absorb(np.stack(arms, axis=-1)[:, :, None])
        self.harmless.absorb(np.stack([n_c, canary_less, n_s, stable], axis=-1)[:, :, :-1])

    def _remember(self, stable: Ints, began_s: float) -> None:
        self.chunks = [chunk for chunk in self.chunks if began_s - chunk[0] <= WINDOW_S]
        if self.chunks and began_s - self.chunks[-1][0] < CHUNK_S:
            self.chunks[-1] = (self.chunks[-1][0], self.chunks[-1][1] + stable)
        else:
            self.chunks.append((began_s, stable.copy()))

    @property
    def log_e(self) -> Values:
        """Of harm, of each release."""
        body = self.body.bank.log_e.reshape(self.releases, -1)
        each = np.concatenate([body, self.tail.bank.log_e[:, None]], axis=1)
        return log_sum(each + np.log(quantile_weights(each.shape[1])))


def _over(at_most: Ints, steps: Ints) -> Ints:
    """How many took longer than each step: [releases, bins, quantiles]."""
    n = at_most[..., -1:]
    return n - np.take_along_axis(at_most, np.minimum(steps, STEPS - 1), axis=-1)


class ManyStreams:
    """What is known of many releases."""

    def __init__(self, releases: int) -> None:
        self.errors = Bank.of(ERRORS, releases)
        self.timed = {name: _Timed(releases) for name in TIMED}
        bins = {what: BINS if what == "goodput" else 1 for what in PLAN.rates}
        self.rates = {what: _Parts.of(test.odds, releases, bins[what]) for what, test in PLAN.rates.items()}
        self.goodput = _Parts.of(NonInferiority((PLAN.rates["goodput"].margin or 0.0,)), releases, BINS)
        self._share, self._looks = 0.0, 0

    def absorb(self, seen: Seen) -> None:
        """One more interval; a change of share ends what waits."""
        if seen.share != self._share:
            self._cut()
        self._share, began_s = seen.share, INTERVAL_S * self._looks
        self._looks += 1
        arms = [seen.requests[:, 1], seen.errors[:, 1], seen.requests[:, 0], seen.errors[:, 0]]
        self.errors = absorb(ERRORS, self.errors, np.stack(arms, axis=1))
        for name, timed in self.timed.items():
            timed.absorb(seen.timed[name], began_s)
        for what, rate in self.rates.items():
            counts = np.concatenate([seen.rates[what][:, 1], seen.rates[what][:, 0]], axis=-1)[:, :, None]
            rate.absorb(counts)
            if what == "goodput":
                self.goodput.absorb(counts)

    def _cut(self) -> None:
        self.errors = self.errors.cut()
        of_timed = (part for timed in self.timed.values() for part in (timed.body, timed.tail, timed.harmless))
        for part in (*of_timed, *self.rates.values(), self.goodput):
            part.waiting = np.zeros_like(part.waiting)

    def harm(self) -> Values:
        """Log of the weighted mean of all evidence of harm, of each release."""
        logs = {"errors": self.errors.log_e, **{name: timed.log_e for name, timed in self.timed.items()}}
        logs |= {what: rate.bank.log_e for what, rate in self.rates.items()}
        shares = PLAN.shares
        return log_sum(np.stack([logs[name] + math.log(share) for name, share in shares.items()], axis=1))


def first_alarms(world: StreamWorld, releases: int, seed: int) -> tuple[Values, Values]:
    """Canary requests, and seconds, until each release goes home; NaN where it never does."""
    known, requests = ManyStreams(releases), np.zeros(releases)
    found, seconds = np.full(releases, np.nan), np.full(releases, np.nan)
    for number, seen in enumerate(play(world, releases, seed), start=1):
        known.absorb(seen)
        requests += seen.requests[:, 1]
        fresh = np.isnan(found) & (known.harm() >= -math.log(PLAN.alpha))
        found[fresh], seconds[fresh] = requests[fresh], number * INTERVAL_S
        if not np.isnan(found).any():
            break
    return found, seconds


def planned(world: StreamWorld) -> float | None:
    """The canary requests in which `plan` says half of the releases catch such a harm; None for none.

    Of the gate that is guilty, the quantile that needs fewest; at what was seen at stable in ten minutes.
    """
    before = StreamWorld("before", requests_per_s=world.requests_per_s, lasts_s=600.0, shares=(0.0,))
    usual = usual_of([_told(number, seen) for number, seen in enumerate(play(before, 1, seed=0))])
    lasts_s = [world.lasts_s / len(world.shares)] * (len(world.shares) - 1)
    timetable = Timetable(
        tuple(zip(world.shares, [*lasts_s, math.inf], strict=True)), world.requests_per_s, INTERVAL_S, 72_000.0
    )
    gate = "between tokens" if world.slower_between != 1.0 else "goodput"
    found = [need.catch for need in needs(PLAN, usual or Usual(), timetable) if need.gate.startswith(gate)]
    return min(
        (
            requests
            for requests in (reached.as_dict(0.0, is_timed=False)["canary_requests"] for reached in found)
            if requests
        ),
        default=None,
    )


def timed(hist: Ints) -> ArmCounts:
    """Counts of a histogram by grid step, as a gateway tells them."""
    left = int(hist.sum()) - np.cumsum(hist)
    return ArmCounts(int(hist.sum()), over={int(step): int(left[step]) for step in np.flatnonzero(hist)})


def _told(number: int, seen: Seen) -> Stratum:
    """What stable of the only release did, as its gateway tells it."""
    timings = {}
    for name, hist in seen.timed.items():
        timings[name] = timed(hist[0, 0].sum(axis=0))
    rates = {what: {"": tuple(counts[0, 0].sum(axis=0).tolist())} for what, counts in seen.rates.items()}
    stable = ArmCounts(int(seen.requests[0, 0]), int(seen.errors[0, 0]), timings=timings, rates=rates)
    return Stratum(number, "before", INTERVAL_S * number, INTERVAL_S * (number + 1), 0.0, stable, ArmCounts())
