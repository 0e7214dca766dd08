"""Which release that waits shall `up` begin now? One whose service is free, and that no living command waits for."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from flows.control.holders import is_dead
from flows.orders.queueing import awaited, drop
from pipelines.errors import NotFound, ShipwayError
from pipelines.home import Home
from pipelines.ports import Now, Ports
from pipelines.records.queue import Ticket

log = logging.getLogger("shipway.queue")

MOST_TRIES = 20
LONGEST_PAUSE_S = 300.0
"""A start that keeps failing, because MLflow is down for instance, is tried again for about an hour."""


class StartedRelease(Protocol):
    """A process that begins a release."""

    def poll(self) -> int | None:
        """Its exit code, or None while it runs."""
        ...


@dataclass(frozen=True)
class _Try:
    worker: StartedRelease
    count: int
    next_s: float


class WaitingReleases:
    """Begins what waits, one look at a time."""

    def __init__(self, ports: Ports, start: Callable[[Ticket], StartedRelease]) -> None:
        self._ports = ports
        self._start = start
        self._tries: dict[str, _Try] = {}
        self._said: dict[str, str] = {}

    def look(self, now: Now) -> None:
        """Start what may begin. One ticket that cannot be begun holds up no other."""
        tickets = self._ports.queue.tickets()
        self._tries = {ticket.id: self._tries[ticket.id] for ticket in tickets if ticket.id in self._tries}
        for ticket in tickets:
            try:
                self._look_at(ticket, now)
            except ShipwayError as error:
                self._warn(ticket, str(error))

    def _look_at(self, ticket: Ticket, now: Now) -> None:
        last = self._tries.get(ticket.id)
        if (ticket.waiter and not is_dead(ticket.waiter)) or (last and last.worker.poll() is None):
            return
        if self._is_begun(ticket):
            self._ports.queue.take(ticket.id)
        elif (last is None or now.mono_s >= last.next_s) and awaited(self._ports, ticket.service) is None:
            self._begin(ticket, last.count if last else 0, now)

    def _warn(self, ticket: Ticket, why: str) -> None:
        """Once, and not twice a second."""
        if self._said.get(ticket.service) != f"{ticket.id} waits: {why}":
            self._said[ticket.service] = f"{ticket.id} waits: {why}"
            log.warning("%s waits: %s", ticket.id, why)

    def _is_begun(self, ticket: Ticket) -> bool:
        """Its worker died between the record and the queue."""
        try:
            return bool(self._ports.ledger.load(ticket.id).id)
        except NotFound:
            return False

    def _begin(self, ticket: Ticket, tries: int, now: Now) -> None:
        if tries >= MOST_TRIES:
            drop(self._ports, ticket, f"it was queued, and could not begin in {tries} tries")
            log.warning("%s could not begin in %s tries", ticket.id, tries)
            return
        log.info("beginning %s, which waited for %s", ticket.id, ticket.service)
        pause_s = min(2.0 ** (tries + 1), LONGEST_PAUSE_S)
        self._tries[ticket.id] = _Try(self._start(ticket), tries + 1, now.mono_s + pause_s)


def start_worker(home: Home, ticket: Ticket) -> StartedRelease:
    """A process of its own, which needs Prefect and torch; it lives on where `up` ends."""
    command = [sys.executable, "-m", "flows.cli", "begin", ticket.id]
    folder = home.root / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{ticket.id}.log").open("ab") as out:
        return subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True)
