"""How does a newer release take the place of one that no user has met?

By an abort that says so: where users meet the candidate before it is heard, it is not obeyed, and the newer one is
refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from flows.control.holders import holder, living_holder
from flows.control.lock import busy, hold
from flows.control.opening import check_turn
from flows.wiring import clock
from pipelines.errors import Busy
from pipelines.ports import Command, Ports
from pipelines.records.queue import Ticket
from pipelines.records.reading import unfinished
from pipelines.records.release import Release
from pipelines.rollout.obeying import abort_unseen
from pipelines.rollout.words import UNSEEN


def refuse_met(ports: Ports, releases: Sequence[Release]) -> None:
    """Busy where users may have met one of them."""
    for release in releases:
        if release.is_exposed:
            raise busy(ports, release, "; users have met it, so that it is not superseded")


def supersede(ports: Ports, ticket: Ticket) -> None:
    """Order whatever holds the ticket's service to end. Safe to call again; Busy where users have met it.

    A newer one, which replaced this ticket before it began, is never ordered to end: what runs is read first, and then
    whether the ticket still waits. Busy E_REPLACED or Withdrawn where it does not.
    """
    running = unfinished(ports.ledger, ticket.service)
    check_turn(ports, ticket.service, ticket)
    for release in running:
        refuse_met(ports, (release,))
        ports.inbox.send(_word(ticket, release))
        if living_holder(ports, ticket.service, clock()) is None:
            _abort_orphan(ports, release)


def take_back(ports: Ports, ticket: Ticket) -> None:
    """What was ordered for this ticket and not obeyed yet is not wanted any more."""
    for release in unfinished(ports.ledger, ticket.service):
        ports.inbox.done(_word(ticket, release).id)


def _word(ticket: Ticket, release: Release) -> Command:
    why = f"superseded by {ticket.id}"
    return Command(f"{release.id}-by-{ticket.id}", release.id, "abort", ticket.actor, why, UNSEEN)


def _abort_orphan(ports: Ports, release: Release) -> None:
    """Nobody controls it: end it under its service's lock, as it is then."""
    with suppress(Busy), hold(ports, release.service, holder("supersede")):
        found = ports.ledger.load(release.id)
        if not (found.is_ended or found.is_exposed):
            abort_unseen(ports, found, clock())
