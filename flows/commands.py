"""What happens to a person's word when no controller lives? Traffic goes home at once."""

from __future__ import annotations

from flows.holding import hold
from flows.wiring import clock, holder
from flows.working import abort_unseen, is_exposed
from pipelines.ending import go_home, take_back
from pipelines.ports import Command, Ports, Token
from pipelines.release import Phase, Release
from pipelines.rollout import RollBack, possible_end
from pipelines.tick import record_command


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


def _take_home(ports: Ports, release: Release, token: Token, command: Command) -> Release:
    why = f"{command.verb} by {command.actor}"
    if release.phase is Phase.PROMOTING:
        return take_back(ports, release, token, why, clock())
    end = Phase.ABORTED if command.verb == "abort" else possible_end(release, Phase.ROLLED_BACK)
    return go_home(ports, release, token, RollBack(why, end), {}, clock())
