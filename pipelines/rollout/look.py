"""One look at a running release: see, judge, decide, act, record.

`look` is the only place where a canary's share changes. It holds the design's order of effects: *record before
raising exposure, act before recording when lowering it*, and believes the router, not its own memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from evals.canary.judgement import CanaryVerdict, judge_canary
from evals.signals.shadowing import ShadowState
from evals.signals.strata import Stratum
from pipelines.errors import DependencyDown
from pipelines.ports import Command, Now, Ports, StrataQuery, Token
from pipelines.records.release import Phase, Release
from pipelines.records.split import TrafficSplit
from pipelines.rollout.decision import Advance, Decision, Hold, Promote, RollBack, Situation, decide, has_lost_its_share
from pipelines.rollout.ending import end_at_home, promote, resume_promotion
from pipelines.rollout.replay import is_replaying, replay_on, replayed_so_far
from pipelines.rollout.watch import Watch, belongs, canary_plan, declaration, replay
from pipelines.rollout.way_home import abandon, carry_on
from pipelines.rollout.words import HOMEWARD_VERBS, MOVING_VERBS, came_too_late, has_recorded, record_command
from pipelines.services.traffic import SAME_SHARE, send_home, set_share, share_of_ours
from pipelines.services.units import dead_reason, down_reason, exits_of, gateway_name, replicas_of
from pipelines.spec.rollout import RolloutSpec
from pipelines.spec.serve import ServeSpec

TROUBLE_S = 900.0
"""A controller that could not finish a look for so long ends; its users are home long since, or serve on."""

UNREADY_LOOKS = 2
"""A live canary that misses one readiness probe on a busy machine is asked once more; a crash is believed at once."""


@dataclass(frozen=True)
class Look:
    """What one look saw and decided."""

    release: Release
    watch: Watch
    split: TrafficSplit
    verdict: CanaryVerdict
    decision: Decision
    url: str


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
        _answer(ctl, release, ctl.ports.inbox.pending(release.id))
        go_on = carry_on if release.is_way_home else resume_promotion
        return go_on(ctl.ports, release, ctl.token, now), watch
    split = ctl.ports.router.read(release.service)
    found, release = release, _adopt_share(ctl, release, split, now)
    watch = watch if release is found else watch.new_step()
    watch, strata, blind = _measure(ctl, release, watch, now)
    release, watch = replay_on(ctl.ports, ctl.plan, release, watch, ctl.timeout_s, ctl.clock)
    is_ready = not down_reason(ctl.ports, release.service, release.sealed.bundle_digest)
    watch = watch.seen(ready=is_ready, has_users=share_of_ours(release, split) > 0)
    command = _first_word(ctl, release)
    verdict = judge_canary(canary_plan(ctl.plan, release), watch.judge)
    situation = replace(_situation(ctl, release, watch, split, verdict, command, now), blind=blind)
    decision = decide(ctl.plan, release, situation)
    ctl.on_look(Look(release, watch, split, verdict, decision, situation.url))
    return _act(ctl, release, watch, _Seen(split, verdict, decision, strata, command, now, watch.shadow))


@dataclass(frozen=True)
class _Seen:
    split: TrafficSplit
    verdict: CanaryVerdict
    decision: Decision
    strata: tuple[Stratum, ...]
    command: Command | None
    now: Now
    shadow: ShadowState


def _adopt_share(ctl: Controller, release: Release, split: TrafficSplit, now: Now) -> Release:
    """A share that was intended and is seen, but was never confirmed, is ours: the last controller died in between."""
    share = share_of_ours(release, split)
    if release.intended_pct == release.confirmed_pct or abs(share - release.intended_pct) > SAME_SHARE or share == 0:
        return release
    adopted = release.record(now.wall_s, "exposed", pct=share, generation=list(split.generation), adopted=True)
    intent = release.last("exposing")
    step = int(intent.data["step"]) if intent else 0
    return _save(ctl, release, _enter_step(ctl, adopted, step, now, "adopted from the router"))


def _measure(ctl: Controller, release: Release, watch: Watch, now: Now) -> tuple[Watch, tuple[Stratum, ...], str]:
    """The watch after what is new, the new strata of this release, and why there are none where the source is down."""
    blind = ""
    strata: tuple[Stratum, ...] = ()
    try:
        strata = ctl.ports.metrics.measure(StrataQuery(release.service, watch.after, watch.boot), now)
    except DependencyDown as error:
        blind = str(error)
    watch = watch.heard(now.mono_s, anything=bool(strata)).labelled(strata)
    ours = tuple(s for s in strata if belongs(release, s))
    watch = watch.absorb(ctl.plan, ours)
    if strata:
        watch = replace(watch, boot=strata[-1].boot, after=strata[-1].interval)
    return watch, ours, blind


def _first_word(ctl: Controller, release: Release) -> Command | None:
    """Which word is obeyed at this look? The oldest, but one that sends home is heard before any other.

    What came too late is answered by not being obeyed. Where words cannot be read the look goes on: harm does not wait
    for a database.
    """
    try:
        waiting = ctl.ports.inbox.pending(release.id)
        for command in waiting:
            if came_too_late(release, command):
                ctl.ports.inbox.done(command.id)
    except DependencyDown:
        return None
    waiting = tuple(command for command in waiting if not came_too_late(release, command))
    return min(waiting, key=lambda command: command.verb not in HOMEWARD_VERBS, default=None)


def _situation(
    ctl: Controller,
    release: Release,
    watch: Watch,
    split: TrafficSplit,
    verdict: CanaryVerdict,
    command: Command | None,
    now: Now,
) -> Situation:
    share = share_of_ours(release, split)
    starting = _restarting(ctl, release) if share == 0 and not watch.is_hung else ""
    # A canary without users gets no second look: it must be ready before it meets them.
    patience_looks = math.inf if starting else UNREADY_LOOKS if share > 0 or watch.is_hung else 1
    return Situation(
        now_s=now.wall_s,
        observed_pct=share,
        verdict=verdict,
        step_requests=watch.step_requests,
        requests_per_s=watch.requests_per_s,
        replaying=replayed_so_far(ctl.plan, release),
        canary_down=_canary_down(ctl, release, watch, patience_looks),
        canary_starting=starting,
        stable_down=dead_reason(ctl.ports, release.service, split.stable.digest) if split.stable else "",
        command=command,
        url=ctl.ports.runtime.status(gateway_name(release.service)).url,
        # A stratum waits for its slowest request, so that much silence is in order.
        silent_s=watch.silent_s(now.mono_s) - ctl.timeout_s,
    )


def _restarting(ctl: Controller, release: Release) -> str:
    """Why a canary that was interrupted, or waits for approval, is not ready yet.

    Whoever stopped everything (`down`, a reboot) accuses nobody.
    """
    seen = replicas_of(ctl.ports, release.service, release.sealed.bundle_digest)
    unready = [s for s in seen if s.state != "ready"]
    was_ready = release.confirmed_pct > 0 or release.asked_since_s is not None
    interrupted = was_ready and unready and all(s.state == "starting" for s in unready)
    return f"starting: {unready[0].reason or 'not ready yet'}" if interrupted else ""


def _canary_down(ctl: Controller, release: Release, watch: Watch, patience_looks: float) -> str:
    """Why the canary cannot serve: it exited since it was staged, or was not ready at so many looks in a row."""
    digest = release.sealed.bundle_digest
    staged = release.last("staged")
    exits = exits_of(ctl.ports, release.service, digest) - (int(staged.data["exits"]) if staged else 0)
    if exits > 0:
        return f"it exited {exits} time(s) since it was staged"
    return down_reason(ctl.ports, release.service, digest) if watch.unready_looks >= patience_looks else ""


def _act(ctl: Controller, release: Release, watch: Watch, seen: _Seen) -> tuple[Release, Watch]:
    decision = seen.decision
    match decision:
        case RollBack():
            send_home(ctl.ports, release, ctl.token)
            release = _obeyed(ctl, release, seen)
            release = end_at_home(ctl.ports, release, decision, _look_data(seen), seen.now)
        case Promote():
            looked = _save(ctl, release, _looked(release, seen))
            release = promote(ctl.ports, _obeyed(ctl, looked, seen), ctl.token, decision.why, seen.now)
        case Advance():
            release, watch = _advance(ctl, _obeyed(ctl, release, seen), watch, decision, seen)
        case Hold():
            if watch.unready_looks == 0:  # who does not answer keeps its users only as long as it was promised
                _renew(ctl, release, seen.split)
            release, watch = _hold(ctl, release, watch, decision, seen)
    _answer(ctl, release, (seen.command,) if seen.command else ())
    return release, watch


def _hold(ctl: Controller, release: Release, watch: Watch, decision: Hold, seen: _Seen) -> tuple[Release, Watch]:
    """Record what was seen, where anything was, and what is asked, where that is new.

    Whose share was lost and who asks before he begins again is interrupted from here on: what was approved before is
    not approved any more.
    """
    if decision.asks and has_lost_its_share(release, share_of_ours(release, seen.split)):
        before = _obeyed(ctl, release, seen)
        release = before.record(seen.now.wall_s, "interrupted", why=decision.why)
        return _save(ctl, before, _looked(release, seen)), watch.new_step()
    is_new = decision.asks is not None and decision.asks != release.asks
    kept = _looked(release, seen) if seen.strata or is_new else release
    return _obeyed(ctl, _save(ctl, release, kept), seen), watch


def _advance(ctl: Controller, release: Release, watch: Watch, decision: Advance, seen: _Seen) -> tuple[Release, Watch]:
    """Raise (or restart) the canary's share: intent first, then the router, then what the router shows."""
    at_s, before = seen.now.wall_s, release
    release = _looked(release, seen)
    if not release.of_kind("judging"):
        release = release.record(at_s, "judging", **declaration(ctl.plan, watch))
    if has_lost_its_share(release, share_of_ours(release, seen.split)):
        release = release.record(at_s, "interrupted", why=decision.why)
    release = release.record(at_s, "exposing", pct=decision.pct, step=decision.step, why=decision.why)
    release = _save(ctl, before, release)
    shown = set_share(ctl.ports, release, ctl.token, seen.split, decision.pct, ctl.plan.lease_s)
    exposed = release.record(ctl.clock().wall_s, "exposed", pct=decision.pct, generation=list(shown.generation))
    exposed = _enter_step(ctl, exposed, decision.step, ctl.clock(), decision.why)
    ctl.ports.notifier.send(exposed, f"{decision.pct:g} % of the traffic: {decision.why}")
    return _save(ctl, release, exposed), watch.new_step()


def _enter_step(ctl: Controller, release: Release, step: int, now: Now, why: str) -> Release:
    baking = step >= len(ctl.plan.steps)
    return release.enter(Phase.BAKING if baking else Phase.CANARY, now.wall_s, step=step, why=why)


def _renew(ctl: Controller, release: Release, split: TrafficSplit) -> None:
    share = share_of_ours(release, split)
    if share > 0:
        set_share(ctl.ports, release, ctl.token, split, share, ctl.plan.lease_s)


def _obeyed(ctl: Controller, release: Release, seen: _Seen) -> Release:
    """Record a person's word; one that had to wait, because stable is dead, is asked again."""
    command = seen.command
    if command is None or (isinstance(seen.decision, Hold) and command.verb in MOVING_VERBS):
        return release
    return _save(ctl, release, record_command(release, command, seen.now))


def _answer(ctl: Controller, release: Release, heard: tuple[Command, ...]) -> None:
    """Take the words out of the inbox that were obeyed; before that, a controller's death would lose them."""
    for command in heard:
        if has_recorded(release, command):
            ctl.ports.inbox.done(command.id)


def _looked(release: Release, seen: _Seen) -> Release:
    return release.record(seen.now.wall_s, "looked", **_look_data(seen))


def _look_data(seen: _Seen) -> dict[str, object]:
    decision = seen.decision
    return {
        "strata": [s.as_dict() for s in seen.strata],
        "verdict": seen.verdict.as_dict(),
        "decision": type(decision).__name__.lower(),
        "why": decision.why,
        "observed_pct": seen.split.canary_pct,
        "generation": list(seen.split.generation),
        **({"asks": decision.asks.as_dict()} if isinstance(decision, Hold) and decision.asks else {}),
        **({"shadow": seen.shadow.as_dict()} if seen.shadow != ShadowState() else {}),
    }


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
