"""What does one more stratum add to what is known of a canary?

`absorb` takes one after the other. How much evidence there is of what is said by `evals/canary/standing.py`,
and what that proves by `evals/canary/judgement.py`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from evals.canary.guards import absorb_guards
from evals.canary.plan import STREAM_TIMINGS, CanaryPlan
from evals.canary.standing import ended_period, harmless_logs
from evals.canary.state import ERRORS, CanaryState
from evals.maths.e_processes import Bank, Ints
from evals.maths.e_processes import absorb as absorb_counts
from evals.signals.binned import RateState, absorb_in_bins
from evals.signals.counting import MOST_SLICES
from evals.signals.drift import Drift
from evals.signals.latency import LatencyState
from evals.signals.means import MeanState
from evals.signals.scores import MeanScore
from evals.signals.strata import ArmCounts, Stratum

WORSE_SCORES = MeanScore()
EQUAL_PCT = 50.0


def absorb(plan: CanaryPlan, state: CanaryState, stratum: Stratum) -> CanaryState:
    """The state after one more stratum. ValueError where it was seen before: evidence counts once.

    Small strata are merged, which is exact while requests are routed at one share: then which arm a request met says
    nothing about when it came. So merging ends at a change of share. Where users are counted, a period ends with it:
    each user counts once in each.
    """
    _refuse_repeated(state, stratum)
    if (stratum.boot, stratum.canary_pct) != (state.boot, state.canary_pct):
        has_period = plan.unit == "user" and state.interval >= 0
        state = ended_period(plan, state) if has_period else state.cut()
    after = _judged(plan, state, stratum if plan.unit == "request" else stratum.of_users)
    before, now = harmless_logs(plan, state), harmless_logs(plan, after)
    gained = {name: log_e - before[name] for name, log_e in now.items()}
    return replace(
        after,
        pace=state.pace.after(stratum.canary.routed, stratum.routed_to_s - stratum.routed_from_s, gained),
        canary=state.canary.plus(stratum.canary),
        stable=state.stable.plus(stratum.stable),
        boot=stratum.boot,
        interval=stratum.interval,
        routed_to_s=stratum.routed_to_s,
        canary_pct=stratum.canary_pct,
    )


def _judged(plan: CanaryPlan, state: CanaryState, stratum: Stratum) -> CanaryState:
    """All processes after one more stratum."""
    test = plan.latency
    steps = test.steps(state.latency.window) if test else ()
    slices = _slices(plan, state, stratum)
    return replace(
        _absorb_scores(plan, state, stratum),
        errors=_absorb_errors(state.errors, stratum, slices),
        harmless=absorb_counts(plan.harmless, state.harmless, _repeated(_failures(stratum), state.harmless.rows)),
        timeouts=absorb_counts(ERRORS, state.timeouts, np.array([_timeouts(stratum)])),
        latency=test.absorb(state.latency, stratum, slices) if test else state.latency,
        streams={name: _of_streams(plan, state, stratum, name) for name in plan.streams},
        rates={n: test.absorb(state.rates.get(n, RateState()), stratum, n) for n, test in plan.rates.items()},
        cost=plan.cost.absorb(state.cost or MeanState(), stratum) if plan.cost else None,
        drift=Drift(plan.drift_ratio).absorb(state.drift, stratum) if plan.drift_ratio else state.drift,
        guards=absorb_guards(state.guards, stratum, steps, test.shift(test.tolerance) if test else 0),
        slices=slices,
    )


def _of_streams(plan: CanaryPlan, state: CanaryState, stratum: Stratum, name: str) -> LatencyState:
    """Something timed in streams; that a canary with more users than stable is slower is no harm of its version.

    It has as many servers, and an engine that answers more at one time writes each answer more slowly. That it is no
    slower even so counts.
    """
    known = state.streams.get(name, LatencyState())
    after = absorb_in_bins(plan.streams[name], known, stratum.of_streams(name))
    return after.with_harm_of(known) if name in STREAM_TIMINGS and stratum.canary_pct > EQUAL_PCT else after


def _refuse_repeated(state: CanaryState, stratum: Stratum) -> None:
    if stratum.boot != state.boot:
        return
    if stratum.interval <= state.interval:
        raise ValueError(f"interval {stratum.interval} was judged before")
    if stratum.routed_from_s < state.routed_to_s - 1e-6:
        raise ValueError(f"interval {stratum.interval} begins before the last one ended")


def _slices(plan: CanaryPlan, state: CanaryState, stratum: Stratum) -> tuple[str, ...]:
    """Which values get a place depends on both arms together, never on one."""
    if not plan.has_slices:
        return ()
    fresh = sorted({*stratum.canary.by_slice, *stratum.stable.by_slice} - {*state.slices})
    return (*state.slices, *fresh)[:MOST_SLICES]


def _absorb_errors(bank: Bank, stratum: Stratum, slices: tuple[str, ...]) -> Bank:
    nobody = ArmCounts()
    arms = [(stratum.canary.by_slice.get(s, nobody), stratum.stable.by_slice.get(s, nobody)) for s in slices]
    counts = [_failures(stratum), *((c.judged, c.errors, s.judged, s.errors) for c, s in arms)]
    return absorb_counts(ERRORS, bank.grown(ERRORS, len(counts)), np.array(counts))


def _failures(stratum: Stratum) -> tuple[int, int, int, int]:
    canary, stable = stratum.canary, stratum.stable
    return canary.judged, canary.errors, stable.judged, stable.errors


def _timeouts(stratum: Stratum) -> tuple[int, int, int, int]:
    canary, stable = stratum.canary, stratum.stable
    return canary.judged, canary.timeouts, stable.judged, stable.timeouts


def _repeated(counts: tuple[int, ...], rows: int) -> Ints:
    return np.tile(np.array(counts, dtype=np.int64), (rows, 1))


def _absorb_scores(plan: CanaryPlan, state: CanaryState, stratum: Stratum) -> CanaryState:
    if plan.quality_margin is None:
        return state
    canary, stable = stratum.canary.scores, stratum.stable.scores
    harmless = MeanScore(plan.quality_margin, worse=False).absorb(state.quality_harmless, canary, stable)
    return replace(state, quality=WORSE_SCORES.absorb(state.quality, canary, stable), quality_harmless=harmless)
