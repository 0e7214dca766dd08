"""Which database holds the ledger, and what is one transaction of it?

SQLite in the home is the default; `postgresql+psycopg://…` is a real server. A PostgreSQL database may be shared with
others: Shipway's tables have a schema of their own in it.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DataError, IntegrityError, SQLAlchemyError

from pipelines.adapters.sql.schema import POSTGRES_SCHEMA, bring_forward, is_current
from pipelines.errors import BadInput, DependencyDown, ShipwayError

BUSY_MS = 10_000
WAIT_S = 0.02
CONNECT_TIMEOUT_S = 5
UNSENT_TIMEOUT_MS = 15_000
"""A server that vanished from the network is noticed after this, not after TCP's own quarter of an hour."""

URL_VARIABLE = "SHIPWAY_LEDGER_URL"
POSTGRES = "postgresql+psycopg"


def open_engine(where: Path | str) -> Engine:
    """The database of a file, or of a PostgreSQL URL, with its tables. BadInput E_SCHEMA where they are not ours."""
    engine = _postgres(where) if isinstance(where, str) else _sqlite(where)
    with reading(engine) as connection:
        current = is_current(connection)
    if engine.dialect.name == "sqlite":
        # Only now: this setting is kept in the file, and a file that was refused is left as it is, byte by byte.
        _write_ahead(engine)
    if not current:
        with transaction(engine) as connection:
            bring_forward(connection)
    return engine


def shown_url(url: str) -> str:
    """The address of a ledger without its password, and without its query, which may hold another one."""
    parsed = _parsed(url)
    if _holds_bare_at(url):  # who knows how much of its password is taken for a host
        return f"{POSTGRES}://***@{url.partition('?')[0].rpartition('@')[2]}"
    return parsed.set(query={}).render_as_string(hide_password=True) + ("?***" if parsed.query else "")


def _holds_bare_at(url: str) -> bool:
    """Whether a password that was not quoted holds an `@`: a part of it would be asked for as a host, and shown."""
    return url.partition("?")[0].count("@") > 1


def _sqlite(path: Path) -> Engine:
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": BUSY_MS / 1000})
    event.listen(engine, "connect", _set_pragmas)
    event.listen(engine, "begin", _begin)
    return engine


def _set_pragmas(connection: Any, _record: object) -> None:
    """A commit is on the disk when it returns."""
    connection.isolation_level = None
    for pragma in (f"busy_timeout={BUSY_MS}", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _write_ahead(engine: Engine) -> None:
    """Readers never wait for the writer. SQLite does not wait by itself while another program sets this."""
    deadline_s = time.monotonic() + BUSY_MS / 1000
    while (error := _refusal(engine)) and time.monotonic() < deadline_s:
        time.sleep(WAIT_S)
    if error:
        raise DependencyDown(f"the ledger cannot be used: {error}", code="E_LEDGER_IO", hint="check its disk")


def _refusal(engine: Engine) -> str:
    """Why the file is not a write-ahead one yet, or nothing."""
    with closing(engine.raw_connection()) as connection:
        try:
            connection.cursor().execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            return str(error)
    return ""


def _begin(connection: Connection) -> None:
    """A writer takes the lock at the start: a read that later writes could otherwise fail as a stale snapshot."""
    is_reading = connection.get_execution_options().get("shipway_reads", False)
    connection.exec_driver_sql("BEGIN" if is_reading else "BEGIN IMMEDIATE")


def _postgres(url: str) -> Engine:
    limits = {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "keepalives_idle": CONNECT_TIMEOUT_S,
        "tcp_user_timeout": UNSENT_TIMEOUT_MS,
    }
    if _holds_bare_at(url):
        raise BadInput(f"a password in {URL_VARIABLE} holds an @", field=URL_VARIABLE, expected="%40 in its place")
    try:
        engine = create_engine(_parsed(url), pool_pre_ping=True, connect_args=limits)
    except ModuleNotFoundError:
        raise BadInput(
            "the driver for PostgreSQL is not installed", field=URL_VARIABLE, hint="pip install 'shipway[postgres]'"
        ) from None
    event.listen(engine, "connect", _set_timeouts)
    return engine.execution_options(schema_translate_map={None: POSTGRES_SCHEMA})


def _parsed(url: str) -> URL:
    """The URL; what cannot be read is not shown, because it may hold a password."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        parsed = None
    if parsed is None or parsed.drivername not in {POSTGRES, "postgresql"}:
        raise BadInput(
            f"{URL_VARIABLE} is not an address of a ledger",
            field=URL_VARIABLE,
            expected=f"{POSTGRES}://USER:PASSWORD@HOST:PORT/DATABASE, or nothing: then SQLite in the home",
        )
    return parsed.set(drivername=POSTGRES)


def _set_timeouts(connection: Any, _record: object) -> None:
    """A writer that was stopped half-way must not hold up the one who takes over: neither waits for ever."""
    connection.execute(f"SET lock_timeout = {BUSY_MS}")
    connection.execute(f"SET idle_in_transaction_session_timeout = {BUSY_MS}")
    connection.commit()


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """One transaction; a database that cannot answer is a DependencyDown with the reason."""
    try:
        with engine.begin() as connection:
            yield connection
    except IntegrityError:
        raise
    except (DataError, UnicodeEncodeError) as error:
        reason = f"the ledger does not take this text: {_first_line(getattr(error, 'orig', None) or error)}"
        raise BadInput(reason, code="E_TEXT") from None
    except SQLAlchemyError as error:
        raise _down(engine, error) from None


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """One consistent view, which neither waits for a writer nor holds one up."""
    options: dict[str, Any] = {"shipway_reads": True}
    if engine.dialect.name == "postgresql":
        options["isolation_level"] = "REPEATABLE READ"
    with transaction(engine.execution_options(**options)) as connection:
        yield connection


def _down(engine: Engine, error: SQLAlchemyError) -> ShipwayError:
    said = _first_line(getattr(error, "orig", None) or error)
    if engine.url.password:
        said = said.replace(str(engine.url.password), "***")
    local = engine.dialect.name == "sqlite"
    hint = (
        "check its disk" if local else f"check that PostgreSQL answers at {engine.url.host}:{engine.url.port or 5432}"
    )
    return DependencyDown(f"the ledger cannot be used: {said}", code="E_LEDGER_IO", hint=hint)


def _first_line(error: object) -> str:
    return str(error).strip().partition("\n")[0]
