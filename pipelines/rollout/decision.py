"""What should happen to the traffic now?

This is the heart of Shipway: one pure function from what was asked, what has happened and what is seen, to one of
four decisions. It causes nothing, reads no clock, and logs nothing; `look.py` carries its answer out.

The order of the questions is the order of their weight: a person's word, a dead canary, proven harm, the deadline,
silence, a pause, a replay, a beginning or an interruption, and only then whether enough has been seen to go on. Two
rules stand over all of them: traffic never moves to a dead arm, and no step that a person must approve is entered
before he approved it, the first one and the way back to it included.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from pipelines.ports import Command
from pipelines.records.asking import Asked
from pipelines.records.release import Phase, Release
from pipelines.rollout.earning import Counted, unearned
from pipelines.spec.rollout import RolloutSpec

SHARE_TOLERANCE = 1e-6

FRESH_S = 10.0
"""Evidence is fresh where the last of it came within this time: nobody gets a larger share on older news."""

PATIENCE_S = 50.0
"""Five times that long without news, and the canary goes home: it is not accused, but it is not watched either."""


class CanaryJudgement(Counted, Protocol):
    """What the canary judge says (`evals.canary.absorb.CanaryVerdict`)."""

    @property
    def roll_back(self) -> bool:
        """Whether harm is proven."""
        ...

    @property
    def sentence(self) -> str:
        """Why, with numbers."""
        ...

    @property
    def confounded(self) -> bool:
        """Whether load may explain the harm."""
        ...

    @property
    def void(self) -> str:
        """Why nothing can be concluded, or ""."""
        ...

    @property
    def shifted(self) -> str:
        """How the predictions differ from stable's, or ""."""
        ...


@dataclass(frozen=True)
class Situation:
    """What is seen at one look. `observed_pct` is the share that the router shows for this release's digest."""

    now_s: float
    observed_pct: float
    verdict: CanaryJudgement
    step_requests: int
    canary_down: str = ""
    """Why the canary cannot serve, or "" while it can."""
    canary_starting: str = ""
    """Why an interrupted canary is not ready yet, or "" where it is."""
    stable_down: str = ""
    blind: str = ""
    """Why there is no fresh evidence, or "" where the metrics source answered."""
    command: Command | None = None
    url: str = ""
    requests_per_s: float = 0.0
    """The traffic of both arms in this step."""
    replaying: str = ""
    """How far the replay of recorded requests is, or "" where there is none left."""
    silent_s: float = 0.0
    """For how long no evidence has come that should have come."""


@dataclass(frozen=True)
class Hold:
    """Keep the share (and renew its lease); look again at `until_s` at the latest. `asks`: what waits for approval."""

    until_s: float
    why: str
    asks: Asked | None = None


@dataclass(frozen=True)
class Advance:
    """Give the canary `pct` of the traffic: step `step` of the plan, where step `len(steps)` is the bake."""

    pct: float
    step: int
    why: str


@dataclass(frozen=True)
class Promote:
    """The candidate becomes stable."""

    why: str


@dataclass(frozen=True)
class RollBack:
    """All traffic to stable, and the release ends as `end`. Only `ROLLED_BACK` may convict the candidate's bytes."""

    why: str
    end: Phase = Phase.ROLLED_BACK
    convicts: bool = True
    """False where something else than the candidate was the reason."""


Decision = Hold | Advance | Promote | RollBack


def decide(plan: RolloutSpec, release: Release, seen: Situation) -> Decision:
    """What should happen now? Asks the questions in the order of their weight; the first answer counts."""
    decision = (
        _a_persons_word(seen)
        or _a_dead_canary(seen)
        or _proven_harm(seen)
        or _the_deadline(plan, release, seen)
        or _silence(plan, seen)
        or _a_pause(plan, release, seen)
        or _a_replay(plan, release, seen)
        or _a_beginning(plan, release, seen)
        or _doubts(plan, release, seen)
        or _the_next_step(plan, release, seen)
    )
    if isinstance(decision, RollBack):
        decision = replace(decision, end=possible_end(release, decision.end))
    return _while_home_is_dead(plan, seen, decision) if seen.stable_down else decision


def possible_end(release: Release, end: Phase) -> Phase:
    """A candidate that no user met is rejected; only one that users met is rolled back."""
    return Phase.REJECTED if (release.phase, end) == (Phase.QUALIFIED, Phase.ROLLED_BACK) else end


def share_of(plan: RolloutSpec, step: int) -> float:
    """The canary's share at a step of the plan; the step after the last is the bake."""
    return plan.steps[step].pct if step < len(plan.steps) else 100.0 - plan.holdback_pct


def _a_persons_word(seen: Situation) -> Decision | None:
    command = seen.command
    if command is None:
        return None
    said = command.said
    match command.verb:
        case "abort":
            return RollBack(said, Phase.ABORTED)
        case "rollback":
            return RollBack(said)
        case "promote":
            return Promote(said)
        case _:
            return None


def _a_dead_canary(seen: Situation) -> Decision | None:
    """A canary that cannot serve goes home without statistics."""
    return RollBack(f"the canary cannot serve: {seen.canary_down}") if seen.canary_down else None


def _while_home_is_dead(plan: RolloutSpec, seen: Situation, decision: Decision) -> Decision:
    """No share moves to a stable that is dead, and none is raised that could not go home: wait until it is back."""
    match decision:
        case RollBack() if seen.observed_pct > 0:
            unmoved = f"traffic does not move to a dead arm ({decision.why})"
        case Advance():
            unmoved = "no share is raised without a way home"
        case _:
            return decision
    return Hold(seen.now_s + plan.look_s, f"stable is down ({seen.stable_down}): {unmoved}")


def _proven_harm(seen: Situation) -> Decision | None:
    """Traffic goes home in any case; where load may be the reason, nobody is accused."""
    if not seen.verdict.roll_back:
        return None
    return RollBack(seen.verdict.sentence, convicts=not seen.verdict.confounded)


def _the_deadline(plan: RolloutSpec, release: Release, seen: Situation) -> Decision | None:
    """Not knowing has an end, and the spec says which. Before a first step that waits for a person it has another."""
    if release.confirmed_pct == 0 and release.asked_since_s is not None:
        return None
    began = next((e.at_s for e in release.of_kind("entered") if e.data["phase"] == Phase.CANARY), seen.now_s)
    ends_s = began + plan.deadline_s + (plan.ask_timeout_s if plan.on_inconclusive == "ask" else 0.0)
    can_promote = seen.verdict.promote and release.phase is Phase.BAKING and not _doubts(plan, release, seen)
    if seen.now_s < began + plan.deadline_s or can_promote:
        return None
    why = f"undecided at the deadline of {plan.deadline_s:g} s: {_waits(plan, release, seen)}{_progress(seen)}"
    if seen.now_s < ends_s:
        return Hold(ends_s, f"{why}; promote, abort or wait?")
    return RollBack(why, Phase.ROLLED_BACK if plan.on_inconclusive == "rollback" else Phase.HELD)


def _waits(plan: RolloutSpec, release: Release, seen: Situation) -> str:
    """For whose word it waits, where it does: then nobody may think that evidence was missing."""
    waits = _a_beginning(plan, release, seen) or _doubts(plan, release, seen) or _the_next_step(plan, release, seen)
    return f"{waits.asks} waits for approval; " if isinstance(waits, Hold) and waits.asks else ""


def _silence(plan: RolloutSpec, seen: Situation) -> Decision | None:
    """Absent evidence speaks for nobody: no share is raised on it, and what users have goes home where it lasts."""
    quiet_s = seen.silent_s if seen.observed_pct > 0 else 0.0
    if quiet_s > PATIENCE_S:
        return RollBack(f"no evidence has come for {quiet_s:.0f} s", Phase.HELD)
    if seen.blind or quiet_s > FRESH_S:
        why = seen.blind or f"none has come for {quiet_s:.0f} s"
        return Hold(seen.now_s + plan.look_s, f"no share is raised without fresh evidence: {why}")
    return None


def _a_pause(plan: RolloutSpec, release: Release, seen: Situation) -> Decision | None:
    asked = seen.command.verb if seen.command else ""
    paused = asked == "pause" or (release.paused and asked != "resume")
    return Hold(seen.now_s + plan.look_s, "paused by a person") if paused else None


def _a_replay(plan: RolloutSpec, release: Release, seen: Situation) -> Decision | None:
    """No user meets the canary while recorded requests can still speak against it."""
    if not seen.replaying:
        return None
    if seen.now_s > release.phase_since_s + plan.deadline_s:
        return RollBack(f"the replay did not end within {plan.deadline_s:g} s: {seen.replaying}", Phase.HELD)
    return Hold(seen.now_s + plan.look_s, seen.replaying)


def _a_beginning(plan: RolloutSpec, release: Release, seen: Situation) -> Decision | None:
    """A release that has no share yet, or lost it without anybody's decision, starts at the first step."""
    why, approved = "the first users", release.approved
    if has_lost_its_share(release, seen.observed_pct):
        had = f"{release.confirmed_pct:g} % was confirmed" if release.confirmed_pct else "its share was never confirmed"
        why = f"interrupted: the router shows {seen.observed_pct:g} %, {had}"
        approved = frozenset()  # what was approved was approved for the exposure that is over
    elif release.confirmed_pct > 0:
        return None
    if _is_unanswered(plan, release, seen):
        undone = "its server was not ready" if 0 in approved else "nobody approved step 1"
        return RollBack(f"{undone} within {plan.ask_timeout_s:g} s", Phase.HELD)
    if seen.canary_starting:
        return Hold(seen.now_s + plan.look_s, f"{why}; its server is {seen.canary_starting}")
    if plan.steps[0].approve and 0 not in approved:
        return _ask(plan, release, seen, Asked("step", 0), "" if release.confirmed_pct == 0 else f"{why}; ")
    return Advance(share_of(plan, 0), 0, why)


def has_lost_its_share(release: Release, observed_pct: float) -> bool:
    """Whether the router shows less than was confirmed, though nobody decided it: the release was interrupted.

    So was one whose approved share was intended, and that users may have met before its controller could confirm it.
    """
    if release.confirmed_pct == 0:
        return bool(release.approved) and release.intended_pct > 0 and observed_pct == 0
    return observed_pct < release.confirmed_pct - SHARE_TOLERANCE


def _is_unanswered(plan: RolloutSpec, release: Release, seen: Situation) -> bool:
    """Whether the first step was asked for, and no user met the canary, for longer than people have to answer."""
    since_s = release.asked_since_s if release.confirmed_pct == 0 else None
    return since_s is not None and seen.now_s >= since_s + plan.ask_timeout_s


def _ask(plan: RolloutSpec, release: Release, seen: Situation, asks: Asked, why: str = "") -> Hold:
    return Hold(seen.now_s + plan.look_s, f"{why}{asks} waits for approval: shipway approve {release.id}", asks)


def _doubts(plan: RolloutSpec, release: Release, seen: Situation) -> Decision | None:
    """Where the comparison is void nothing follows from it; where predictions shifted, a person looks at it."""
    if seen.verdict.void:
        return Hold(seen.now_s + plan.look_s, seen.verdict.void)
    drift = plan.gates.drift
    if seen.verdict.shifted and drift and drift.action == "hold" and release.step not in release.approved_drift:
        why = f"{seen.verdict.shifted}; if that is meant: shipway approve {release.id}"
        return Hold(seen.now_s + plan.look_s, why, Asked("drift", release.step))
    return None


def _the_next_step(plan: RolloutSpec, release: Release, seen: Situation) -> Decision:
    baking = release.phase is Phase.BAKING
    is_timed = baking or plan.advance == "timetable"
    ready_s = release.phase_since_s + (plan.bake_s if baking else plan.hold_s)
    if is_timed and seen.now_s < ready_s:
        return Hold(ready_s, _progress(seen))
    if seen.step_requests < plan.min_step_requests:
        return Hold(seen.now_s + plan.look_s, f"too little traffic: {_progress(seen)}")
    if not baking:
        return _advance(plan, release, seen)
    if seen.verdict.promote:
        return Promote(seen.verdict.sentence)
    return Hold(seen.now_s + plan.look_s, f"baked, but not yet proven harmless: {seen.verdict.sentence}")


def _advance(plan: RolloutSpec, release: Release, seen: Situation) -> Decision:
    step = release.step + 1
    if step < len(plan.steps) and plan.steps[step].approve and step not in release.approved:
        return _ask(plan, release, seen, Asked("step", step))
    if plan.advance == "timetable":
        return Advance(share_of(plan, step), step, f"held for {plan.hold_s:g} s: {seen.verdict.sentence}")
    lasts_s = plan.hold_s if step < len(plan.steps) else plan.bake_s
    why_not = unearned(plan, seen.verdict, share_of(plan, step), seen.requests_per_s, lasts_s)
    if why_not:
        return Hold(seen.now_s + plan.look_s, why_not)
    return Advance(share_of(plan, step), step, f"earned: {seen.verdict.sentence}")


def _progress(seen: Situation) -> str:
    if seen.step_requests:
        return seen.verdict.sentence
    return f"no traffic seen; requests to {seen.url} are what this release waits for"
