"""How is the ledger kept safe outside the home, and brought back? Never without checking every record's chain.

A copy is the whole ledger, also where a record in it is broken: such a one is named, and goes with the others.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from flows.control.up_file import find_up
from flows.wiring import ledger_place
from pipelines.adapters.processes.unit_files import names_in
from pipelines.adapters.sql.engine import URL_VARIABLE, open_engine
from pipelines.adapters.sql.ledger import SqlLedger
from pipelines.adapters.sql.services import SqlServices
from pipelines.errors import BadInput, Busy, NotFound
from pipelines.home import Home
from pipelines.records.reading import read_services, verified


@dataclass(frozen=True)
class Contents:
    """What a ledger holds, as far as a person asks after a backup. `missing_bundles` are not on this machine.

    Broken records are counted, too; `broken` says of each release or service why it cannot be used.
    """

    releases: int
    services: int
    missing_bundles: tuple[str, ...] = ()
    broken: Mapping[str, str] = field(default_factory=dict)


def back_up(home: Home, file: Path) -> Contents:
    """Copy the ledger to a file, while others write to it. BadInput where the file exists or the ledger is a server."""
    ledger = _ledger_file(home, "pg_dump --schema=shipway")
    if not ledger.exists():
        raise NotFound(f"there is no ledger yet in {home.root}", field="SHIPWAY_HOME", hint="shipway list")
    if file.exists():
        raise BadInput(f"{file} exists already", code="E_PATH", field="FILE", hint="name a new file")
    with _beside(file) as folder:
        contents = _verified_copy(ledger, folder / "copy")
        (folder / "copy").replace(file)
    return contents


def restore(home: Home, file: Path) -> Contents:
    """Put a backup into a home that has no records. Nothing is changed before every chain has verified."""
    ledger = _ledger_file(home, "pg_restore")
    if not file.is_file():
        raise NotFound(f"there is no file {file}", code="E_PATH", field="FILE")
    _refuse_used(home, ledger)
    with _beside(ledger) as folder:
        contents = _verified_copy(file, folder / "copy")
        for left in home.root.glob("ledger.db-*"):
            left.unlink()
        (folder / "copy").replace(ledger)
    return contents


def _ledger_file(home: Home, tool: str) -> Path:
    place = ledger_place(home)
    if isinstance(place, str):
        raise BadInput(
            "the ledger is on a PostgreSQL server, which has tools of its own for this",
            code="E_BACKUP",
            field=URL_VARIABLE,
            hint=f"use {tool}",
        )
    return place


@contextmanager
def _beside(file: Path) -> Iterator[Path]:
    """A private folder on the same disk: what lies in it gets its name by one rename, whole or not at all."""
    try:
        with tempfile.TemporaryDirectory(prefix=".shipway-", dir=file.absolute().parent) as folder:
            yield Path(folder)
    except OSError as error:
        raise BadInput(f"cannot write {file}: {error.strerror}", code="E_PATH", field="FILE") from None


def _verified_copy(source: Path, copy: Path) -> Contents:
    """A copy of a ledger as one file, every release of which was folded and checked. BadInput where it is none."""
    _copy(source, copy)
    engine = open_engine(copy)
    try:
        contents = _contents(SqlLedger(engine), SqlServices(engine))
    finally:
        engine.dispose()
    with closing(sqlite3.connect(copy)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")  # one file, without a log beside it
    copy.chmod(0o600)
    return contents


def _contents(ledger: SqlLedger, services: SqlServices) -> Contents:
    known, rows = read_services(services), ledger.summaries()
    deployments = [d for s in known.services for d in (s.stable, s.previous) if d is not None]
    missing = sorted({d.digest for d in deployments if not Path(d.bundle).exists()})
    broken = {row.id: row.broken for row in verified(ledger, rows) if row.broken}
    broken |= {f"service {name}": why for name, why in known.broken.items()}
    return Contents(len(rows), len(known.services) + len(known.broken), tuple(missing), broken)


def _copy(source: Path, copy: Path) -> None:
    """SQLite's online backup: one consistent state, whoever writes meanwhile."""
    try:
        with (
            closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as there,
            closing(sqlite3.connect(copy)) as here,
        ):
            there.backup(here)
            if not here.execute("SELECT 1 FROM sqlite_master").fetchone():
                raise sqlite3.DatabaseError("it holds nothing")
    except sqlite3.Error as error:
        raise BadInput(f"{source.name} is not a ledger: {error}", code="E_BACKUP", field="FILE") from None


def _refuse_used(home: Home, ledger: Path) -> None:
    if find_up(home) is not None:
        raise Busy("shipway up of this home is running", code="E_UP_RUNS", hint="shipway down")
    if not _has_records(ledger) and not names_in(home.folder("units")):
        return
    raise BadInput(
        f"the home {home.root} has records or running units already",
        code="E_HOME_USED",
        field="SHIPWAY_HOME",
        hint="name an empty home",
    )


def _has_records(ledger: Path) -> bool:
    """A ledger in which nothing was ever written is as good as none."""
    if not ledger.exists():
        return False
    engine = open_engine(ledger)
    try:
        # Not whether they can be read: broken ones are records, too.
        return bool(SqlLedger(engine).summaries(limit=1) or SqlServices(engine).names())
    finally:
        engine.dispose()
