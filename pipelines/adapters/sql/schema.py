"""Which form do the tables of a ledger have, and how is an older form brought forward?

The number is kept in the ledger itself. A newer one is refused before anything is written; an older one is changed in
place, in one transaction: afterwards it has the new form with all of its records, or it is as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sqlalchemy import Connection, delete, insert, inspect, select, text
from sqlalchemy.schema import CreateSchema

from pipelines.adapters.sql.records import sum_up_all
from pipelines.adapters.sql.tables import meta, tables
from pipelines.errors import BadInput

SCHEMA_VERSION = 2
POSTGRES_SCHEMA = "shipway"

Step = str | Callable[[Connection], None]

MIGRATIONS: Mapping[int, tuple[Step, ...]] = {
    1: (
        "ALTER TABLE {shipway}releases ADD COLUMN phase VARCHAR(40) NOT NULL DEFAULT ''",
        "ALTER TABLE {shipway}releases ADD COLUMN broken VARCHAR(300) NOT NULL DEFAULT ''",
        "ALTER TABLE {shipway}releases ADD COLUMN summary TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE {shipway}commands ADD COLUMN about VARCHAR(200) NOT NULL DEFAULT ''",
        sum_up_all,
    ),
}
"""By the version that they start from: the statements that lead to the next one. New tables and indexes need none."""

_ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(7447929)")
"""PostgreSQL lets two programs that create the same table at the same time fail; any number will do."""


def is_current(connection: Connection) -> bool:
    """Whether the ledger has this Shipway's form. BadInput E_SCHEMA where it is newer, or not a ledger; reads only."""
    found = _tables(connection)
    return bool(found) and _version(connection, found) == SCHEMA_VERSION and set(tables.tables) <= found


def bring_forward(connection: Connection, migrations: Mapping[int, tuple[Step, ...]] = MIGRATIONS) -> None:
    """Give the ledger this Shipway's form, in the connection's transaction."""
    if connection.dialect.name == "postgresql":
        _own_schema(connection)
    found = _tables(connection)
    for version in range(_version(connection, found) if found else SCHEMA_VERSION, SCHEMA_VERSION):
        _migrate(connection, version, migrations)
    tables.create_all(connection)
    for index in (index for table in tables.sorted_tables for index in table.indexes):
        index.create(connection, checkfirst=True)
    connection.execute(delete(meta).where(meta.c.name == "schema"))
    connection.execute(insert(meta).values(name="schema", value=SCHEMA_VERSION))


def _own_schema(connection: Connection) -> None:
    """Shipway's corner of the database; making it needs a right that a database's owner may have kept."""
    connection.execute(_ONE_AT_A_TIME)
    if not inspect(connection).has_schema(POSTGRES_SCHEMA):
        connection.execute(CreateSchema(POSTGRES_SCHEMA))


def _tables(connection: Connection) -> set[str]:
    corner = POSTGRES_SCHEMA if connection.dialect.name == "postgresql" else None
    return set(inspect(connection).get_table_names(schema=corner))


def _version(connection: Connection, found: set[str]) -> int:
    """The number in a ledger that has tables."""
    query = select(meta.c.value).where(meta.c.name == "schema")
    version = connection.execute(query).scalar() if "meta" in found else None
    if version is None:
        raise _refused("the database has tables, and they are not Shipway's", "name another file or database")
    if version > SCHEMA_VERSION:
        raise _refused(
            f"the ledger has schema {version}; this Shipway knows {SCHEMA_VERSION}",
            "use the Shipway that wrote it; nothing was changed",
        )
    return int(version)


def _migrate(connection: Connection, version: int, migrations: Mapping[int, tuple[Step, ...]]) -> None:
    if version not in migrations:
        raise _refused(f"the ledger has schema {version}, which is too old", "bring it forward with an older Shipway")
    prefix = f"{POSTGRES_SCHEMA}." if connection.dialect.name == "postgresql" else ""
    for step in migrations[version]:
        if isinstance(step, str):
            connection.execute(text(step.replace("{shipway}", prefix)))
        else:
            step(connection)


def _refused(reason: str, hint: str) -> BadInput:
    return BadInput(reason, code="E_SCHEMA", field="ledger", hint=hint)
