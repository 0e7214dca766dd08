"""Is the canary harmful, or proven harmless?

Harm: the weighted mean of the e-values of errors, latency and quality reaches 1/α; then it goes home, wrongly with
probability at most α over the whole release. Harmless: the non-inferiority process of *every* metric that has a margin
reaches 1/α_promote; a release that is worse by a margin is promoted with probability at most α_promote. Neither is said
where the comparison itself is void.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from evals.canary.plan import EXCESS, STREAM_TIMINGS, CanaryPlan
from evals.canary.sentences import Charge, doubts, said_of, shown, what_is_missing
from evals.canary.standing import CONTROL, NONINFERIOR, excess, harmless_logs, in_slice, standing
from evals.canary.state import CanaryState
from evals.maths.e_processes import log_mean
from evals.signals.counting import MOST_SLICES

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
    needs: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    """What each metric still needs for a promotion: `evidence` of `required`, and as it goes now `more_requests` of the
    canary and `more_s` seconds (None where it does not grow)."""

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data for the ledger."""
        return asdict(self)


def judge_canary(plan: CanaryPlan, state: CanaryState) -> CanaryVerdict:
    """What does the evidence prove so far?"""
    found = standing(plan, state)
    charges, unreliable = tuple(_charges(plan, state, found)), _unreliable(plan, found)
    threshold, harm = math.log(1 / plan.alpha), _harm(charges, unreliable, plan.alpha)
    void = _void(state) if found[CONTROL + "share"] >= threshold else ""
    roll_back = harm >= threshold and not void
    guilty = tuple(c for c in charges if c.weighted >= threshold and c.metric not in unreliable)
    accused = (guilty or (max(charges, key=lambda c: c.weighted),)) if roll_back else ()
    needs = _needs(plan, state, found)
    is_harmless = all(need["more_requests"] == 0 for need in needs.values()) and not _labels_mislead(plan, unreliable)
    confounded = _is_load_uneven(plan, state) and any(c.metric in ("latency", *STREAM_TIMINGS) for c in accused)
    said = void or _sentence(plan, state, harm, accused, needs) + (", or its load" if confounded else "")
    said += f"; {state.replay.sentence}" if plan.has_replay else ""
    return CanaryVerdict(
        roll_back=roll_back,
        promote=is_harmless and not roll_back and not void,
        guilty=tuple(c.name for c in guilty),
        sentence=said + doubts(unreliable),
        progress={"together": round(harm / threshold, 4), **_progress(plan, found, charges)},
        canary_requests=state.canary.requests,
        canary_errors=state.canary.errors,
        stable_requests=state.stable.requests,
        stable_errors=state.stable.errors,
        suspects=() if guilty else tuple(c.name for c in accused),
        void=void,
        shifted=_shifted(plan, state, found),
        unreliable=unreliable,
        confounded=confounded,
        excess_bound=_excess_bound(plan, found),
        mean_ms={"canary": state.canary.mean_ms, "stable": state.stable.mean_ms},
        needs=needs,
    )


def _charges(plan: CanaryPlan, state: CanaryState, found: Mapping[str, float]) -> Iterator[Charge]:
    """What can send the canary home; the weights sum to one, places of slices that nobody has seen included."""
    for metric, share in plan.shares.items():
        parts = plan.has_slices and metric in {"errors", "latency"}
        yield Charge(metric, found[metric], share * (1 - IN_SLICES if parts else 1.0))
        if not parts:
            continue
        each = share * IN_SLICES / MOST_SLICES
        seen = [name for name in state.slices if in_slice(metric, name) in found]
        for name in seen:
            yield Charge(metric, found[in_slice(metric, name)], each, name)
        if len(seen) < MOST_SLICES:
            yield Charge(metric, 0.0, each * (MOST_SLICES - len(seen)), "nothing was seen")


def _harm(charges: Sequence[Charge], unreliable: Sequence[str], alpha: float) -> float:
    """Log of the mean; an unreliable metric has at most half a proof, so that another must speak as well."""
    half = math.log(0.5 / alpha)
    logs = np.array([min(c.weighted, half) if c.metric in unreliable else c.weighted for c in charges])
    return log_mean(logs, np.ones(len(logs)))


def _unreliable(plan: CanaryPlan, found: Mapping[str, float]) -> tuple[str, ...]:
    """Metrics that cannot be trusted: their control, or the arrival of their labels, shows a difference."""
    return tuple(m for m in ("errors", "latency", "quality") if found[CONTROL + m] >= math.log(1 / plan.alpha))


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


def _needs(plan: CanaryPlan, state: CanaryState, found: Mapping[str, float]) -> dict[str, dict[str, float | None]]:
    """What a promotion needs of each metric."""
    promote_at, needs = math.log(1 / plan.alpha_promote), {}
    for metric in harmless_logs(plan, state):
        log_e = found[metric + NONINFERIOR]
        more = state.pace.requests_until(metric, promote_at - log_e)
        required = 1 / plan.alpha_promote
        evidence = round(math.exp(min(log_e, 700.0)), 3)
        more_s = state.pace.seconds_until(more)
        needs[metric] = {"evidence": evidence, "required": required, "more_requests": more, "more_s": more_s}
    return needs


def _excess_bound(plan: CanaryPlan, found: Mapping[str, float]) -> float:
    """How many more errors than stable may the canary still have, as a fraction of requests?

    Margins are asked from the largest down, and the first that is not disproven ends it: only the largest margin that
    is true could be wrongly disproven, so the bound holds at all looks together with probability 1 - α_promote.
    """
    bound = 1.0
    for margin in EXCESS:
        if found[excess(margin)] < math.log(1 / plan.alpha_promote):
            break
        bound = margin
    return bound


def _shifted(plan: CanaryPlan, state: CanaryState, found: Mapping[str, float]) -> str:
    if plan.drift_ratio is None or found["drift"] < math.log(1 / plan.alpha):
        return ""
    evidence = shown(found["drift"])
    if plan.has_replay and state.replay.shifted_log_e(plan.drift_ratio) > state.drift.log_e:
        other, same = state.replay.other_class, state.replay.same_class
        return f"predictions shifted: {other} of {other + same} replayed requests got another class ({evidence})"
    return f"predictions shifted, most of all {state.drift.worst} by more than {plan.drift_ratio:g} times ({evidence})"


def _progress(plan: CanaryPlan, found: Mapping[str, float], charges: Sequence[Charge]) -> dict[str, float]:
    threshold, promote_at = math.log(1 / plan.alpha), math.log(1 / plan.alpha_promote)
    progress = {c.name: round(c.log_e / threshold, 4) for c in charges if not c.slice or c.log_e > 1}
    progress |= {name: round(log / promote_at, 4) for name, log in found.items() if name.endswith(NONINFERIOR)}
    if plan.drift_ratio is not None:
        progress["drift"] = round(found["drift"] / threshold, 4)
    return progress


def _sentence(
    plan: CanaryPlan,
    state: CanaryState,
    harm: float,
    accused: Sequence[Charge],
    needs: Mapping[str, Mapping[str, float | None]],
) -> str:
    if accused:
        what = "; ".join(said_of(plan, state, charge) for charge in accused)
        return f"{what}; evidence of harm {shown(harm)} where {1 / plan.alpha:g} sends home"
    return f"{what_is_missing(state, needs)}, of harm {shown(harm)} of {1 / plan.alpha:g}"
