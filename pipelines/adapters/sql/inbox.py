"""Commands that wait for a controller, in SQL."""

from __future__ import annotations

from sqlalchemy import Engine, insert, select, update
from sqlalchemy.exc import IntegrityError

from pipelines.adapters.sql.engine import reading, transaction
from pipelines.adapters.sql.tables import commands
from pipelines.ports import Command


class SqlInbox:
    """Implements `ports.Inbox`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def send(self, command: Command) -> None:
        """Leave a command; the same id again changes nothing."""
        try:
            with transaction(self._engine) as connection:
                connection.execute(insert(commands).values(**vars(command), done=0))
        except IntegrityError:
            return

    def pending(self, release_id: str) -> tuple[Command, ...]:
        """Commands not yet obeyed, oldest first."""
        columns = [commands.c[name] for name in ("id", "release_id", "verb", "actor", "reason", "about")]
        query = select(*columns).where(commands.c.release_id == release_id, commands.c.done == 0)
        with reading(self._engine) as connection:
            return tuple(Command(*row) for row in connection.execute(query.order_by(commands.c.number)))

    def done(self, command_id: str) -> None:
        """Mark it obeyed."""
        with transaction(self._engine) as connection:
            connection.execute(update(commands).where(commands.c.id == command_id).values(done=1))
