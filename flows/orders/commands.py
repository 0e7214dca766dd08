"""What happens to a person's word when no controller lives, or no word can be left? Traffic goes home at once."""

from __future__ import annotations

from flows.control.holders import holder
from flows.control.lock import hold
from flows.wiring import clock
from flows.working import abort_unseen, is_exposed
from pipelines.errors import DependencyDown
from pipelines.ports import Command, Ports, Token
from pipelines.records.release import Phase, Release
from pipelines.records.split import TrafficSplit
from pipelines.rollout.decision import RollBack, possible_end
from pipelines.rollout.ending import end_at_home, stable_before, take_back
from pipelines.rollout.way_home import abandon, carry_on
from pipelines.rollout.words import record_command
from pipelines.services.traffic import make_stable, send_home
from pipelines.services.units import servers_of


def obey_now(ports: Ports, release: Release) -> Release:
    """Abort or roll back a release that nobody controls: its traffic first, then its record."""
    with hold(ports, release.service, holder("command")) as held:
        release = ports.ledger.load(release.id)
        if release.is_ended:
            return release
        if not is_exposed(release):
            return abort_unseen(ports, release)
        if release.is_way_home:
            return _finish_way_home(ports, release, held.token)
        _take_home(ports, release, held.token)
        command = ports.inbox.pending(release.id)[-1]
        said = record_command(release, command, clock())
        if said.version > release.version:
            ports.ledger.save(said, release.version)
        ended = _end(ports, said, held.token, command)
        ports.inbox.done(command.id)
        return ended


def _take_home(ports: Ports, release: Release, token: Token) -> None:
    """The router alone: a ledger that cannot be written holds up nothing."""
    if release.phase is Phase.PROMOTING:
        make_stable(ports, release.service, stable_before(release), token, f"{release.id}: taken back")
    else:
        refuse_dead_home(ports, release.service, ports.router.read(release.service))
        send_home(ports, release, token)


def _finish_way_home(ports: Ports, release: Release, token: Token) -> Release:
    """The order stands, whoever says it again, and traffic is first; an abort ends one that has not moved any yet."""
    waiting = ports.inbox.pending(release.id)
    stable = ports.router.read(release.service).stable
    has_moved = stable is not None and stable.digest == release.sealed.bundle_digest
    off = next((command for command in waiting if command.verb == "abort"), None)
    if off is not None and not has_moved:
        ended = abandon(ports, release, off.said, clock())
    else:
        ended = carry_on(ports, release, token, clock())
    said = ended
    for command in waiting:
        said = record_command(said, command, clock())
    ports.ledger.save(said, ended.version)
    for command in waiting:
        ports.inbox.done(command.id)
    return said


def _end(ports: Ports, release: Release, token: Token, command: Command) -> Release:
    why = command.said
    if release.phase is Phase.PROMOTING:
        return take_back(ports, release, token, why, clock())
    end = Phase.ABORTED if command.verb == "abort" else possible_end(release, Phase.ROLLED_BACK)
    return end_at_home(ports, release, RollBack(why, end), {}, clock())


def home_unrecorded(ports: Ports, service: str) -> TrafficSplit:
    """All traffic to stable by the gateway alone, where no word can be recorded.

    It is written under the fence that holds: the controller, if one lives, sees a share that it did not lower, and
    cannot raise it again before it can write its intent down.
    """
    split = ports.router.read(service)
    if split.canary is None:
        return split
    refuse_dead_home(ports, service, split)
    fence, n = split.generation
    return ports.router.write(service, split.home((fence, n + 1), "ordered home, unrecorded"), split.generation)


def refuse_dead_home(ports: Ports, service: str, split: TrafficSplit) -> None:
    """DependencyDown where stable cannot serve: traffic never moves to a dead arm."""
    dead = servers_of(ports, service, split.stable.digest).dead_reason if split.stable is not None else ""
    if dead and split.canary is not None:
        raise DependencyDown(
            f"stable is down ({dead}): traffic does not move to a dead arm",
            code="E_STABLE_DOWN",
            field=service,
            hint="shipway up restarts it; say it again then",
        )
