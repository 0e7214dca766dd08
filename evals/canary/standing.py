"""How much evidence is there of what, all steps of the plan together?

Every process has a name: `errors`, `latency`, `errors where country=NZ`, `errors_noninferior`, `control errors`, …

Where each request counts, a process goes on over all steps. Where users stay at their arm and each counts once in a
step, the steps' outcomes depend on each other through those users: a process of its own is begun in each step, and the
evidence is the weighted mean of theirs, since a mean of e-values is one however they depend on each other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from evals.canary.plan import EXCESS, CanaryPlan
from evals.canary.state import CanaryState
from evals.maths.e_processes import log_mean, log_sum
from evals.signals.latency import quantile_weights

FIRST_PERIODS = 0.9
"""The weight that the plan's own steps share; what is left is for those that interruptions add."""

CONTROL = "control "
NONINFERIOR = "_noninferior"


def standing(plan: CanaryPlan, state: CanaryState) -> dict[str, float]:
    """Log E of everything that is judged, by name."""
    now = dict(_of_this_period(plan, state))
    live = now if plan.unit == "request" else _over_periods(plan, state, now)
    return live | _with_replay(plan, state, live) if plan.has_replay else live


def _with_replay(plan: CanaryPlan, state: CanaryState, live: Mapping[str, float]) -> dict[str, float]:
    """The means of live and replayed evidence, of all that both speak of; the latter stays as it was at its end."""
    replayed = {
        "errors": state.replay.errors_log_e,
        "latency": state.replay.latency_log_e,
        "errors" + NONINFERIOR: state.replay.harmless_log_e(plan.error_margin),
        **{excess(margin): state.replay.harmless_log_e(margin) for margin in EXCESS},
        **({"drift": state.replay.shifted_log_e(plan.drift_ratio)} if plan.drift_ratio else {}),
    }
    return {name: log_mean((live[name], log_e), (0.5, 0.5)) for name, log_e in replayed.items()}


def in_slice(metric: str, name: str) -> str:
    """The name of a metric's process in one slice."""
    return f"{metric} where {name}"


def excess(margin: float) -> str:
    """The name of the process that disproves so many more errors."""
    return f"excess {margin:g}"


def harmless_logs(plan: CanaryPlan, state: CanaryState) -> dict[str, float]:
    """Log E of harmlessness in this step, of each metric that a promotion needs."""
    logs = {"errors": float(state.harmless.log_e[0])}
    timed = {"latency": (plan.latency, state.latency)}
    timed |= {name: (test, state.streams[name]) for name, test in plan.streams.items() if name in state.streams}
    for name, (test, found) in timed.items():
        if test is not None and test.margin is not None:
            logs[name] = found.harmless_log_e
    missing = {name: 0.0 for name, test in plan.streams.items() if test.margin is not None}
    missing |= {name: 0.0 for name, test in plan.rates.items() if test.margin is not None}
    logs |= {name: state.rates[name].harmless_log_e for name in missing if name in state.rates}
    if plan.quality_margin is not None:
        logs["quality"] = state.quality_harmless.log_e
    if plan.cost is not None and plan.cost.margin is not None:
        logs["cost"] = state.cost.harmless.log_e if state.cost else 0.0
    return missing | logs


def ended_period(plan: CanaryPlan, state: CanaryState) -> CanaryState:
    """The state after the last stratum of a step, where users are counted once in each."""
    now = dict(_of_this_period(plan, state))
    spent, mine = _log_spent(plan, state.period), _log_weight(plan, state.period)
    names = {*now, *state.earlier}
    earlier = {n: float(np.logaddexp(state.earlier.get(n, spent), mine + now.get(n, 0.0))) for n in sorted(names)}
    return replace(state.afresh(), earlier=earlier, period=state.period + 1)


def _of_this_period(plan: CanaryPlan, state: CanaryState) -> Iterator[tuple[str, float]]:
    yield "errors", float(state.errors.log_e[0])
    yield "latency", state.latency.log_e
    yield "quality", state.quality.log_e
    yield "timeouts", float(state.timeouts.log_e[0])
    yield "drift", state.drift.log_e
    for name in plan.streams:
        yield name, state.streams[name].log_e if name in state.streams else 0.0
    for name in plan.rates:
        yield name, state.rates[name].log_e if name in state.rates else 0.0
    if plan.cost is not None:
        yield "cost", state.cost.harm.log_e if state.cost else 0.0
    for name, log_e in zip(state.slices, state.errors.log_e[1:].tolist(), strict=True):
        yield in_slice("errors", name), log_e
    for name, log_e in zip(state.slices, _latency_in_slices(plan, state), strict=False):
        yield in_slice("latency", name), log_e
    for name, log_e in harmless_logs(plan, state).items():
        yield name + NONINFERIOR, log_e
    for margin, log_e in zip(EXCESS, state.harmless.log_e[1:].tolist(), strict=True):
        yield excess(margin), log_e
    for name, log_e in state.guards.logs.items():
        yield CONTROL + name, log_e


def _latency_in_slices(plan: CanaryPlan, state: CanaryState) -> list[float]:
    """Log E of each slice: the weighted mean of its quantiles."""
    weights = quantile_weights(len(plan.latency_quantiles))
    return [log_mean(logs, weights) for logs in state.latency.slices.log_e.reshape(-1, len(weights))]


def _over_periods(plan: CanaryPlan, state: CanaryState, now: Mapping[str, float]) -> dict[str, float]:
    """The weighted mean over earlier steps, this one, and those to come, which have shown nothing yet."""
    spent, mine = _log_spent(plan, state.period), _log_weight(plan, state.period)
    to_come = _log_spent(plan, state.period + 1)
    rest = math.log(max(1e-300, -math.expm1(to_come)))
    names = {*now, *state.earlier}
    return {
        name: float(log_sum(np.array([state.earlier.get(name, spent), mine + now.get(name, 0.0), rest])))
        for name in sorted(names)
    }


def _log_weight(plan: CanaryPlan, period: int) -> float:
    """The log weight of one step: even over those of the plan; later ones have less and less."""
    if period < plan.periods:
        return math.log(FIRST_PERIODS / plan.periods)
    more = period - plan.periods + 1
    return math.log((1 - FIRST_PERIODS) / (more * (more + 1)))


def _log_spent(plan: CanaryPlan, periods: int) -> float:
    """The log of the weight of so many first steps together."""
    weights = [_log_weight(plan, period) for period in range(periods)]
    return float(log_sum(np.array(weights))) if weights else -1e300
