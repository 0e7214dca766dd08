"""How many requests does each gate need, to promote and to catch a harm?

Answered by the judge's own processes: they are fed with typical counts at the plan's own shares until they reach their
proof, some dozens of releases side by side. Each gate is asked alone; a harm that shows in several is caught sooner.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from evals.canary.judgement import IN_SLICES
from evals.canary.plan import CanaryPlan
from evals.canary.state import ERRORS
from evals.maths.e_processes import Bank, Bets, Ints, NonInferiority, Values, absorb
from evals.planning.usual import Usual
from evals.signals.counting import COST, GRID, MOST_SLICES
from evals.signals.graded import TAIL
from evals.signals.latency import EXCEEDANCE, HARMLESS, LatencyTest, quantile_weights
from evals.signals.means import MeanState, MeanTest
from evals.signals.scores import MeanScore, ScoreState
from evals.signals.strata import GRID_RATIO, ArmCounts, Stratum

RELEASES, SCORED_RELEASES = 40, 12
"""How many are played side by side."""

GROWTH = 0.05
"""Strata are at most this part of the time that has passed: the last one is how far a figure may be off."""

MOST_ROUTED, MOST_CANARY = 200_000, 2_000_000
"""Requests of one stratum, and canary requests after which a proof is not waited for."""

USUAL_HARM, SLICE_HARM, SLICE_PART = 0.15, 10, 0.05
"""Slower by this much is a harm where no margin says so; in a slice with this part of the traffic, so many times the
margin of errors."""

USUAL_RATE, RATE_HARM = 0.01, 0.05
USUAL_RATES = {"goodput": 0.05, "cut": 0.1}
"""Rates of bad answers that are taken for usual, by what they are asked about, where too few were seen."""

COST_SPREAD, USUAL_COST_STEP = 0.8, 250
"""The deviation of the logarithm of what an answer costs; around which step of the grid does not matter."""

S = TypeVar("S")
Draw = Callable[[np.random.Generator, Ints, Ints], Ints]


@dataclass(frozen=True)
class Timetable:
    """How much traffic the canary gets: (share, seconds) one after the other, the last share for ever."""

    stages: tuple[tuple[float, float], ...]
    requests_per_s: float
    look_s: float
    until_s: float
    """Nothing is played beyond this."""

    def strata(self) -> Iterator[tuple[float, float, float]]:
        """Share, end and length of one stratum after the other, in seconds."""
        at_s, ends_s = 0.0, 0.0
        for number, (share, lasts_s) in enumerate(self.stages):
            ends_s = self.until_s if number == len(self.stages) - 1 else min(self.until_s, ends_s + lasts_s)
            while at_s < ends_s - 1e-9:
                length_s = min(max(self.look_s, GROWTH * at_s), MOST_ROUTED / self.requests_per_s, ends_s - at_s)
                at_s += length_s
                yield share, at_s, length_s


@dataclass(frozen=True)
class Reached:
    """Canary requests and seconds until the proof, of each release; infinite where it did not come."""

    requests: Values
    seconds: Values

    def as_dict(self, deadline_s: float, *, is_timed: bool) -> dict[str, float | None]:
        """Median and 90th percentile; null where that many did not come to it, or no rate is known."""
        requests = [_quantile(self.requests, q) for q in (0.5, 0.9)]
        minutes = [_quantile(self.seconds / 60, q) if is_timed else None for q in (0.5, 0.9)]
        return {
            "canary_requests": requests[0],
            "canary_requests_p90": requests[1],
            "minutes": minutes[0],
            "minutes_p90": minutes[1],
            "by_deadline": self.share_by(deadline_s) if is_timed else None,
        }

    def share_by(self, deadline_s: float) -> float:
        """The part of the releases that have their proof by then."""
        return round(float(np.mean(self.seconds <= deadline_s)), 3)


def _quantile(values: Values, q: float) -> float | None:
    found = float(np.quantile(values, q, method="higher"))
    return round(found, 1) if math.isfinite(found) else None


@dataclass(frozen=True)
class Need:
    """What one gate needs. `promote` is None where the gate does not stand in the way of a promotion."""

    gate: str
    harm: str
    promote: Reached | None
    catch: Reached


def needs(plan: CanaryPlan, usual: Usual, timetable: Timetable, attributes: Sequence[str] = ()) -> tuple[Need, ...]:
    """What every gate of the plan needs."""
    found = [_errors(plan, usual, timetable)]
    if plan.latency is not None:
        found += _timed(plan, "latency", plan.latency, usual, timetable)
    for name, test in plan.streams.items():
        found += _timed(plan, name, test, usual.of_streams(name), timetable)
    found += [_rate(plan, name, usual, timetable) for name in plan.rates]
    if "quality" in plan.shares:
        found.append(_quality(plan, usual, timetable))
    if plan.cost is not None:
        found.append(_cost(plan, plan.cost, timetable))
    return (*found, *(_slice(plan, usual, timetable, name) for name in attributes))


def _errors(plan: CanaryPlan, usual: Usual, timetable: Timetable) -> Need:
    margin, p = plan.error_margin, usual.error_rate
    whole = (1 - IN_SLICES) if plan.has_slices else 1.0
    harmless = NonInferiority((margin,))
    promote = play(harmless, _coins(p, p), timetable, -math.log(plan.alpha_promote))
    caught_at = _proof(plan, "errors", whole)
    catch = play(ERRORS, _coins(min(1.0, p + margin), p), timetable, caught_at)
    return Need("errors", f"{100 * margin:g} pp more failed requests", promote, catch)


def _timed(plan: CanaryPlan, name: str, test: LatencyTest, usual: Usual, timetable: Timetable) -> Iterator[Need]:
    """Each quantile alone, at thresholds that are higher by the margin or the tolerance."""
    harm = test.margin or max(USUAL_HARM, 3 * test.tolerance)
    slower, allowed = round(math.log1p(harm) / math.log(GRID_RATIO)), LatencyTest.shift(test.tolerance)
    whole = (1 - IN_SLICES) if plan.has_slices and name == "latency" else 1.0
    for quantile, weight in zip(test.quantiles, quantile_weights(len(test.quantiles)), strict=True):
        step = usual.quantile_step(quantile)
        caught_at = _proof(plan, name, whole * weight)
        over = step + allowed - slower
        if quantile == test.quantiles[-1]:
            beyond = usual.quantile_step(1 - (1 - quantile) / 10)
            catch = play(TAIL, _graded(usual, (over, over + beyond - step), (step, beyond)), timetable, caught_at)
        else:
            catch = play(EXCEEDANCE, _coins(usual.slower_than(over), usual.slower_than(step)), timetable, caught_at)
        promote = None
        if test.margin is not None:
            coins = _coins(usual.slower_than(step + LatencyTest.shift(test.margin)), usual.slower_than(step))
            promote = play(HARMLESS, coins, timetable, -math.log(plan.alpha_promote))
        said = name.replace("_", " ")
        yield Need(f"{said} p{100 * quantile:g}", f"{said} higher by {harm:.0%}", promote, catch)


def _rate(plan: CanaryPlan, name: str, usual: Usual, timetable: Timetable) -> Need:
    """A rate of bad answers; where too few were seen a guess stands for how many are usual."""
    test, p = plan.rates[name], usual.rates.get(name, USUAL_RATES.get(name, USUAL_RATE))
    harm = test.margin or RATE_HARM
    catch = play(test.odds, _coins(min(1.0, p + harm), p), timetable, _proof(plan, name))
    promote = None
    if test.margin is not None:
        promote = play(NonInferiority((test.margin,)), _coins(p, p), timetable, -math.log(plan.alpha_promote))
    return Need(name.replace("_", " "), f"{100 * harm:g} pp more of them than {p:.1%}", promote, catch)


def _proof(plan: CanaryPlan, metric: str, part: float = 1.0) -> float:
    """At which evidence this part of a metric sends home by itself; infinite where it has no share of α."""
    share = plan.shares.get(metric, 0.0) * part
    return -math.log(plan.alpha * share) if share else math.inf


def _quality(plan: CanaryPlan, usual: Usual, timetable: Timetable) -> Need:
    margin = plan.quality_margin or 0.0
    harmless, worse = MeanScore(margin, worse=False), MeanScore()
    promote = _play_scores(harmless, usual, 0.0, timetable, -math.log(plan.alpha_promote))
    catch = _play_scores(worse, usual, margin, timetable, _proof(plan, "quality"))
    return Need("quality", f"scores lower by {margin:g}", promote, catch)


def _cost(plan: CanaryPlan, test: MeanTest, timetable: Timetable) -> Need:
    """Costs as uneven as those of chats; a canary that is dearer is so at every answer alike."""
    harm = test.margin or max(USUAL_HARM, 3 * test.tolerance)
    catch = _play_costs(test, harm, timetable, lambda state: state.harm.log_e >= _proof(plan, "cost"))
    promote = None
    if test.margin is not None:
        proof = -math.log(plan.alpha_promote)
        promote = _play_costs(test, 0.0, timetable, lambda state: state.harmless.log_e >= proof)
    return Need("cost", f"answers dearer by {harm:.0%}", promote, catch)


def _slice(plan: CanaryPlan, usual: Usual, timetable: Timetable, attribute: str) -> Need:
    """One value of an attribute, of those that are judged at once."""
    part = Timetable(timetable.stages, timetable.requests_per_s * SLICE_PART, timetable.look_s, timetable.until_s)
    harm, p = min(0.5, SLICE_HARM * plan.error_margin), usual.error_rate
    caught_at = _proof(plan, "errors", IN_SLICES / MOST_SLICES)
    catch = play(ERRORS, _coins(min(1.0, p + harm), p), part, caught_at)
    return Need(
        f"errors in one {attribute}",
        f"{100 * harm:g} pp more failed requests in {SLICE_PART:.0%} of the traffic",
        None,
        catch,
    )


def play(bets: Bets, draw: Draw, timetable: Timetable, log_proof: float) -> Reached:
    """When does a process reach its proof?"""
    rng, bank, share_now = np.random.default_rng(1), Bank.of(bets, RELEASES), 0.0
    reached = Reached(np.full(RELEASES, np.inf), np.full(RELEASES, np.inf))
    requests = np.zeros(RELEASES)
    for share, at_s, length_s in timetable.strata() if math.isfinite(log_proof) else ():
        bank = bank if share == share_now else bank.cut()
        share_now, routed = share, timetable.requests_per_s * length_s
        canary, stable = rng.poisson(share * routed, RELEASES), rng.poisson((1 - share) * routed, RELEASES)
        bank = absorb(bets, bank, draw(rng, canary, stable))
        requests += canary
        _note(reached, bank.log_e >= log_proof, requests, at_s)
        if np.isfinite(reached.seconds).all() or requests.min() > MOST_CANARY:
            break
    return reached


def _note(reached: Reached, proven: npt.NDArray[np.bool_], requests: Values, at_s: float) -> None:
    fresh = proven & np.isinf(reached.seconds)
    reached.seconds[fresh], reached.requests[fresh] = at_s, requests[fresh]


def _coins(p_canary: float, p_stable: float) -> Draw:
    """Counts of two arms whose requests are bad at these rates."""

    def draw(rng: np.random.Generator, canary: Ints, stable: Ints) -> Ints:
        return np.stack([canary, rng.binomial(canary, p_canary), stable, rng.binomial(stable, p_stable)], axis=1)

    return draw


def _graded(usual: Usual, of_canary: tuple[float, float], of_stable: tuple[float, float]) -> Draw:
    """Counts past two thresholds, where both arms' latencies are the usual ones."""
    rates = [[usual.slower_than(step) for step in steps] for steps in (of_canary, of_stable)]

    def draw(rng: np.random.Generator, canary: Ints, stable: Ints) -> Ints:
        columns = []
        for n, (first, second) in zip((canary, stable), rates, strict=True):
            slow = rng.binomial(n, first)
            columns += [n, slow, rng.binomial(slow, second / first if first else 0.0)]
        return np.stack(columns, axis=1)

    return draw


def _play_scores(test: MeanScore, usual: Usual, lost: float, timetable: Timetable, log_proof: float) -> Reached:
    """The same for scores; the canary's mean is lower by `lost`, since that part of its scores is 0."""
    rng = np.random.default_rng(1)
    steps = sorted(usual.scores)
    chances = np.array([usual.scores[step] for step in steps]) / sum(usual.scores.values())
    spoilt = min(1.0, lost / max(1e-9, float(chances @ np.array(steps)) / GRID))

    def after(state: ScoreState, part: _Part, n: int) -> ScoreState:
        arms = (rng.binomial(n, usual.labelled), rng.poisson(part.at_stable * usual.labelled))
        at_canary, at_stable = (_scores(rng, steps, chances, count) for count in arms)
        return test.absorb(state, _spoilt(rng, at_canary, spoilt), at_stable)

    return _play_states(rng, ScoreState(), after, timetable, lambda state: state.log_e >= log_proof)


def _play_costs(test: MeanTest, dearer: float, timetable: Timetable, is_proven: Callable[[MeanState], bool]) -> Reached:
    """The same for costs, which are lognormal; the canary's are higher by `dearer`."""
    rng = np.random.default_rng(1)
    offsets = (round(math.log1p(dearer) / math.log(GRID_RATIO)), 0)

    def after(state: MeanState, part: _Part, n: int) -> MeanState:
        counts = zip((n, rng.poisson(part.at_stable)), offsets, strict=True)
        canary, stable = (_priced(rng, count, offset) for count, offset in counts)
        pct = 100 * part.share
        return test.absorb(state, Stratum(part.number, "plan", part.from_s, part.to_s, pct, stable, canary))

    return _play_states(rng, MeanState(), after, timetable, is_proven)


class _Part(NamedTuple):
    """A stratum of the timetable, and how many requests stable gets in it on average."""

    number: int
    share: float
    from_s: float
    to_s: float
    at_stable: float


def _play_states(
    rng: np.random.Generator,
    begun: S,
    after: Callable[[S, _Part, int], S],
    timetable: Timetable,
    is_proven: Callable[[S], bool],
) -> Reached:
    """When is something proven, where each release has a state of its own that takes in the canary's requests?"""
    states, requests = [begun] * SCORED_RELEASES, np.zeros(SCORED_RELEASES)
    reached = Reached(np.full(SCORED_RELEASES, np.inf), np.full(SCORED_RELEASES, np.inf))
    for number, (share, at_s, length_s) in enumerate(timetable.strata()):
        routed = timetable.requests_per_s * length_s
        part = _Part(number, share, at_s - length_s, at_s, (1 - share) * routed)
        canary = rng.poisson(share * routed, SCORED_RELEASES)
        states = [after(state, part, int(n)) for state, n in zip(states, canary, strict=True)]
        requests += canary
        _note(reached, np.array([is_proven(state) for state in states]), requests, at_s)
        if np.isfinite(reached.seconds).all() or requests.min() > MOST_CANARY:
            break
    return reached


def _priced(rng: np.random.Generator, n: int, offset: int) -> ArmCounts:
    """Answers whose costs are so many grid steps above what is usual."""
    steps = np.rint(rng.normal(USUAL_COST_STEP, COST_SPREAD / math.log(GRID_RATIO), n)).astype(int) + offset
    found, counts = np.unique(steps, return_counts=True)
    over = dict(zip(found.tolist(), (n - np.cumsum(counts)).tolist(), strict=True))
    return ArmCounts(int(n), timings={COST: ArmCounts(int(n), over=over)})


def _scores(rng: np.random.Generator, steps: Sequence[int], chances: Values, n: int) -> dict[int, int]:
    return {step: int(k) for step, k in zip(steps, rng.multinomial(n, chances), strict=True) if k}


def _spoilt(rng: np.random.Generator, scores: Mapping[int, int], part: float) -> Mapping[int, int]:
    if not part:
        return scores
    lost = {step: int(rng.binomial(n, part)) for step, n in scores.items()}
    kept = {step: n - lost[step] for step, n in scores.items()}
    return {**kept, 0: kept.get(0, 0) + sum(lost.values())}
