"""One look at a running release: see, judge, decide, act, record.

`look` is the only place where a canary's share changes. It holds the design's order of effects: *record before
raising exposure, act before recording when lowering it*, and believes the router, not its own memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from evals.canary.judgement import CanaryVerdict, judge_canary
from evals.signals.shadowing import ShadowState
from evals.signals.strata import Stratum
from pipelines.errors import DependencyDown
from pipelines.ports import Command, Now, Ports, Token
from pipelines.records.release import Phase, Release
from pipelines.records.split import TrafficSplit
from pipelines.rollout.decision import Advance, Decision, Hold, Promote, RollBack, decide, has_lost_its_share
from pipelines.rollout.ending import end_at_home, promote, resume_promotion
from pipelines.rollout.replay import ask_part, begin_replay, is_replaying, may_ask, was_stable_lost
from pipelines.rollout.scene import Scene, read_again, read_scene
from pipelines.rollout.situation import situation_of
from pipelines.rollout.watch import Watch, belongs, canary_plan, declaration, replay
from pipelines.rollout.way_home import abandon, carry_on
from pipelines.rollout.words import MOVING_VERBS, came_too_late, first_word, has_recorded, record_command
from pipelines.services.traffic import SAME_SHARE, send_home, set_share, share_of_ours
from pipelines.spec.rollout import RolloutSpec
from pipelines.spec.serve import ServeSpec

TROUBLE_S = 900.0
"""A controller that could not finish a look for so long ends; its users are home long since, or serve on."""


@dataclass(frozen=True)
class Look:
    """What one look saw and decided: the release and the watch that it judged, in the world that it read."""

    release: Release
    watch: Watch
    scene: Scene
    verdict: CanaryVerdict
    decision: Decision

    @property
    def share(self) -> float:
        """The share that the router shows for this release, in percent."""
        return share_of_ours(self.release, self.scene.split)

    @property
    def command(self) -> Command | None:
        """The word that counts at this look."""
        return first_word(self.scene.words)

    @property
    def strata(self) -> tuple[Stratum, ...]:
        """What is new of this release."""
        return tuple(stratum for stratum in self.scene.strata if belongs(self.release, stratum))

    def as_dict(self) -> dict[str, object]:
        """What the record says of it."""
        decision, shadow = self.decision, self.watch.shadow
        return {
            "strata": [s.as_dict() for s in self.strata],
            "verdict": self.verdict.as_dict(),
            "decision": type(decision).__name__.lower(),
            "why": decision.why,
            "observed_pct": self.scene.split.canary_pct,
            "generation": list(self.scene.split.generation),
            **({"asks": decision.asks.as_dict()} if isinstance(decision, Hold) and decision.asks else {}),
            **({"shadow": shadow.as_dict()} if shadow != ShadowState() else {}),
        }

    def recorded(self, release: Release) -> Release:
        """The release with this look in its record."""
        return release.record(self.scene.now.wall_s, "looked", **self.as_dict())


@dataclass(frozen=True)
class Controller:
    """Who holds a service's lock, with everything a look needs."""

    ports: Ports
    plan: RolloutSpec
    token: Token
    clock: Callable[[], Now]
    on_look: Callable[[Look], None] = lambda _: None
    timeout_s: float = ServeSpec().timeout_s
    """How long the gateway waits for one answer."""


def drive(
    ctl: Controller,
    release: Release,
    sleep: Callable[[float], None],
    *,
    leave: frozenset[Phase],
    after_look: Callable[[Release], None] = lambda _: None,
) -> Release:
    """Look again and again until the release is ended or enters a phase in `leave`.

    A dependency that is down is asked again at the next look (nobody renews the lease meanwhile, so the gateway goes
    home by itself if this lasts), and not for ever: DependencyDown in the end. StaleWriter ends the controller:
    somebody else holds the service now.
    """
    ctl, watch = _on_steady_time(ctl, release), replay(ctl.plan, release)
    heard_s = ctl.clock().mono_s
    while not (release.is_ended or release.phase in leave):
        try:
            release, watch = look(ctl, release, watch)
            heard_s = ctl.clock().mono_s
        except DependencyDown as error:
            if ctl.clock().mono_s - heard_s > TROUBLE_S:
                return _given_up(ctl, release, error)
            release = _reread(ctl, release)
            watch = replay(ctl.plan, release).after_trouble(watch)
            ctl.ports.notifier.send(release, f"waiting: {error}")
        after_look(release)
        if not (release.is_ended or release.phase in leave):
            sleep(0.0 if is_replaying(ctl.plan, release) else ctl.plan.look_s)
    return release


def _given_up(ctl: Controller, release: Release, error: DependencyDown) -> Release:
    """A way home whose parked version never got ready is over, and what serves goes on; the rest is left as it is."""
    if not release.is_way_home:
        raise error
    return abandon(ctl.ports, release, f"not carried out within {TROUBLE_S:g} s: {error}", ctl.clock())


def _on_steady_time(ctl: Controller, release: Release) -> Controller:
    """The controller on a clock that no jump of the wall clock moves: durations are monotonic, from the record on."""
    began = ctl.clock()
    since_s = max(began.wall_s, release.events[-1].at_s)

    def steady() -> Now:
        mono_s = ctl.clock().mono_s
        return Now(since_s + mono_s - began.mono_s, mono_s)

    return replace(ctl, clock=steady)


def look(ctl: Controller, release: Release, watch: Watch) -> tuple[Release, Watch]:
    """One look: the release and the watch after it."""
    now = ctl.clock()
    if release.phase is Phase.PROMOTING:
        return _promote_on(ctl, release, now), watch
    scene = read_scene(ctl.ports, release, watch, now)
    release, watch = _adopt_share(ctl, release, watch, scene)
    watch = watch.read(ctl.plan, release, scene.strata, now.mono_s)
    release, watch, scene = _replay_on(ctl, release, watch, scene)
    seen = _judge(ctl, release, watch, _without_late_words(ctl, release, scene))
    ctl.on_look(seen)
    return _act(ctl, seen)


def _promote_on(ctl: Controller, release: Release, now: Now) -> Release:
    """Users have met what is being promoted: nothing is judged any more, and what was begun is finished."""
    _answer(ctl, release, ctl.ports.inbox.pending(release.id))
    go_on = carry_on if release.is_way_home else resume_promotion
    return go_on(ctl.ports, release, ctl.token, now)


def _adopt_share(ctl: Controller, release: Release, watch: Watch, scene: Scene) -> tuple[Release, Watch]:
    """A share that was intended and is seen, but was never confirmed, is ours: the last controller died in between."""
    share, now = share_of_ours(release, scene.split), scene.now
    if release.intended_pct == release.confirmed_pct or abs(share - release.intended_pct) > SAME_SHARE or share == 0:
        return release, watch
    generation = list(scene.split.generation)
    adopted = release.record(now.wall_s, "exposed", pct=share, generation=generation, adopted=True)
    intent = release.last("exposing")
    step = int(intent.data["step"]) if intent else 0
    return _save(ctl, release, _enter_step(ctl, adopted, step, now, "adopted from the router")), watch.new_step()


def _replay_on(ctl: Controller, release: Release, watch: Watch, scene: Scene) -> tuple[Release, Watch, Scene]:
    """The next part of a replay, where one is left. It is slow: what was read before it is read again."""
    release = begin_replay(ctl.ports, ctl.plan, release, watch, ctl.clock().wall_s)
    if not may_ask(ctl.plan, release, scene):
        return release, watch, scene
    part = ask_part(ctl.ports, ctl.plan, release, scene, ctl.timeout_s, ctl.clock)
    later = read_again(ctl.ports, release, scene)
    if part is None or was_stable_lost(release, scene, later):
        return release, watch, later
    replayed = release.record(ctl.clock().wall_s, "replayed", **part)
    return _save(ctl, release, replayed), watch.replayed(part), later


def _without_late_words(ctl: Controller, release: Release, scene: Scene) -> Scene:
    """The words that still count. One that came too late is answered by not being obeyed."""
    try:
        for command in scene.words:
            if came_too_late(release, command):
                ctl.ports.inbox.done(command.id)
    except DependencyDown:
        return replace(scene, words=())
    return replace(scene, words=tuple(command for command in scene.words if not came_too_late(release, command)))


def _judge(ctl: Controller, release: Release, watch: Watch, scene: Scene) -> Look:
    """What follows from this world? Nothing is read here, and nothing done."""
    canary = scene.servers[release.sealed.bundle_digest]
    watch = watch.seen(ready=not canary.down_reason, has_users=share_of_ours(release, scene.split) > 0)
    verdict = judge_canary(canary_plan(ctl.plan, release), watch.judge)
    situation = situation_of(ctl.plan, release, watch, scene, verdict, ctl.timeout_s)
    return Look(release, watch, scene, verdict, decide(ctl.plan, release, situation))


def _act(ctl: Controller, seen: Look) -> tuple[Release, Watch]:
    """Do what was decided, in the order that keeps users safe, and record it."""
    release, watch, decision = seen.release, seen.watch, seen.decision
    match decision:
        case RollBack():
            send_home(ctl.ports, release, ctl.token)
            release = _obeyed(ctl, release, seen)
            release = end_at_home(ctl.ports, release, decision, seen.as_dict(), seen.scene.now)
        case Promote():
            looked = _save(ctl, release, seen.recorded(release))
            release = promote(ctl.ports, _obeyed(ctl, looked, seen), ctl.token, decision.why, seen.scene.now)
        case Advance():
            release, watch = _advance(ctl, _obeyed(ctl, release, seen), decision, seen)
        case Hold():
            if watch.unready_looks == 0:  # who does not answer keeps its users only as long as it was promised
                _renew(ctl, seen)
            release, watch = _hold(ctl, decision, seen)
    _answer(ctl, release, (seen.command,) if seen.command else ())
    return release, watch


def _hold(ctl: Controller, decision: Hold, seen: Look) -> tuple[Release, Watch]:
    """Record what was seen, where anything was, and what is asked, where that is new.

    Whose share was lost and who asks before he begins again is interrupted from here on: what was approved before is
    not approved any more.
    """
    release = seen.release
    if decision.asks and has_lost_its_share(release, seen.share):
        before = _obeyed(ctl, release, seen)
        lost = before.record(seen.scene.now.wall_s, "interrupted", why=decision.why)
        return _save(ctl, before, seen.recorded(lost)), seen.watch.new_step()
    is_new = decision.asks is not None and decision.asks != release.asks
    kept = seen.recorded(release) if seen.strata or is_new else release
    return _obeyed(ctl, _save(ctl, release, kept), seen), seen.watch


def _advance(ctl: Controller, release: Release, decision: Advance, seen: Look) -> tuple[Release, Watch]:
    """Raise (or restart) the canary's share: intent first, then the router, then what the router shows."""
    at_s, before = seen.scene.now.wall_s, release
    release = seen.recorded(release)
    if not release.of_kind("judging"):
        release = release.record(at_s, "judging", **declaration(ctl.plan, seen.watch))
    if has_lost_its_share(release, seen.share):
        release = release.record(at_s, "interrupted", why=decision.why)
    release = release.record(at_s, "exposing", pct=decision.pct, step=decision.step, why=decision.why)
    release = _save(ctl, before, release)
    shown = _set_share(ctl, release, seen.scene, decision.pct)
    exposed = release.record(ctl.clock().wall_s, "exposed", pct=decision.pct, generation=list(shown.generation))
    exposed = _enter_step(ctl, exposed, decision.step, ctl.clock(), decision.why)
    ctl.ports.notifier.send(exposed, f"{decision.pct:g} % of the traffic: {decision.why}")
    return _save(ctl, release, exposed), seen.watch.new_step()


def _enter_step(ctl: Controller, release: Release, step: int, now: Now, why: str) -> Release:
    baking = step >= len(ctl.plan.steps)
    return release.enter(Phase.BAKING if baking else Phase.CANARY, now.wall_s, step=step, why=why)


def _renew(ctl: Controller, seen: Look) -> None:
    if seen.share > 0:
        _set_share(ctl, seen.release, seen.scene, seen.share)


def _set_share(ctl: Controller, release: Release, scene: Scene, pct: float) -> TrafficSplit:
    """DependencyDown where the canary was not ready in this scene."""
    canary = scene.servers[release.sealed.bundle_digest].arm()
    return set_share(ctl.ports, release, ctl.token, scene.split.shared(canary, pct, ctl.plan.lease_s))


def _obeyed(ctl: Controller, release: Release, seen: Look) -> Release:
    """Record a person's word; one that had to wait, because stable is dead, is asked again."""
    command = seen.command
    if command is None or (isinstance(seen.decision, Hold) and command.verb in MOVING_VERBS):
        return release
    return _save(ctl, release, record_command(release, command, seen.scene.now))


def _answer(ctl: Controller, release: Release, heard: tuple[Command, ...]) -> None:
    """Take the words out of the inbox that were obeyed; before that, a controller's death would lose them."""
    for command in heard:
        if has_recorded(release, command):
            ctl.ports.inbox.done(command.id)


def _save(ctl: Controller, before: Release, after: Release) -> Release:
    if after.version > before.version:
        ctl.ports.ledger.save(after, before.version)
    return after


def _reread(ctl: Controller, release: Release) -> Release:
    """What the ledger holds, where it answers: the look that failed may have recorded its strata or its intent."""
    try:
        return ctl.ports.ledger.load(release.id)
    except DependencyDown:
        return release
