"""Is the canary harmful, or proven harmless?

Harm: the weighted mean of the e-values of errors, latency and quality reaches 1/α; then it goes home, wrongly with
probability at most α over the whole release. Harmless: the non-inferiority process of *every* metric that has a margin
reaches 1/α_promote; a release that is worse by a margin is promoted with probability at most α_promote. Neither is said
where the comparison itself is void.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from evals.canary import EXCESS, MOST_SLICES, CanaryPlan, CanaryState
from evals.latency import quantile_weights
from evals.processes import log_mean

IN_SLICES = 0.5
"""The part of a metric's share of α that the slices have, where attributes are declared."""

UNEVEN = 1.5
"""A canary with this many times more load on each of its servers is slower for a reason that is not its own."""


@dataclass(frozen=True)
class CanaryVerdict:
    """What is proven so far. `progress` is log E over log 1/α for each process: 1 is proof."""

    roll_back: bool
    promote: bool
    guilty: tuple[str, ...]
    sentence: str
    progress: Mapping[str, float]
    canary_requests: int
    canary_errors: int
    stable_requests: int
    stable_errors: int
    suspects: tuple[str, ...] = ()
    """What speaks most against the canary, where only all of it together is a proof."""
    void: str = ""
    """Why nothing can be concluded, or ""."""
    shifted: str = ""
    """How its predictions differ from stable's, where that is proven, or ""."""
    unreliable: tuple[str, ...] = ()
    """Metrics that tell stable from itself: they cannot send home alone."""
    confounded: bool = False
    """Whether load may explain what is said of latency."""
    excess_bound: float = 1.0
    """So many more errors than stable's, as a fraction of requests, the canary has at most (at 1 - α_promote)."""
    mean_ms: Mapping[str, float | None] | None = None
    """Mean latency of both arms: reported, never judged."""

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data for the ledger."""
        return asdict(self)


@dataclass(frozen=True)
class _Charge:
    """Evidence of harm in one metric, or in one slice of it."""

    metric: str
    log_e: float
    weight: float
    slice: str = ""

    @property
    def weighted(self) -> float:
        return self.log_e + math.log(self.weight)

    @property
    def name(self) -> str:
        return f"{self.metric} where {self.slice}" if self.slice else self.metric


def judge_canary(plan: CanaryPlan, state: CanaryState) -> CanaryVerdict:
    """What does the evidence prove so far?"""
    charges, unreliable = _charges(plan, state), state.guards.unreliable(plan.alpha)
    threshold, harm = math.log(1 / plan.alpha), _harm(charges, unreliable, plan.alpha)
    void = _void(state) if state.guards.is_share_wrong(plan.alpha) else ""
    roll_back = harm >= threshold and not void
    guilty = tuple(c for c in charges if c.weighted >= threshold and c.metric not in unreliable)
    accused = (guilty or (max(charges, key=lambda c: c.weighted),)) if roll_back else ()
    harmless, promote_at = _harmless(plan, state), math.log(1 / plan.alpha_promote)
    is_harmless = min(harmless.values()) >= promote_at and not _labels_mislead(plan, unreliable)
    confounded = _is_load_uneven(plan, state) and any(c.metric == "latency" for c in accused)
    said = void or _sentence(plan, state, harm, accused) + (", or its load" if confounded else "")
    said += f"; {state.replay.sentence}" if plan.has_replay else ""
    return CanaryVerdict(
        roll_back=roll_back,
        promote=is_harmless and not roll_back and not void,
        guilty=tuple(c.name for c in guilty),
        sentence=said + _doubts(unreliable),
        progress=_progress(plan, state, charges, harmless),
        canary_requests=state.canary.requests,
        canary_errors=state.canary.errors,
        stable_requests=state.stable.requests,
        stable_errors=state.stable.errors,
        suspects=() if guilty else tuple(c.name for c in accused),
        void=void,
        shifted=_shifted(plan, state),
        unreliable=unreliable,
        confounded=confounded,
        excess_bound=excess_bound(plan, state),
        mean_ms={"canary": state.canary.mean_ms, "stable": state.stable.mean_ms},
    )


def _charges(plan: CanaryPlan, state: CanaryState) -> list[_Charge]:
    """What can send the canary home; the weights sum to one, places of slices that nobody has seen included."""
    shares, whole = plan.shares, 1 - IN_SLICES if plan.has_slices else 1.0
    logs = {
        "errors": with_replay(plan, float(state.errors.log_e[0]), state.replay.errors_log_e),
        "latency": with_replay(plan, state.latency.log_e, state.replay.latency_log_e),
        "quality": state.quality.log_e,
        "timeouts": float(state.timeouts.log_e[0]),
    }
    in_slices = {"errors": state.errors.log_e[1:].tolist(), "latency": _latency_in_slices(plan, state)}
    found = []
    for metric, share in shares.items():
        parts = plan.has_slices and metric in in_slices
        found.append(_Charge(metric, logs[metric], share * (whole if parts else 1.0)))
        each = share * IN_SLICES / MOST_SLICES
        of_slices = dict(zip(state.slices, in_slices[metric], strict=False)) if parts else {}
        found += [_Charge(metric, log_e, each, name) for name, log_e in of_slices.items()]
        if parts and len(of_slices) < MOST_SLICES:
            found.append(_Charge(metric, 0.0, each * (MOST_SLICES - len(of_slices)), "nothing was seen"))
    return found


def with_replay(plan: CanaryPlan, live: float, replayed: float) -> float:
    """Log of the mean of live and replayed evidence, where there is both; the latter stays as it was at its end."""
    return log_mean((live, replayed), (0.5, 0.5)) if plan.has_replay else live


def _latency_in_slices(plan: CanaryPlan, state: CanaryState) -> list[float]:
    """Log E of each slice: the weighted mean of its quantiles."""
    weights = quantile_weights(len(plan.latency_quantiles))
    return [log_mean(logs, weights) for logs in state.latency.slices.log_e.reshape(-1, len(weights))]


def _harm(charges: Sequence[_Charge], unreliable: Sequence[str], alpha: float) -> float:
    """Log of the mean; an unreliable metric has at most half a proof, so that another must speak as well."""
    half = math.log(0.5 / alpha)
    logs = np.array([min(c.weighted, half) if c.metric in unreliable else c.weighted for c in charges])
    return log_mean(logs, np.ones(len(logs)))


def _void(state: CanaryState) -> str:
    canary, stable = state.guards.share.past[0].tolist()
    return (
        f"sample-ratio mismatch: {canary} of {canary + stable} requests reached the canary, which is not the share "
        "that was ordered; nothing else that was counted can be trusted"
    )


def _labels_mislead(plan: CanaryPlan, unreliable: Sequence[str]) -> bool:
    return plan.quality_margin is not None and "quality" in unreliable


def _is_load_uneven(plan: CanaryPlan, state: CanaryState) -> bool:
    if plan.replicas is None:
        return False
    stable, canary = plan.replicas
    return state.canary_pct * stable > UNEVEN * (100 - state.canary_pct) * canary


def _harmless(plan: CanaryPlan, state: CanaryState) -> dict[str, float]:
    """Log e-values of what a promotion needs, each of them."""
    replayed = state.replay.harmless_log_e(plan.error_margin)
    logs = {"errors": with_replay(plan, float(state.harmless.log_e[0]), replayed)}
    if plan.latency_tolerance is not None and plan.latency_margin is not None:
        logs["latency"] = state.latency.harmless_log_e
    if plan.quality_margin is not None:
        logs["quality"] = state.quality_harmless.log_e
    return logs


def excess_bound(plan: CanaryPlan, state: CanaryState) -> float:
    """How many more errors than stable may the canary still have, as a fraction of requests?

    Margins are asked from the largest down, and the first that is not disproven ends it: only the largest margin that
    is true could be wrongly disproven, so the bound holds at all looks together with probability 1 - α_promote.
    """
    bound = 1.0
    for margin, log_e in zip(EXCESS, state.harmless.log_e[1:].tolist(), strict=True):
        if with_replay(plan, log_e, state.replay.harmless_log_e(margin)) < math.log(1 / plan.alpha_promote):
            break
        bound = margin
    return bound


def _shifted(plan: CanaryPlan, state: CanaryState) -> str:
    if plan.drift_ratio is None:
        return ""
    replayed = state.replay.shifted_log_e(plan.drift_ratio)
    log_e = with_replay(plan, state.drift.log_e, replayed)
    if log_e < math.log(1 / plan.alpha):
        return ""
    evidence = _shown(log_e)
    if plan.has_replay and replayed > state.drift.log_e:
        other, same = state.replay.other_class, state.replay.same_class
        return f"predictions shifted: {other} of {other + same} replayed requests got another class ({evidence})"
    return (
        f"predictions shifted, most of all {state.drift.worst!r} by more than {plan.drift_ratio:g} times ({evidence})"
    )


def _progress(
    plan: CanaryPlan, state: CanaryState, charges: Sequence[_Charge], harmless: Mapping[str, float]
) -> dict[str, float]:
    threshold, promote_at = math.log(1 / plan.alpha), math.log(1 / plan.alpha_promote)
    found = {c.name: round(c.log_e / threshold, 4) for c in charges if not c.slice or c.log_e > 1}
    found |= {f"{name}_noninferior": round(log / promote_at, 4) for name, log in harmless.items()}
    if plan.drift_ratio is not None:
        log_e = with_replay(plan, state.drift.log_e, state.replay.shifted_log_e(plan.drift_ratio))
        found["drift"] = round(log_e / threshold, 4)
    return found


def _sentence(plan: CanaryPlan, state: CanaryState, harm: float, accused: Sequence[_Charge]) -> str:
    if accused:
        what = "; ".join(_said(plan, state, charge) for charge in accused)
        return f"{what}; evidence of harm {_shown(harm)} where {1 / plan.alpha:g} sends home"
    counts = _failures(state) if state.canary.requests else "no judged requests yet"
    harmless = _harmless(plan, state)
    last = min(harmless, key=lambda name: harmless[name])
    what = f" ({last})" if len(harmless) > 1 else ""
    evidence = f"evidence of harmlessness{what} {_shown(harmless[last])} of {1 / plan.alpha_promote:g}"
    return f"{counts}; {evidence}, of harm {_shown(harm)} of {1 / plan.alpha:g}"


def _said(plan: CanaryPlan, state: CanaryState, charge: _Charge) -> str:
    """The counts behind an accusation."""
    if charge.slice:
        return _said_of_slice(state, charge)
    match charge.metric:
        case "errors":
            return f"errors: {_failures(state)}"
        case "timeouts":
            late = f"canary {state.canary.timeouts} of {state.canary.requests} were not answered in time"
            return f"timeouts: {late}, stable {state.stable.timeouts} of {state.stable.requests}"
        case "quality":
            return f"quality: the canary's scores are lower; stable's mean is {state.quality.stable_mean:.3f}"
    return _said_of_latency(plan, state)


def _said_of_slice(state: CanaryState, charge: _Charge) -> str:
    if charge.metric != "errors":
        return f"{charge.name}: the canary is slower there"
    canary, canary_bad, stable, stable_bad = state.errors.past[1 + state.slices.index(charge.slice)].tolist()
    return f"{charge.name}: canary {canary_bad} of {canary} failed, stable {stable_bad} of {stable}"


def _said_of_latency(plan: CanaryPlan, state: CanaryState) -> str:
    if plan.has_replay and state.replay.latency_log_e > state.latency.log_e:
        timed = state.replay.slower + state.replay.faster
        return (
            f"latency: {state.replay.slower} of {timed} replayed requests took the canary longer, its tolerance aside"
        )
    worst = int(np.argmax(state.latency.quantiles_log_e))
    quantile, tolerance = plan.latency_quantiles[worst], plan.latency_tolerance or 0.0
    is_tail = worst == len(plan.latency_quantiles) - 1
    past = state.latency.tail.past[0] if is_tail else state.latency.body.past[worst]
    of_stable = len(past) // 2
    slower = f"canary {past[1]} of {past[0]} slower than stable's p{100 * quantile:g} plus {tolerance:.0%}"
    return f"latency: {slower}, stable {past[of_stable + 1]} of {past[of_stable]} slower than it"


def _failures(state: CanaryState) -> str:
    canary, stable = state.canary, state.stable
    return f"canary {canary.errors} of {canary.requests} failed, stable {stable.errors} of {stable.requests}"


def _doubts(unreliable: Sequence[str]) -> str:
    return f"; {', '.join(unreliable)} cannot be trusted: stable differs from itself there" if unreliable else ""


def _shown(log_e: float) -> str:
    """An e-value for people: three digits, and no overflow."""
    return f"{math.exp(log_e):.3g}" if log_e < 20 else f"1e{log_e / math.log(10):.0f}"
