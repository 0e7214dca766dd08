"""The releases that wait for their service, in SQL: the primary key says that there is one of each."""

from __future__ import annotations

import json

from sqlalchemy import Engine, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from pipelines.adapters.sql.engine import reading, transaction
from pipelines.adapters.sql.tables import queue
from pipelines.records.queue import Ticket


class SqlQueue:
    """Implements `queue_port.Queue`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def put(self, ticket: Ticket) -> None:
        """From now on this one waits, and no other of its service."""
        try:
            self._put(ticket)
        except IntegrityError:  # another one came first, between our look and our write: ours is newer
            self._put(ticket)

    def take(self, ticket_id: str) -> bool:
        """It waits no more."""
        with transaction(self._engine) as connection:
            return connection.execute(delete(queue).where(queue.c.id == ticket_id)).rowcount == 1

    def tickets(self) -> tuple[Ticket, ...]:
        """Everything that waits, by service."""
        with reading(self._engine) as connection:
            bodies = connection.execute(select(queue.c.body)).scalars().all()
        return tuple(sorted((Ticket(**json.loads(body)) for body in bodies), key=lambda ticket: ticket.service))

    def _put(self, ticket: Ticket) -> None:
        row = {"id": ticket.id, "body": json.dumps(vars(ticket), sort_keys=True)}
        with transaction(self._engine) as connection:
            if connection.execute(update(queue).where(queue.c.service == ticket.service).values(**row)).rowcount == 0:
                connection.execute(insert(queue).values(service=ticket.service, **row))
