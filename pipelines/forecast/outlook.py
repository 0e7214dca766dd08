"""What would this release do, and can its plan decide?"""

from __future__ import annotations

import math
from typing import Any

from evals.gate import Gate
from evals.planning.usual import Usual
from evals.signals.replay import pairs_to_promote
from pipelines.forecast.decidability import Forecast, forecast, shown_duration
from pipelines.records.service import Deployment
from pipelines.rollout.decision import share_of
from pipelines.spec.release_spec import ReleaseSpec
from pipelines.stages.intake import Intake
from pipelines.stages.prompted import sentence_of

NOTHING_NEEDED: dict[str, Any] = {
    "traffic": None,
    "gates_needed": [],
    "planned_minutes": None,
    "assumes": [],
    "undecidable": "",
    "caught_too_late": [],
    "helps": [],
}
"""The forecast of a first release."""


def outlook(
    spec: ReleaseSpec,
    intake: Intake,
    measured: tuple[Usual, str] | None = None,
    requests_per_s: float | None = None,
    recorded: int = 0,
) -> dict[str, Any]:
    """The plan as plain data: versions, gates, steps, and what traffic it needs; a given rate is believed.

    `recorded` requests are at hand for a replay.
    """
    rollout = spec.rollout
    stable = intake.service.stable if intake.service else None
    told = forecast(rollout, measured, requests_per_s, recorded) if stable else None
    shares = [share_of(rollout, step) for step in range(len(rollout.steps) + 1)]
    return {
        "model": intake.candidate.model,
        "version": intake.candidate.version,
        "service": spec.service,
        "artifact_digest": intake.candidate.artifact_digest,
        "weights": intake.weights.as_dict() if intake.weights else None,
        "champion": _champion(stable) if stable else None,
        "gates": [_gate(g) for g in spec.offline_gates()],
        "steps": _steps(spec, shares, recorded, first=stable is None),
        "canary_requests_to_promote": requests_to_promote(rollout.alpha_promote, rollout.gates.errors.margin),
        "needs": _needs(told),
        "left_behind": list(intake.left_behind),
        "converted": list(intake.converted),
        "doubts": list(intake.rows.doubts),
        "memory": {**intake.memory.as_dict(), "sentence": intake.memory.sentence()} if intake.memory else None,
        "rewrite": {**intake.rewrite.as_dict(), "sentence": sentence_of(intake.rewrite)} if intake.rewrite else None,
        "on_undecidable": rollout.on_undecidable,
        **(told.as_dict() if told else NOTHING_NEEDED),
    }


def _champion(stable: Deployment) -> str:
    if stable.url:
        return (
            f"adopted {stable.url}: compared with on live traffic only, margins to the champion are not judged offline"
        )
    return f"v{stable.version} {stable.digest[:19]}"


def requests_to_promote(alpha_promote: float, margin: float) -> int:
    """Canary requests without an error until a difference of `margin` is excluded: each bets 0.9·margin on it.

    Source: the bounded-mean e-process, with its largest bet, at an error rate of 0 in both arms.
    """
    return math.ceil(math.log(1 / alpha_promote) / math.log1p(0.9 * margin))


def _steps(spec: ReleaseSpec, shares: list[float], recorded: int, *, first: bool) -> list[dict[str, str]]:
    rollout = spec.rollout
    before = [
        {"name": "evaluate", "what": f"{', '.join(spec.evaluate.metrics)} on {spec.evaluate.data}"},
        {"name": "compress", "what": spec.compress},
        {"name": "qualify", "what": "golden rows, odd inputs, load and the way back on the staged server"},
    ]
    if first:
        return [*before, {"name": "promote", "what": "at once: a first release has nothing to be compared with"}]
    if rollout.replay:
        before.append({"name": "replay", "what": _replay(spec, recorded)})
    lasts = f"for {rollout.hold_s:g} s" if rollout.advance == "timetable" else "until the next share is earned"
    canary = [{"name": "canary", "what": f"{share:g} % {lasts}"} for share in shares[:-1]]
    return [*before, *canary, {"name": "bake", "what": f"{shares[-1]:g} % for {rollout.bake_s:g} s"}]


def _replay(spec: ReleaseSpec, recorded: int) -> str:
    """What will recorded requests decide, and are there enough of them?"""
    rollout = spec.rollout
    assert rollout.replay is not None  # noqa: S101  asked for it only
    pairs, need = (
        min(recorded, rollout.replay.requests),
        pairs_to_promote(rollout.alpha_promote, rollout.gates.errors.margin),
    )
    said = f"{pairs} of {recorded} recorded requests on both versions"
    if recorded == 0:
        return f"{said}: `shipway release` refuses to begin until serve.record has kept some"
    if pairs < need:
        return f"{said}; {need} without a difference would decide, so live traffic must"
    shares = [share_of(rollout, step) / 100 for step in range(len(rollout.steps) + 1)]
    per_hour = 3600 * sum(rollout.min_step_requests / share for share in shares) / rollout.deadline_s
    rate = f"{per_hour:.2g} requests/h by the deadline"
    live = f"each step waits for {rollout.min_step_requests} live at the canary ({rate})"
    return f"{said}; {need} without a difference decide on errors, and {live}"


def _needs(told: Forecast | None) -> str:
    """Can it decide, in one line?"""
    if told is None:
        return "no traffic"
    if told.usual.requests_per_s is None:
        return "traffic that nobody has measured yet: --rps N says how much there is"
    there = f"the {told.usual.requests_per_s:.3g} requests/s that there are"
    if told.undecidable or not told.caught_too_late:
        return told.undecidable or f"{there}; it can decide in time"
    late = [need.gate for need in told.caught_too_late]
    soon = [need.gate for need in told.needs if need.gate not in late]
    caught = f"{_listed(soon)} can catch a canary that is worse by then, {_listed(late)} cannot"
    if not soon:
        caught = f"no gate can catch a canary that is worse by then ({_listed(late)})"
    return f"{there}; it can promote before its deadline of {shown_duration(told.deadline_s)}; {caught}"


def _listed(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _gate(gate: Gate) -> str:
    bounds = {"at least": gate.min, "at most": gate.max, "worse than the champion by less than": gate.margin}
    where = f" on each {gate.slices}" if gate.slices else ""
    return f"{gate.metric}{where}: " + ", ".join(
        f"{words} {value:g}" for words, value in bounds.items() if value is not None
    )
