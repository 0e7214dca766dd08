"""Is a ledger of another form refused as it is, or brought forward with all of its records?"""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from pipelines.adapters.sql import schema as sql_schema
from pipelines.adapters.sql.engine import open_engine, transaction
from pipelines.adapters.sql.inbox import SqlInbox
from pipelines.adapters.sql.ledger import SqlLedger
from pipelines.adapters.sql.schema import SCHEMA_VERSION, bring_forward, is_current
from pipelines.errors import BadInput
from pipelines.ports import Command
from pipelines.records.release import Event, Phase, Release
from pipelines.records.summary import summary_of


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """A ledger with one release."""
    path = tmp_path / "ledger.db"
    engine = open_engine(path)
    SqlLedger(engine).create(
        Release().record(1.0, "opened", id="r1", service="s", spec={}, spec_digest="sha256:0"),
    )
    engine.dispose()
    return path


def change(path: Path, *statements: str) -> None:
    """Change the file behind Shipway's back; it is one file again afterwards."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def test_a_newer_schema_is_refused_without_a_rewrite(path):
    """An older Shipway leaves a newer ledger as it is, byte by byte: exit code 2."""
    change(path, f"UPDATE meta SET value = {SCHEMA_VERSION + 1}", "DROP TABLE commands")
    before = path.read_bytes()
    with pytest.raises(BadInput) as caught:
        open_engine(path)
    assert (caught.value.code, caught.value.exit_code) == ("E_SCHEMA", 2)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["ledger.db"]


def test_the_command_line_refuses_it_too(path):
    """Three lines and exit code 2; no file of the home is changed."""
    change(path, f"UPDATE meta SET value = {SCHEMA_VERSION + 1}")
    before = path.read_bytes()
    environment = {**os.environ, "SHIPWAY_HOME": str(path.parent)}
    command = [sys.executable, "-m", "flows.cli", "list"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr.startswith("E_SCHEMA")) == (2, True)
    assert path.read_bytes() == before


def test_another_programs_database_is_left_alone(tmp_path):
    """Tables that are not Shipway's are not joined by Shipway's."""
    path = tmp_path / "mlflow.db"
    change(path, "CREATE TABLE experiments (id INTEGER)")
    before = path.read_bytes()
    with pytest.raises(BadInput, match="not Shipway's"):
        open_engine(path)
    assert path.read_bytes() == before


def test_an_older_schema_is_brought_forward_in_place(path, monkeypatch):
    """Its records are all there afterwards, and the new column too."""
    monkeypatch.setattr(sql_schema, "SCHEMA_VERSION", SCHEMA_VERSION + 2)
    steps = {
        SCHEMA_VERSION: ("ALTER TABLE commands ADD COLUMN channel TEXT",),
        SCHEMA_VERSION + 1: ("UPDATE releases SET service = 'renamed'", "CREATE INDEX later ON commands (verb)"),
    }
    monkeypatch.setattr(sql_schema.bring_forward, "__defaults__", (steps,))
    engine = open_engine(path)
    with transaction(engine) as connection:
        assert connection.execute(text("SELECT count(channel) FROM commands")).scalar() == 0
        assert connection.execute(text("SELECT service FROM releases")).scalar() == "renamed"
        assert connection.execute(text("SELECT value FROM meta")).scalars().all() == [SCHEMA_VERSION + 2]
    assert SqlLedger(engine).load("r1").started_at_s == 1.0
    engine.dispose()


OLD_FORM = (
    "DROP INDEX releases_counted",
    "DROP INDEX releases_broken",
    "ALTER TABLE releases DROP COLUMN phase",
    "ALTER TABLE releases DROP COLUMN broken",
    "ALTER TABLE releases DROP COLUMN summary",
    "ALTER TABLE commands DROP COLUMN about",
    "UPDATE meta SET value = 1",
)
"""From the second form back to the first."""


def test_a_ledger_of_the_first_form_gets_its_summaries(path):
    """One for each record, also where it is broken or of a newer Shipway: none is refused, and none is lost."""
    engine = open_engine(path)
    ledger = SqlLedger(engine)
    begun = Release().record(2.0, "opened", id="r2", service="s", spec={"model": "m"}, spec_digest="sha256:0")
    ledger.create(begun.enter(Phase.REJECTED, 3.0, why="worse"))
    ledger.create(Release().record(4.0, "opened", id="r3", service="s", spec={}, spec_digest="").record(5.0, "note"))
    newer = Release().record(6.0, "opened", id="r4", service="s", spec={}, spec_digest="sha256:0")
    event = Event.after(newer.events[-1], 7.0, "entered", {"phase": "resting"})
    ledger.create(replace(newer, events=(*newer.events, event)))
    engine.dispose()
    change(path, "DELETE FROM events WHERE release_id = 'r3' AND seq = 2", *OLD_FORM)
    engine = open_engine(path)
    found = SqlLedger(engine).summaries()
    assert [(r.id, r.outcome, r.broken[:40]) for r in found] == [
        ("r4", None, "an event cannot be read (ValueError(\"'re"),
        ("r3", None, "2 events were written, 1 are there"),
        ("r2", "rejected", ""),
        ("r1", None, ""),
    ]
    assert found[2:] == tuple(summary_of(SqlLedger(engine).load(name)) for name in ("r2", "r1"))
    with transaction(engine) as connection:
        assert is_current(connection)
    engine.dispose()


def test_a_ledger_of_the_first_form_is_brought_forward(path):
    """A word that waited then is there, and names nothing."""
    engine = open_engine(path)
    SqlInbox(engine).send(Command("c", "r1", "approve", "ada"))
    engine.dispose()
    change(path, *OLD_FORM)
    engine = open_engine(path)
    assert SqlInbox(engine).pending("r1") == (Command("c", "r1", "approve", "ada", about=""),)
    engine.dispose()


def test_a_migration_that_fails_changes_nothing(path):
    """All of its statements, or none."""
    change(path, "UPDATE meta SET value = 0")
    before = path.read_bytes()
    engine = open_engine_unchecked(path)
    with pytest.raises(Exception, match="nonsense"), transaction(engine) as connection:
        bring_forward(connection, {0: ("ALTER TABLE commands ADD COLUMN channel TEXT", "nonsense")})
    engine.dispose()
    assert path.read_bytes() == before


def test_a_schema_too_old_to_bring_forward_is_refused(path):
    """There is no step that begins at it."""
    change(path, "UPDATE meta SET value = 0")
    with pytest.raises(BadInput, match="too old"):
        open_engine(path)


def open_engine_unchecked(path: Path):
    """The file's engine before anything is looked at."""
    from pipelines.adapters.sql.engine import _sqlite

    return _sqlite(path)


@pytest.mark.postgres
def test_a_newer_schema_on_postgres_is_refused(postgres):
    """The same number, the same refusal, and no table is made."""
    open_engine(postgres.url).dispose()
    postgres.run(f"UPDATE shipway.meta SET value = {SCHEMA_VERSION + 1}")
    postgres.run("DROP TABLE shipway.commands")
    with pytest.raises(BadInput) as caught:
        open_engine(postgres.url)
    tables = postgres.run("SELECT table_name FROM information_schema.tables WHERE table_schema = 'shipway'")
    assert (caught.value.code, ("commands",) in tables, len(tables)) == ("E_SCHEMA", False, 6)


@pytest.mark.postgres
def test_a_ledger_of_the_first_form_on_postgres_is_brought_forward(postgres):
    """In Shipway's own corner of the database."""
    engine = open_engine(postgres.url)
    release = Release().record(1.0, "opened", id="r1", service="s", spec={}, spec_digest="sha256:0")
    SqlLedger(engine).create(release)
    SqlInbox(engine).send(Command("c", "r1", "approve", "ada"))
    engine.dispose()
    for statement in OLD_FORM:
        postgres.run(re.sub("(releases|meta|commands)", r"shipway.\1", statement, count=1))
    engine = open_engine(postgres.url)
    assert SqlLedger(engine).summaries() == (summary_of(release),)
    assert SqlInbox(engine).pending("r1") == (Command("c", "r1", "approve", "ada", about=""),)
    engine.dispose()
