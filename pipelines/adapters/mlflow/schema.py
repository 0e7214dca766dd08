"""Which MLflow does this registry's database belong to, and what is kept before a migration changes it?

MLflow migrates a database without a word when one of its tables is missing, on the first look of a newer version; no
older one can read it afterwards. So the file is copied first, and a file that a newer MLflow brought forward is told
before MLflow touches it.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from glob import escape
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from pipelines.adapters.sql.shown_address import shown_address
from pipelines.errors import DependencyDown, NewerDatabase, ShipwayError

SQLITE = "sqlite:///"
BUSY_S = 10.0
log = logging.getLogger("shipway.registry")

_REVISION = re.compile(r"^revision\s*(?::[^=]+)?=\s*[\"'](\w+)[\"']", re.MULTILINE)
_BEFORE_IT = re.compile(r"^down_revision\s*(?::[^=]+)?=\s*[\"'](\w+)[\"']", re.MULTILINE)
_OUT_OF_DATE = re.compile(r"out-of-date database schema \(found version (\w+), but expected (\w+)\)")
_UNKNOWN = re.compile(r"Can't locate revision identified by '(\w+)'")


@dataclass(frozen=True)
class Migrations:
    """The schemas that the installed MLflow knows; `head` is the one that it works with."""

    known: frozenset[str]
    head: str


@cache
def installed_migrations() -> Migrations:
    """Read from MLflow's migration scripts: importing them takes seconds."""
    spec = find_spec("mlflow")
    places = spec.submodule_search_locations if spec else None
    folder = Path(next(iter(places or ["/nonexistent"]))) / "store" / "db_migrations" / "versions"
    scripts = [script.read_text(encoding="utf-8") for script in folder.glob("*.py")]
    known = {found[1] for text in scripts if (found := _REVISION.search(text))}
    last = known - {found[1] for text in scripts if (found := _BEFORE_IT.search(text))}
    return Migrations(frozenset(known), next(iter(last)) if len(last) == 1 else "")


def database_file(uri: str) -> Path | None:
    """The file of a registry on SQLite; None where it is none, or is named in a way of SQLite's own."""
    place = uri.removeprefix(SQLITE).partition("?")[0]
    return Path(place) if uri.startswith(SQLITE) and place and not place.startswith(("file:", ":")) else None


def revision_of(file: Path) -> str | None:
    """The schema that a database says it has: "" where it holds tables and does not say, None where it is empty."""
    if not file.exists() or file.stat().st_size == 0:
        return None
    with closing(_opened(file)) as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        said = database.execute("SELECT version_num FROM alembic_version") if "alembic_version" in tables else ()
        return next((str(revision) for (revision,) in said), "" if tables else None)


@contextmanager
def kept_before_migration(file: Path) -> Iterator[None]:
    """While the block lets MLflow open the database: a copy lies beside it if that may change its schema."""
    if not _is_behind(file):
        yield
        return
    with _alone_in(file.parent):
        if _is_behind(file):
            _keep_copy(file)
        yield


def schema_error(text: str, uri: str) -> ShipwayError | None:
    """What is wrong with the schema where MLflow says that something is: is it newer than this MLflow, or older?"""
    ours = installed_migrations()
    if (unknown := _UNKNOWN.search(text)) and unknown[1] not in ours.known:
        return newer_database(uri)
    differs = _OUT_OF_DATE.search(text)
    if differs is None or differs[2] not in ours.known:
        return None
    if differs[1] not in {*ours.known, "None"}:
        return newer_database(uri)
    return DependencyDown(
        f"the database of MLflow at {shown_address(uri)} is of an older MLflow",
        code="E_REGISTRY",
        expected=f"schema {differs[2]}, found {differs[1]}",
        hint="keep a copy of it; then: mlflow db upgrade URI, with the URI of MLFLOW_TRACKING_URI",
    )


def newer_database(uri: str) -> NewerDatabase:
    """The error, with the copy that this MLflow can read where there is one."""
    file = database_file(uri)
    copy = _readable_copy(file) if file else None
    back = f"restore the copy that Shipway made before: cp {copy} {file}" if copy else "restore a copy from before"
    return NewerDatabase(
        f"this database was migrated by a newer MLflow: {shown_address(uri)}",
        expected="a schema that the installed MLflow knows",
        hint=f"install that MLflow, or {back}",
    )


def _is_behind(file: Path) -> bool:
    """Whether MLflow may migrate it. NewerDatabase where it is ahead."""
    found, ours = revision_of(file), installed_migrations()
    if found is None or found == ours.head or not ours.known:
        return False
    if found and found not in ours.known:
        raise newer_database(f"{SQLITE}{file}")
    return True


def _keep_copy(file: Path) -> None:
    """A copy by SQLite's own means: whole, whoever writes meanwhile. An older copy is never overwritten."""
    kept = _copies(file)
    if kept and kept[-1].stat().st_mtime >= max(
        path.stat().st_mtime for path in (file, _log_of(file)) if path.exists()
    ):
        return
    base = f"{file.name}.before-{installed_migrations().head}"
    names = (base if number == 1 else f"{base}-{number}" for number in range(1, 1000))
    copy = next(path for name in names if not (path := file.with_name(name)).exists())
    unfinished = file.with_name(f".{copy.name}.{os.getpid()}")
    try:
        os.close(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        with closing(_opened(file)) as database, closing(_opened(unfinished)) as target:
            database.backup(target)
            target.execute("PRAGMA journal_mode=DELETE")  # one file, also of a database with a log beside it
        os.link(unfinished, copy)
    finally:
        unfinished.unlink(missing_ok=True)
    log.warning("MLflow may migrate %s now: it was copied to %s", file, copy)


def _readable_copy(file: Path) -> Path | None:
    """The newest copy whose schema the installed MLflow knows."""
    known = installed_migrations().known
    return next((copy for copy in reversed(_copies(file)) if revision_of(copy) in known), None)


def _copies(file: Path) -> list[Path]:
    return sorted(file.parent.glob(f"{escape(file.name)}.before-*"), key=lambda copy: copy.stat().st_mtime)


def _log_of(file: Path) -> Path:
    return file.with_name(f"{file.name}-wal")


def _opened(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(file.absolute()))}?mode=rw", uri=True, timeout=BUSY_S)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Nobody else of Shipway's migrates here: a copy in the middle of a migration would be of no use."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)
