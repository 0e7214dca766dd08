"""What does a word do that no controller hears? Traffic first, then the record; what no user met has only a record.

Whoever calls these holds the service's lock and has read the release under it. `home_unrecorded` alone needs neither:
it is the last way home, where nothing can be written down.
"""

from __future__ import annotations

from pipelines.errors import DependencyDown
from pipelines.ports import Command, Now, Ports, Token
from pipelines.records.release import Phase, Release
from pipelines.records.split import TrafficSplit
from pipelines.rollout.decision import RollBack, possible_end
from pipelines.rollout.ending import end_at_home, stable_before, take_back
from pipelines.rollout.way_home import abandon, carry_on
from pipelines.rollout.words import record_command
from pipelines.services.change import forget_candidate
from pipelines.services.traffic import make_stable, send_home
from pipelines.services.units import servers_of


def obey(ports: Ports, release: Release, token: Token, now: Now) -> Release:
    """Abort or roll back a release that nobody controls, as the newest word of its inbox says."""
    if not release.is_exposed:
        return abort_unseen(ports, release, now)
    if release.is_way_home:
        return _finish_way_home(ports, release, token, now)
    _take_home(ports, release, token)
    command = ports.inbox.pending(release.id)[-1]
    said = record_command(release, command, now)
    if said.version > release.version:
        ports.ledger.save(said, release.version)
    ended = _end(ports, said, token, command, now)
    ports.inbox.done(command.id)
    return ended


def abort_unseen(ports: Ports, release: Release, now: Now) -> Release:
    """End a release that no user has met: nothing to move, only to record."""
    said, heard = release, ports.inbox.pending(release.id)
    for command in heard:
        said = record_command(said, command, now)
    if said.version > release.version:
        ports.ledger.save(said, release.version)
    ended = end_at_home(ports, said, RollBack(_last_word(said), Phase.ABORTED), {}, now)
    forget_candidate(ports, ended)
    for command in heard:
        ports.inbox.done(command.id)
    return ended


def hold_unseen(ports: Ports, release: Release, why: str, now: Now) -> Release:
    """End a release that no user has met, because nobody can go on with it."""
    if release.is_ended:
        return release
    ended = end_at_home(ports, release, RollBack(why, Phase.HELD), {}, now)
    forget_candidate(ports, ended)
    return ended


def home_unrecorded(ports: Ports, service: str) -> TrafficSplit:
    """All traffic to stable by the gateway alone, where no word can be recorded.

    It is written under the fence that holds: the controller, if one lives, sees a share that it did not lower, and
    cannot raise it again before it can write its intent down.
    """
    split = ports.router.read(service)
    if split.canary is None:
        return split
    _refuse_dead_home(ports, service, split)
    fence, n = split.generation
    return ports.router.write(service, split.home((fence, n + 1), "ordered home, unrecorded"), split.generation)


def _take_home(ports: Ports, release: Release, token: Token) -> None:
    """The router alone: a ledger that cannot be written holds up nothing."""
    if release.phase is Phase.PROMOTING:
        make_stable(ports, release.service, stable_before(release), token, f"{release.id}: taken back")
    else:
        _refuse_dead_home(ports, release.service, ports.router.read(release.service))
        send_home(ports, release, token)


def _refuse_dead_home(ports: Ports, service: str, split: TrafficSplit) -> None:
    """DependencyDown where stable cannot serve: traffic never moves to a dead arm."""
    dead = servers_of(ports, service, split.stable.digest).dead_reason if split.stable is not None else ""
    if dead and split.canary is not None:
        raise DependencyDown(
            f"stable is down ({dead}): traffic does not move to a dead arm",
            code="E_STABLE_DOWN",
            field=service,
            hint="shipway up restarts it; say it again then",
        )


def _finish_way_home(ports: Ports, release: Release, token: Token, now: Now) -> Release:
    """The order stands, whoever says it again, and traffic is first; an abort ends one that has not moved any yet."""
    waiting = ports.inbox.pending(release.id)
    stable = ports.router.read(release.service).stable
    has_moved = stable is not None and stable.digest == release.sealed.bundle_digest
    off = next((command for command in waiting if command.verb == "abort"), None)
    if off is not None and not has_moved:
        ended = abandon(ports, release, off.said, now)
    else:
        ended = carry_on(ports, release, token, now)
    said = ended
    for command in waiting:
        said = record_command(said, command, now)
    ports.ledger.save(said, ended.version)
    for command in waiting:
        ports.inbox.done(command.id)
    return said


def _end(ports: Ports, release: Release, token: Token, command: Command, now: Now) -> Release:
    if release.phase is Phase.PROMOTING:
        return take_back(ports, release, token, command.said, now)
    end = Phase.ABORTED if command.verb == "abort" else possible_end(release, Phase.ROLLED_BACK)
    return end_at_home(ports, release, RollBack(command.said, end), {}, now)


def _last_word(release: Release) -> str:
    said = release.last("commanded")
    if said is None:
        return "stopped"
    return f"{said.data['verb']} by {said.data['actor']}" + (f": {said.data['reason']}" if said.data["reason"] else "")
