"""How is a verdict said in one sentence, with the counts behind it?"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evals.canary.plan import LENGTHS, CanaryPlan
from evals.canary.standing import in_slice
from evals.canary.state import CanaryState
from evals.signals.latency import LatencyState, LatencyTest
from evals.signals.means import MeanState, MeanTest

Need = Mapping[str, float | None]

BAD = {
    "goodput": "answers that missed the objective",
    "empty": "answers that say nothing",
    "cut": "answers that ended at their length",
    "refused": "refusals",
    "rejected": "requests that were answered with 4xx",
    "invalid_json": "answers that are no JSON of the asked schema",
    "invalid_tool_call": "answers that call a tool wrongly",
}
"""What is counted as bad, for people."""


@dataclass(frozen=True)
class Charge:
    """Evidence of harm in one metric, or in one slice of it."""

    metric: str
    log_e: float
    weight: float
    slice: str = ""

    @property
    def weighted(self) -> float:
        """The log evidence times its share of α."""
        return self.log_e + math.log(self.weight)

    @property
    def name(self) -> str:
        """For people."""
        return in_slice(self.metric, self.slice) if self.slice else self.metric


def what_is_missing(state: CanaryState, needs: Mapping[str, Need]) -> str:
    """What was counted, and what the metric that is furthest from its proof still needs."""
    counts = failures(state) if state.canary.requests else "no judged requests yet"
    last = min(needs, key=lambda metric: needs[metric]["evidence"] or 0.0)
    need = needs[last]
    what = f" ({last})" if len(needs) > 1 else ""
    evidence = shown(math.log(max(need["evidence"] or 0.0, 1e-300)))
    return f"{counts}; evidence of harmlessness{what} {evidence} of {need['required']:g}{_still(need)}"


def _still(need: Need) -> str:
    """How much more it takes, where that can be told."""
    more, more_s = need["more_requests"], need["more_s"]
    if not more or more_s is None:
        return ""
    time = (
        f"{more_s:.0f} s" if more_s < 120 else f"{more_s / 60:.0f} min" if more_s < 7200 else f"{more_s / 3600:.1f} h"
    )
    return f" (about {more:g} more requests of the canary, {time})"


def said_of(plan: CanaryPlan, state: CanaryState, charge: Charge) -> str:
    """The counts behind an accusation."""
    if charge.slice:
        return _of_slice(state, charge)
    match charge.metric:
        case "errors":
            return f"errors: {failures(state)}"
        case "timeouts":
            late = f"canary {state.canary.timeouts} of {state.canary.requests} were not answered in time"
            return f"timeouts: {late}, stable {state.stable.timeouts} of {state.stable.requests}"
        case "quality":
            return f"quality: the canary's scores are lower; stable's mean is {state.quality.stable_mean:.3f}"
        case "cost" if plan.cost is not None and state.cost is not None:
            return _of_cost(plan.cost, state.cost)
        case "latency" if plan.has_replay and state.replay.latency_log_e > state.latency.log_e:
            timed = state.replay.slower + state.replay.faster
            return (
                f"latency: {state.replay.slower} of {timed} replayed requests took the canary longer, beyond tolerance"
            )
        case "latency" if plan.latency is not None:
            return _of_timing("latency", plan.latency, state.latency)
        case metric if metric in plan.rates:
            canary, canary_bad, stable, stable_bad = state.rates[metric].seen
            counts = f"canary {canary_bad} of {canary}, stable {stable_bad} of {stable}"
            return f"{metric.replace('_', ' ')}: {BAD[metric]}: {counts}"
        case metric if metric in LENGTHS:
            return _of_length(metric, plan.streams[metric], state.streams[metric])
    return _of_timing(charge.metric.replace("_", " "), plan.streams[charge.metric], state.streams[charge.metric])


def _of_slice(state: CanaryState, charge: Charge) -> str:
    if charge.metric != "errors" or charge.slice not in state.slices:
        return f"{charge.name}: the canary is {'worse' if charge.metric == 'errors' else 'slower'} there"
    canary, canary_bad, stable, stable_bad = state.errors.past[1 + state.slices.index(charge.slice)].tolist()
    return f"{charge.name}: canary {canary_bad} of {canary} failed, stable {stable_bad} of {stable}"


def _of_timing(what: str, test: LatencyTest, found: LatencyState) -> str:
    worst = int(np.argmax(found.quantiles_log_e))
    is_tail = worst == len(test.quantiles) - 1
    past = found.tail.past[0] if is_tail or not found.body.rows else found.body.past[worst]
    of_stable = len(past) // 2
    above = f"slower than stable's p{100 * test.quantiles[worst]:g} plus {test.tolerance:.0%}"
    at_stable = f"stable {past[of_stable + 1]} of {past[of_stable]} slower than it"
    return f"{what}: canary {past[1]} of {past[0]} {above}, {at_stable}"


def _of_length(which: str, test: LatencyTest, found: LatencyState) -> str:
    past, (side, allowed) = found.tail.past[0], _ALLOWED[which]
    of_stable, part = len(past) // 2, allowed(test.tolerance)
    at_canary = f"canary {past[1]} of {past[0]} answers have {side} {part:.0%} of the tokens of stable's usual one"
    return f"{which} answers: {at_canary}, stable {past[of_stable + 1]} of {past[of_stable]} {side} all of them"


_ALLOWED: Mapping[str, tuple[str, Callable[[float], float]]] = {
    "longer": ("more than", lambda tolerance: 1 + tolerance),
    "shorter": ("less than", lambda tolerance: 1 / (1 + tolerance)),
}


def _of_cost(test: MeanTest, found: MeanState) -> str:
    canary, stable = found.means
    dearer = f"{canary / stable - 1:+.1%}" if stable else "?"
    answers = f"of {found.seen[0]} answers of the canary and {found.seen[2]} of stable"
    return f"cost: the canary's mean is {dearer} of stable's, {answers}; {test.tolerance:.0%} is tolerated"


def failures(state: CanaryState) -> str:
    """Both arms' errors."""
    canary, stable = state.canary, state.stable
    return f"canary {canary.errors} of {canary.requests} failed, stable {stable.errors} of {stable.requests}"


def doubts(unreliable: Sequence[str]) -> str:
    """Which metrics do not count."""
    return f"; {', '.join(unreliable)} cannot be trusted: stable differs from itself there" if unreliable else ""


def shown(log_e: float) -> str:
    """An e-value for people: three digits, and no overflow."""
    return f"{math.exp(log_e):.3g}" if log_e < 20 else f"1e{log_e / math.log(10):.0f}"
