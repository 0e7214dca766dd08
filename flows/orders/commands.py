"""What happens to a person's word when no controller lives? It is obeyed at once, under the service's lock."""

from __future__ import annotations

from flows.control.holders import holder
from flows.control.lock import hold
from flows.wiring import clock
from pipelines.ports import Ports
from pipelines.records.release import Release
from pipelines.rollout.obeying import obey


def obey_now(ports: Ports, release: Release) -> Release:
    """Abort or roll back a release that nobody controls: its traffic first, then its record."""
    with hold(ports, release.service, holder("command")) as held:
        release = ports.ledger.load(release.id)
        return release if release.is_ended else obey(ports, release, held.token, clock())
