"""What happens to a person's word when no controller lives? Traffic goes home at once."""

from __future__ import annotations

from flows.holding import hold
from flows.wiring import clock, holder
from flows.working import abort_unseen, is_exposed
from pipelines.ending import go_home
from pipelines.ports import Ports
from pipelines.release import Phase, Release
from pipelines.rollout import RollBack
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
        end = Phase.ABORTED if command.verb == "abort" and release.phase is not Phase.PROMOTING else Phase.ROLLED_BACK
        said = record_command(release, command, clock())
        ports.ledger.save(said, release.version)
        ended = go_home(ports, said, held.token, RollBack(f"{command.verb} by {command.actor}", end), {}, clock())
        ports.inbox.done(command.id)
        return ended
