"""Can this plan decide before its deadline, at the traffic that the service has?

Each gate's need is asked of the judge's own processes (`evals/planning/needs.py`) at the timetable's shares.
A step lasts until it has seen `min_step_requests`. `shipway simulate` plays all gates together, and the steps as they
are earned.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from evals.planning.needs import Need, Timetable, needs
from evals.planning.usual import Usual
from evals.signals.replay import pairs_to_promote
from pipelines.errors import BadInput
from pipelines.rollout.decision import share_of
from pipelines.rollout.watch import canary_plan
from pipelines.spec.rollout import RolloutSpec
from pipelines.spec.values import MAX_DURATION_S

ASSUMED_RATE = 50.0
"""Requests per second where nobody knows the traffic: then needs are said in requests alone."""

BEYOND_DEADLINES, BEYOND_REQUESTS = 20, 50_000
"""How far a need is looked for after the deadline."""

ASSUMES = (
    "each gate is asked alone: a harm that shows in several is caught sooner, and all are proven later than one",
    "shares come by the timetable, and requests evenly",
    "figures are of half of the releases, or of nine of ten",
)

TYPICAL = 0.5
"""A plan that decides less than this part of its releases by the deadline cannot decide."""


@dataclass(frozen=True)
class Forecast:
    """What the gates of a plan need, and whether there is time for it."""

    usual: Usual
    source: str
    needs: tuple[Need, ...]
    planned_s: float
    deadline_s: float
    replayed: bool = False
    """Whether recorded requests are enough to decide on errors."""
    undecidable: str = ""
    """Why the plan cannot decide, or ""."""
    helps: tuple[str, ...] = ()

    @property
    def caught_too_late(self) -> tuple[Need, ...]:
        """The gates by which most harmful releases are still with users at the deadline."""
        gating = [need for need in self.needs if not (self.replayed and need.gate == "errors")]
        return tuple(need for need in gating if need.catch.share_by(self.deadline_s) < TYPICAL)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data; minutes are null where the traffic is not known."""
        is_timed = bool(self.usual.requests_per_s)
        rows = [
            {
                "gate": need.gate,
                "harm": need.harm,
                "promote": need.promote and need.promote.as_dict(self.deadline_s, is_timed=is_timed),
                "catch": need.catch.as_dict(self.deadline_s, is_timed=is_timed),
            }
            for need in self.needs
        ]
        traffic = {
            "requests_per_s": self.usual.requests_per_s,
            "source": self.source,
            "error_rate": self.usual.error_rate,
            "labelled": self.usual.labelled,
            "assumed": list(self.usual.assumed),
        }
        return {
            "traffic": traffic,
            "gates_needed": rows,
            "planned_minutes": round(self.planned_s / 60, 1) if is_timed else None,
            "assumes": list(ASSUMES),
            "undecidable": self.undecidable,
            "caught_too_late": [need.gate for need in self.caught_too_late] if is_timed else [],
            "helps": list(self.helps),
        }


def forecast(
    plan: RolloutSpec, measured: tuple[Usual, str] | None, requests_per_s: float | None = None, recorded: int = 0
) -> Forecast:
    """What this plan needs at the measured traffic, or at a given rate, with so many requests at hand for a replay."""
    usual, source = measured or (Usual(), "--rps N says it")
    if requests_per_s is not None:
        usual, source = replace(usual, requests_per_s=requests_per_s), "given"
    pace, judged = _pace(plan, usual.requests_per_s or ASSUMED_RATE), canary_plan(plan)
    found = needs(judged, usual, pace, plan.slices)
    guessed = [name for name in (*judged.streams, *judged.rates) if name not in {*usual.timings, *usual.rates}]
    usual = replace(usual, assumed=(*usual.assumed, *guessed, *(["cost"] if judged.cost else [])))
    planned_s = sum(lasts_s for _, lasts_s in pace.stages[:-1]) + plan.bake_s
    pairs = min(recorded, plan.replay.requests) if plan.replay else 0
    replayed = pairs >= pairs_to_promote(plan.alpha_promote, plan.gates.errors.margin)
    told = Forecast(usual, source, found, planned_s, plan.deadline_s, replayed)
    if usual.requests_per_s is None:
        return told
    why = _undecidable(told)
    return replace(told, undecidable=why, helps=_helps(plan, told) if why else ())


def refuse_undecidable(plan: RolloutSpec, measured: tuple[Usual, str] | None, recorded: int = 0) -> None:
    """BadInput where the spec says so and the plan cannot decide; traffic that nobody knows refuses nothing."""
    if plan.on_undecidable == "warn" or measured is None:
        return
    told = forecast(plan, measured, recorded=recorded)
    if told.undecidable:
        raise BadInput(
            told.undecidable,
            code="E_UNDECIDABLE",
            field="rollout",
            expected="a plan that can decide, or on_undecidable: warn",
            hint="; or ".join(told.helps),
        )


def _pace(plan: RolloutSpec, requests_per_s: float) -> Timetable:
    """The timetable, each step as long as it needs to see its requests."""
    shares = [share_of(plan, step) / 100 for step in range(len(plan.steps) + 1)]
    stages = [(share, max(plan.hold_s, plan.min_step_requests / (share * requests_per_s))) for share in shares]
    until_s = max(BEYOND_DEADLINES * plan.deadline_s, BEYOND_REQUESTS / requests_per_s)
    return Timetable(tuple(stages), requests_per_s, plan.look_s, until_s)


def _slowest(found: tuple[Need, ...], *, replayed: bool = False) -> Need | None:
    """The gate that is proven last on live traffic; None where none needs it."""
    gating = [need for need in found if need.promote is not None and not (replayed and need.gate == "errors")]
    return max(gating, key=lambda need: _proven_s(need, 0.5), default=None)


def _undecidable(told: Forecast) -> str:
    rate, cannot = (
        told.usual.requests_per_s,
        f"this plan cannot decide before its deadline of {shown_duration(told.deadline_s)}",
    )
    if not rate:
        return f"{cannot}: the service has no traffic"
    if _is_unlabelled(told):
        return f"{cannot}: the gate on quality waits for scores, and none arrive at this service"
    if told.planned_s > told.deadline_s:
        return f"{cannot}: at {rate:.3g} requests/s its steps alone take {shown_duration(told.planned_s)}"
    slowest = _slowest(told.needs, replayed=told.replayed)
    if slowest is None or slowest.promote is None or slowest.promote.share_by(told.deadline_s) >= TYPICAL:
        return ""
    takes = f"takes about {shown_duration(_proven_s(slowest, 0.5))}"
    return f"{cannot}: at {rate:.3g} requests/s the proof of harmlessness in {slowest.gate} {takes}"


def _is_unlabelled(told: Forecast) -> bool:
    return told.usual.labelled == 0 and any(need.gate == "quality" for need in told.needs)


def _helps(plan: RolloutSpec, told: Forecast) -> tuple[str, ...]:
    """What would let it decide, in nine of ten releases."""
    rate = told.usual.requests_per_s
    if not rate:
        return ("send it requests first",)
    if _is_unlabelled(told):
        return ("send labels to /feedback, or leave out gates.quality",)
    halved = replace(_pace(plan, rate), stages=((0.5, plan.deadline_s),))
    even_s = _proven_s(_slowest(needs(canary_plan(plan), told.usual, halved)), 0.9)
    longer_s = max(_proven_s(_slowest(told.needs), 0.9), told.planned_s)
    found = []
    if even_s + plan.bake_s <= MAX_DURATION_S:
        found.append(f"a larger first step: steps: [50], hold: {shown_duration(even_s)}, and a later deadline")
    if longer_s <= MAX_DURATION_S:
        found.append(f"more time: deadline: {shown_duration(longer_s)}")
    if plan.replay is None:
        found.append("rollout.replay: recorded requests are asked of both versions")
    return tuple(found or ["wider margins: these are beyond any deadline"])


def _proven_s(need: Need | None, quantile: float) -> float:
    """Seconds until that part of the releases is proven harmless."""
    if need is None or need.promote is None:
        return 0.0
    return float(np.quantile(need.promote.seconds, quantile, method="higher"))


def shown_duration(seconds: float) -> str:
    """A duration that a spec may have, rounded up: minutes, and hours from five on."""
    if not math.isfinite(seconds):
        return "far longer"
    return f"{math.ceil(seconds / 60 - 1e-9)}m" if seconds < 5 * 3600 else f"{math.ceil(seconds / 3600 - 1e-9)}h"
