"""What would a spec have to say for fewer bad releases to be promoted than were in a simulation?"""

from __future__ import annotations

from pipelines.forecast.scenarios import USUAL_LATENCY_MARGIN, USUAL_QUALITY_MARGIN, Scenario
from pipelines.spec.rollout import RolloutSpec


def advice(plan: RolloutSpec, scenario: Scenario, promoted: float) -> str:
    """What to change where more than `alpha_promote` of the harmful releases were promoted; "" where all is well."""
    if not scenario.harm or promoted <= plan.alpha_promote:
        return ""
    said = f"{promoted:.0%} of them are promoted, and alpha_promote is {plan.alpha_promote:.0%}: "
    return said + _change(plan, scenario)


def _change(plan: RolloutSpec, scenario: Scenario) -> str:
    latency = plan.gates.latency
    match scenario.name:
        case "latency" | "leak" if latency is None or latency.margin is None:
            gate = f"rollout.gates.latency: {{margin: {USUAL_LATENCY_MARGIN:g}}}"
            return f"{gate} promotes only where slower by that much is disproven"
        case "leak":
            return f"what grows shows late: a longer rollout.bake (now {plan.bake_s:g} s), and rollout.deadline"
        case "quality" if plan.gates.quality is None:
            gate = f"rollout.gates.quality: {{margin: {USUAL_QUALITY_MARGIN:g}}}"
            return f"{gate} promotes only where so much lower scores are disproven; it needs labels"
        case "slice" if not plan.slices:
            return "rollout.slices names the attribute, so that each of its values is judged"
        case "slice":
            return f"a slice gets few requests: a longer rollout.hold (now {plan.hold_s:g} s) and rollout.bake"
        case _:
            longer = f"a longer rollout.hold (now {plan.hold_s:g} s)"
            return f"a smaller rollout.alpha_promote, {longer} or a smaller margin in rollout.gates.{scenario.harm}"
