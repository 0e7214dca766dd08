"""The tables that the SQL adapters share: SQLite under the home, and made to suit PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Float,
    ForeignKey,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    create_engine,
    event,
    insert,
    select,
)
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from pipelines.errors import DependencyDown, LedgerBroken

SCHEMA_VERSION = 1
BUSY_MS = 10_000

tables = MetaData()

meta = Table("meta", tables, Column("name", String(40), primary_key=True), Column("value", Integer, nullable=False))

releases = Table(
    "releases",
    tables,
    Column("id", String(200), primary_key=True),
    Column("service", String(128), nullable=False, index=True),
    Column("version", Integer, nullable=False),
    Column("ended", Integer, nullable=False, index=True),
    Column("started_at_s", Float, nullable=False),
)

events = Table(
    "events",
    tables,
    Column("release_id", String(200), ForeignKey("releases.id"), nullable=False),
    Column("seq", Integer, nullable=False),
    Column("at_s", Float, nullable=False),
    Column("kind", String(40), nullable=False),
    Column("data", Text, nullable=False),
    Column("prev", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
    PrimaryKeyConstraint("release_id", "seq"),
)

services = Table(
    "services",
    tables,
    Column("name", String(128), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("body", Text, nullable=False),
)

commands = Table(
    "commands",
    tables,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("id", String(200), nullable=False, unique=True),
    Column("release_id", String(200), nullable=False, index=True),
    Column("verb", String(20), nullable=False),
    Column("actor", String(200), nullable=False),
    Column("reason", Text, nullable=False),
    Column("done", Integer, nullable=False),
)

locks = Table(
    "locks",
    tables,
    Column("service", String(128), primary_key=True),
    Column("holder", String(300), nullable=False),
    Column("fence", Integer, nullable=False),
    Column("until_s", Float, nullable=False),
)


def open_engine(path: Path) -> Engine:
    """The database of a file, with its tables. LedgerBroken where a newer Shipway wrote it."""
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": BUSY_MS / 1000})
    event.listen(engine, "connect", _set_pragmas)
    event.listen(engine, "begin", _begin)
    with transaction(engine) as connection:
        tables.create_all(connection)
        _check_schema(connection)
    return engine


def _set_pragmas(connection: Any, _record: object) -> None:
    """Readers never wait for the writer, and a commit is on the disk when it returns."""
    connection.isolation_level = None
    for pragma in (f"busy_timeout={BUSY_MS}", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    """A writer takes the lock at the start: a read that later writes could otherwise fail as a stale snapshot."""
    is_reading = connection.get_execution_options().get("shipway_reads", False)
    connection.exec_driver_sql("BEGIN" if is_reading else "BEGIN IMMEDIATE")


def _check_schema(connection: Connection) -> None:
    found = connection.execute(select(meta.c.value).where(meta.c.name == "schema")).scalar()
    if found is None:
        connection.execute(insert(meta).values(name="schema", value=SCHEMA_VERSION))
    elif found > SCHEMA_VERSION:
        raise LedgerBroken(
            f"the ledger has schema {found}; this Shipway knows {SCHEMA_VERSION}",
            code="E_SCHEMA",
            hint="use the Shipway that wrote it; nothing was changed",
        )


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """One transaction; a database that cannot answer is a DependencyDown with the reason."""
    try:
        with engine.begin() as connection:
            yield connection
    except IntegrityError:
        raise
    except SQLAlchemyError as error:
        cause = getattr(error, "orig", None) or error
        raise DependencyDown(f"the ledger cannot be used: {cause}", code="E_LEDGER_IO", hint="check its disk") from None


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """One consistent view, which neither waits for a writer nor holds one up."""
    with transaction(engine.execution_options(shipway_reads=True)) as connection:
        yield connection
