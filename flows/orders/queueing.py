"""Whose turn is it, where a second release is asked for while one runs?

It is refused, waits, or takes the other's place. Who waits has a ticket, of which a service has one: the newest. The
command that asked begins it, or `up` does (`up/waiting.py`), where that command said `--detach` or was killed. A
ticket's id becomes its release's, so that nothing is begun twice, and it names a version: what is released is what was
asked for.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from flows.control.holders import holder, living_holder
from flows.control.lock import Held, busy
from flows.control.opening import check_turn, new_id, opened
from flows.orders.superseding import refuse_met, supersede, take_back
from flows.wiring import actor, clock
from pipelines.errors import BadInput, Busy, ShipwayError, Withdrawn
from pipelines.home import Home
from pipelines.ports import Ports
from pipelines.records.queue import Ticket
from pipelines.records.reading import unfinished
from pipelines.records.release import Release
from pipelines.spec.release_spec import ReleaseSpec
from pipelines.stages.intake import AlreadyLive

POLL_S = 1.0
SUPERSEDE_S = 600.0
"""A step that is not heard of for so long, a large compression for instance, is not waited for."""


@dataclass(frozen=True)
class Turn:
    """What shall be opened: at once, or in the turn of its ticket."""

    spec: ReleaseSpec
    ticket: Ticket | None = None
    supersedes: bool = False


def line_up(asked: ReleaseSpec, policy: str, ports: Ports, data_dir: Path, force: str = "", *, detach: bool) -> Turn:
    """Does this release need a ticket, and who begins it? Reads only; Busy where nothing may be superseded."""
    if policy == "refuse":
        return Turn(asked)
    version = ports.registry.resolve(asked.model)
    pinned = asked.model_copy(update={"model": f"models:/{version.name}/{version.version}"})
    running = unfinished(ports.ledger, asked.service)
    for release in running:
        if release.spec_digest == pinned.digest():
            return Turn(pinned)
        if release.spec_digest == asked.digest() and release.sealed.version == version.version:
            return Turn(asked)
    if policy == "supersede":
        refuse_met(ports, running)
    is_left_to_up = detach and policy == "queue" and awaited(ports, asked.service) is not None
    waiter = "" if is_left_to_up else holder("release")
    folder = str(data_dir.absolute())
    now_s = clock().wall_s
    ticket = Ticket(new_id(asked.service), asked.service, pinned.as_dict(), folder, actor(), now_s, force, waiter)
    return Turn(pinned, ticket, policy == "supersede")


@contextmanager
def in_turn(
    turn: Turn,
    ports: Ports,
    home: Home,
    data_dir: Path,
    force: str,
    stop: threading.Event,
    tell: Callable[[str], None],
) -> Iterator[tuple[Release, Held]]:
    """The release under its service's lock, once it is its turn: Busy E_REPLACED where a newer one came, or Withdrawn.

    However the waiting ends, the ticket is gone then.
    """
    if turn.ticket is None:
        with opened(turn.spec, ports, home, data_dir, holder("release"), force) as opening:
            yield opening
        return
    with ExitStack() as stack:
        ports.queue.put(turn.ticket)
        try:
            opening = _when_free(stack, turn, turn.ticket, ports, home, stop, tell)
        finally:
            with suppress(ShipwayError):
                take_back(ports, turn.ticket)
                ports.queue.take(turn.ticket.id)
        yield opening


@contextmanager
def begun(ticket: Ticket, ports: Ports, home: Home) -> Iterator[tuple[Release, Held]]:
    """The release of a ticket that was left to `up`; one that cannot begin waits no more, and it is said why."""
    with ExitStack() as stack:
        try:
            spec = _spec_of(ticket)
            folder = Path(ticket.data_dir)
            opening = stack.enter_context(opened(spec, ports, home, folder, holder("release"), ticket.force, ticket))
        except (BadInput, AlreadyLive) as error:
            drop(ports, ticket, f"it was queued, and cannot begin: {error}")
            raise
        ports.queue.take(ticket.id)
        yield opening


def awaited(ports: Ports, service: str) -> Release | str | None:
    """The release that holds the service, or will be taken over; else the process that does; None where it is free."""
    running = unfinished(ports.ledger, service)
    return running[0] if running else living_holder(ports, service, clock())


def withdraw(ports: Ports, release_id: str, why: str) -> Ticket | None:
    """The ticket that a person took out of its queue; None where no such one waits."""
    found = next((ticket for ticket in ports.queue.tickets() if ticket.id == release_id), None)
    return found if found is not None and drop(ports, found, why) else None


def drop(ports: Ports, ticket: Ticket, why: str) -> bool:
    """It waits no more, and everybody hears why; False where it did not wait."""
    if not ports.queue.take(ticket.id):
        return False
    note = replace(Release().record(clock().wall_s, "queued"), id=ticket.id, service=ticket.service)
    ports.notifier.send(note, why)
    return True


def _when_free(
    stack: ExitStack,
    turn: Turn,
    ticket: Ticket,
    ports: Ports,
    home: Home,
    stop: threading.Event,
    tell: Callable[[str], None],
) -> tuple[Release, Held]:
    """Wait for the service, or take it from whom no user has met; whoever waits hears once for what."""
    ends_s = time.monotonic() + (SUPERSEDE_S if turn.supersedes else math.inf)
    told = ""
    while True:
        opening = _try(stack, turn, ticket, ports, home)
        if opening is not None:
            return opening
        other = awaited(ports, ticket.service)
        if turn.supersedes:
            supersede(ports, ticket)
        name = other.id if isinstance(other, Release) else other or ""
        if name not in {"", told}:
            told = name
            tell(_waits_for(ticket, other, supersedes=turn.supersedes))
        if stop.wait(POLL_S):
            raise Withdrawn(f"{ticket.id} was taken back: it waited for {ticket.service}, and nothing of it had begun")
        if time.monotonic() > ends_s and isinstance(other, Release):
            raise busy(ports, other, f"; it has not ended within {SUPERSEDE_S:g} s")


def _try(stack: ExitStack, turn: Turn, ticket: Ticket, ports: Ports, home: Home) -> tuple[Release, Held] | None:
    """The release, where it is its turn. None where the service is held, or another one was faster."""
    check_turn(ports, ticket.service, ticket)
    if awaited(ports, ticket.service) is not None:
        return None
    folder = Path(ticket.data_dir)
    try:
        return stack.enter_context(opened(turn.spec, ports, home, folder, ticket.waiter, ticket.force, ticket))
    except Busy as error:
        if error.code != Busy.default_code:
            raise
        return None


def _waits_for(ticket: Ticket, other: Release | str | None, *, supersedes: bool) -> str:
    if not isinstance(other, Release):
        return f"queued as {ticket.id}: waits for {other}"
    what = f"{other.id}, which is {other.phase}"
    return f"{ticket.id} supersedes {what}" if supersedes else f"queued as {ticket.id}: waits for {what}"


def _spec_of(ticket: Ticket) -> ReleaseSpec:
    """The spec that was asked for. BadInput where this Shipway does not know it any more."""
    try:
        return ReleaseSpec.model_validate_json(json.dumps(ticket.spec))
    except ValidationError as error:
        reason = f"its spec cannot be read any more: {error.errors()[0]['msg']}"
        raise BadInput(reason, field=ticket.id, hint="shipway release it again") from None
