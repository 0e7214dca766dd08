"""What happens to a person's word when no controller lives? Traffic goes home at once."""

from __future__ import annotations

from flows.holding import hold
from flows.wiring import clock, holder
from flows.working import abort_unseen, is_exposed
from pipelines.ending import go_home, take_back
from pipelines.errors import DependencyDown
from pipelines.ports import Command, Ports, Token
from pipelines.release import Phase, Release
from pipelines.rollout import RollBack, possible_end
from pipelines.tick import record_command
from pipelines.units import dead_reason


def obey_now(ports: Ports, release: Release) -> Release:
    """Abort or roll back a release that nobody controls."""
    with hold(ports, release.service, holder("command")) as held:
        release = ports.ledger.load(release.id)
        if release.is_ended:
            return release
        if not is_exposed(release):
            return abort_unseen(ports, release)
        command = ports.inbox.pending(release.id)[-1]
        said = record_command(release, command, clock())
        if said.version > release.version:
            ports.ledger.save(said, release.version)
        ended = _take_home(ports, said, held.token, command)
        ports.inbox.done(command.id)
        return ended


def _refuse_dead_home(ports: Ports, release: Release) -> None:
    """Traffic does not move to a dead arm: the word waits in the inbox for whoever takes over."""
    split = ports.router.read(release.service)
    why = dead_reason(ports, release.service, split.stable.digest) if split.stable and split.canary_pct > 0 else ""
    if why:
        raise DependencyDown(f"stable is down ({why}): the word is obeyed once it is back", code="E_NOT_READY")


def _take_home(ports: Ports, release: Release, token: Token, command: Command) -> Release:
    why = f"{command.verb} by {command.actor}"
    if release.phase is Phase.PROMOTING:
        return take_back(ports, release, token, why, clock())
    _refuse_dead_home(ports, release)
    end = Phase.ABORTED if command.verb == "abort" else possible_end(release, Phase.ROLLED_BACK)
    return go_home(ports, release, token, RollBack(why, end), {}, clock())
