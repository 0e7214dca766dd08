"""Service records in SQL, saved by compare-and-set."""

from __future__ import annotations

import json

from sqlalchemy import Engine, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from pipelines.adapters.sql.engine import reading, transaction
from pipelines.adapters.sql.tables import services
from pipelines.errors import LedgerBroken, NotFound, StaleWriter
from pipelines.records.service import Service


class SqlServices:
    """Implements `ports.Services`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def load(self, name: str) -> Service:
        """The service. NotFound names the known ones; LedgerBroken where its record cannot be read."""
        with reading(self._engine) as connection:
            body = connection.execute(select(services.c.body).where(services.c.name == name)).scalar()
        if body is None:
            known = ", ".join(self.names()) or "none yet"
            raise NotFound(f"there is no service {name[:80]!r}", field="SERVICE", expected=f"one of: {known}")
        try:
            return Service.from_dict(json.loads(body))
        except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
            raise LedgerBroken(
                f"the record of service {name} cannot be read ({error!r})",
                code="E_RECORD",
                field=name,
                hint="restore the ledger from a backup; nothing was written",
            ) from None

    def save(self, service: Service) -> Service:
        """Compare-and-set on the version; 0 creates."""
        saved = service.changed(version=service.version + 1)
        row = {"version": saved.version, "body": json.dumps(saved.as_dict(), sort_keys=True)}
        where = (services.c.name == service.name) & (services.c.version == service.version)
        try:
            with transaction(self._engine) as connection:
                if service.version == 0:
                    connection.execute(insert(services).values(name=service.name, **row))
                elif connection.execute(update(services).where(where).values(**row)).rowcount != 1:
                    raise StaleWriter(f"service {service.name} is not at version {service.version} any more")
        except IntegrityError:
            raise StaleWriter(f"service {service.name} exists already") from None
        return saved

    def names(self) -> tuple[str, ...]:
        """All services."""
        with reading(self._engine) as connection:
            # Sorted here: databases differ in what order they take letters to have.
            return tuple(sorted(connection.execute(select(services.c.name)).scalars()))

    def remove(self, service: Service) -> None:
        """Forget it, at this version of its record."""
        where = (services.c.name == service.name) & (services.c.version == service.version)
        with transaction(self._engine) as connection:
            if connection.execute(delete(services).where(where)).rowcount != 1:
                raise StaleWriter(f"service {service.name} is not at version {service.version} any more")
