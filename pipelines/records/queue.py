"""Which release waits for its service to be free? A port like those of `ports.py`, where it is wired."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True)
class Ticket:
    """A release that was asked for while another one ran, with everything that begins it.

    `id` will be the release's own. `spec` names a version, not an alias: what is released is what was asked for.
    `waiter` is the process that waits and will begin it; "" where `up` shall.
    """

    id: str
    service: str
    spec: Mapping[str, Any] = field(default_factory=dict)
    data_dir: str = ""
    actor: str = ""
    since_s: float = 0.0
    force: str = ""
    waiter: str = ""

    def summary(self) -> dict[str, Any]:
        """Its line beside those of releases (`Release.summary`)."""
        return {
            "id": self.id,
            "service": self.service,
            "model": self.spec.get("model"),
            "version": None,
            "phase": "queued",
            "outcome": None,
            "started_at": self.since_s,
            "ended_at": None,
        }


class Queue(Protocol):
    """At most one ticket of each service."""

    def put(self, ticket: Ticket) -> None:
        """From now on this one waits for its service; one that waited before does not any more."""
        ...

    def take(self, ticket_id: str) -> bool:
        """It waits no more; False where it did not."""
        ...

    def tickets(self) -> tuple[Ticket, ...]:
        """Everything that waits, by service."""
        ...


class NoQueue:
    """Implements `Queue` where nothing ever waits."""

    def put(self, ticket: Ticket) -> None:
        """It is forgotten."""

    def take(self, ticket_id: str) -> bool:  # noqa: ARG002  the same for every ticket
        """It did not wait."""
        return False

    def tickets(self) -> tuple[Ticket, ...]:
        """Nothing."""
        return ()
