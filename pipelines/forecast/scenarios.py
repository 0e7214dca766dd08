"""What might happen to a canary? The worlds in which a spec's own plan is played before it is used.

Each harm is twice the spec's margin, so that it is clearly unacceptable and not grotesque. Where the spec has no gate
for a harm it is played nevertheless: then the table shows what would be promoted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from evals.planning.worlds import EQUAL, Slice, World
from pipelines.errors import BadInput
from pipelines.spec.rollout import RolloutSpec

USUAL_QUALITY_MARGIN, USUAL_LATENCY_MARGIN = 0.02, 0.15
"""What a harm is measured by where the spec sets no margin."""

BAD_SLICE, BAD_SLICE_ERRORS = 0.03, 0.2
INCIDENT_ERRORS, LEAKS_TO, BUSY, LOW = 0.05, 2.0, 0.7, 50.0


@dataclass(frozen=True)
class Scenario:
    """A world, and what is right to do in it."""

    name: str
    says: str
    world: World
    harm: str = ""
    """The metric in which the canary is worse, or "" where it is as good as stable."""
    from_s: float = 0.0
    """When the harm begins, in seconds after the first users."""
    is_judged: bool = True
    """Whether the spec has a gate for it."""


def chosen(plan: RolloutSpec, names: Sequence[str], requests_per_s: float, labels: float) -> tuple[Scenario, ...]:
    """The scenarios of these names, or all. BadInput lists the known ones."""
    known = scenarios(plan, requests_per_s, labels)
    for name in names:
        if name not in known:
            raise BadInput(
                f"there is no scenario {name[:40]!r}",
                code="E_SCENARIO",
                field="--scenario",
                expected=f"one of {', '.join(known)}",
            )
    return tuple(known[name] for name in dict.fromkeys(names or known))


def scenarios(plan: RolloutSpec, requests_per_s: float, labels: float) -> Mapping[str, Scenario]:
    """Every scenario by name, at this traffic; a fraction `labels` of the requests is given a score."""
    planned_s = len(plan.steps) * plan.hold_s + plan.bake_s
    equal = replace(EQUAL, requests_per_s=requests_per_s, lasts_s=planned_s, scored=labels)
    good = _good(equal, planned_s)
    bad = (_errors(plan, equal), *_slow(plan, equal), _quality(plan, equal), _slice(plan, equal))
    return {scenario.name: scenario for scenario in (good[0], *bad, *good[1:])}


def _good(equal: World, planned_s: float) -> tuple[Scenario, ...]:
    """A canary that is as good as stable."""
    few = equal.requests_per_s / LOW
    hit = replace(equal, incident=(planned_s / 3, planned_s / 2, INCIDENT_ERRORS))
    return (
        Scenario("aa", "the same version twice", equal),
        Scenario("incident", f"{INCIDENT_ERRORS:.0%} fail on both arms for a sixth of the plan", hit),
        Scenario("low-traffic", f"the same version twice at {few:g} requests/s", replace(equal, requests_per_s=few)),
        Scenario("load", "each arm slows down with its own load", replace(equal, busy=BUSY)),
    )


def _errors(plan: RolloutSpec, equal: World) -> Scenario:
    rate = min(1.0, equal.stable_errors + 2 * plan.gates.errors.margin)
    says = f"{equal.stable_errors:.2%} → {rate:.2%} of the requests fail"
    return Scenario("errors", says, replace(equal, canary_errors=rate), "errors")


def _slow(plan: RolloutSpec, equal: World) -> tuple[Scenario, Scenario]:
    latency, from_s = plan.gates.latency, equal.lasts_s / 6
    slower = 1 + 2 * ((latency.margin if latency else None) or USUAL_LATENCY_MARGIN)
    leak = replace(equal, leak_to=LEAKS_TO, leak_from_s=from_s)
    is_judged = latency is not None
    return (
        Scenario(
            "latency", f"slower by {slower - 1:.0%}", replace(equal, slower=slower), "latency", is_judged=is_judged
        ),
        Scenario("leak", f"slower and slower, by {LEAKS_TO - 1:.0%} at the end", leak, "latency", from_s, is_judged),
    )


def _quality(plan: RolloutSpec, equal: World) -> Scenario:
    gate = plan.gates.quality
    lost = min(0.8, 2 * (gate.margin if gate else USUAL_QUALITY_MARGIN))
    worse = replace(equal, canary_score=equal.stable_score - lost)
    return Scenario("quality", f"scores lower by {lost:.2f}", worse, "quality", is_judged=gate is not None)


def _slice(plan: RolloutSpec, equal: World) -> Scenario:
    attribute = plan.slices[0] if plan.slices else "attribute"
    usual = [Slice(f"{attribute}={value}", (1 - BAD_SLICE) / 4) for value in "abcd"]
    world = replace(equal, slices=(Slice(f"{attribute}=e", BAD_SLICE, BAD_SLICE_ERRORS), *usual))
    says = f"{BAD_SLICE_ERRORS:.0%} fail where {attribute}=e, {BAD_SLICE:.0%} of the requests"
    return Scenario("slice", says, world, "errors", is_judged=bool(plan.slices))
