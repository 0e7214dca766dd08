"""`shipway backup | restore`: the same records come back, and nothing broken does."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from flows.up.ledger_backup import back_up, restore
from flows.wiring import wire
from pipelines.errors import BadInput, LedgerBroken, NotFound
from pipelines.home import Home
from pipelines.records.release import Release
from pipelines.records.service import Deployment, Service


@pytest.fixture(autouse=True)
def _sqlite(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default."""
    monkeypatch.delenv("SHIPWAY_LEDGER_URL", raising=False)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home with one service and one release."""
    home = Home.open(tmp_path / "home")
    ports = wire(home)
    ports.ledger.create(opened("r1"))
    ports.services.save(Service("s", stable=Deployment("sha256:1", str(tmp_path / "gone"), "m", 1, "r1")))
    return home


@pytest.fixture
def empty(tmp_path: Path) -> Home:
    """Another home."""
    return Home.open(tmp_path / "empty")


def opened(release_id: str) -> Release:
    """A release of two events."""
    return Release().record(1.0, "opened", id=release_id, service="s", spec={}, spec_digest="d").record(2.0, "note")


def test_what_was_backed_up_is_restored(home, empty, tmp_path):
    """Release for release, event for event; one private file; bundles that are elsewhere are named."""
    contents = back_up(home, tmp_path / "backup.db")
    assert (contents.releases, contents.services, contents.missing_bundles) == (1, 1, ("sha256:1",))
    assert (tmp_path / "backup.db").stat().st_mode & 0o077 == 0
    assert restore(empty, tmp_path / "backup.db") == contents
    assert wire(empty).ledger.load("r1") == wire(home).ledger.load("r1")
    assert wire(empty).services.load("s") == wire(home).services.load("s")
    assert not [p for p in tmp_path.iterdir() if p.name.startswith((".shipway", "backup.db-"))]


def test_a_backup_is_one_state_while_others_write(home, tmp_path):
    """A writer appends all the time; every backup verifies."""
    done = threading.Event()
    ledger = wire(home).ledger

    def write() -> None:
        while not done.is_set():
            release = ledger.load("r1")
            ledger.save(release.record(3.0, "note", text="x" * 500), release.version)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert [back_up(home, tmp_path / f"backup-{n}.db").releases for n in range(5)] == [1] * 5
    finally:
        done.set()
        writer.join()


def damaged(file: Path) -> None:
    """One word of a record is another."""
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("UPDATE events SET data = ? WHERE seq = 2 AND release_id = 'r1'", ('{"text": "forged"}',))
        connection.commit()


def test_an_altered_record_of_a_backup_is_named_and_the_others_are_restored(home, empty, tmp_path):
    """It stays broken there, and keeps nobody from the rest."""
    wire(home).ledger.create(opened("r2"))
    back_up(home, tmp_path / "backup.db")
    damaged(tmp_path / "backup.db")
    contents = restore(empty, tmp_path / "backup.db")
    assert (contents.releases, contents.broken) == (2, {"r1": "event 2 (note) does not verify"})
    ledger = wire(empty).ledger
    assert ledger.load("r2") == opened("r2")
    with pytest.raises(LedgerBroken, match="r1"):
        ledger.load("r1")


def test_an_altered_ledger_is_backed_up_whole_and_the_broken_are_named(home, tmp_path):
    """Today's backup of all the others is not missed because of one record, or of one service."""
    wire(home).ledger.create(opened("r2"))
    damaged(home.root / "ledger.db")
    with closing(sqlite3.connect(home.root / "ledger.db")) as connection:
        connection.execute("INSERT INTO services VALUES ('torn', 1, '{')")
        connection.commit()
    contents = back_up(home, tmp_path / "backup.db")
    assert (contents.releases, contents.services, set(contents.broken)) == (2, 2, {"r1", "service torn"})
    with closing(sqlite3.connect(tmp_path / "backup.db")) as connection:
        assert connection.execute("SELECT count(*) FROM events").fetchone() == (4,)


def test_a_home_with_records_is_left_alone(home, tmp_path):
    """Restoring would overwrite them."""
    back_up(home, tmp_path / "backup.db")
    with pytest.raises(BadInput) as caught:
        restore(home, tmp_path / "backup.db")
    assert caught.value.code == "E_HOME_USED"


def test_a_ledger_without_records_is_as_good_as_none(home, empty, tmp_path):
    """`shipway list` in a new home makes one."""
    wire(empty).ledger.summaries()
    assert restore(empty, back_up_file(home, tmp_path)).releases == 1


def back_up_file(home: Home, folder: Path) -> Path:
    """A backup's file."""
    back_up(home, folder / "backup.db")
    return folder / "backup.db"


def test_an_existing_file_is_not_overwritten(home, tmp_path):
    """Yesterday's backup stays."""
    (tmp_path / "backup.db").write_text("yesterday")
    with pytest.raises(BadInput, match="exists already"):
        back_up(home, tmp_path / "backup.db")
    assert (tmp_path / "backup.db").read_text() == "yesterday"


@pytest.mark.parametrize("text", ["mine, and not a database at all\n" * 200, ""])
def test_what_is_no_ledger_is_refused(empty, tmp_path, text):
    """Whatever it is; nothing is made of it."""
    (tmp_path / "file").write_text(text)
    with pytest.raises(BadInput):
        restore(empty, tmp_path / "file")
    assert not list(empty.root.glob("*ledger*"))


def test_what_is_not_there_is_not_found(home, empty, tmp_path):
    """A file, a ledger, a folder for the file."""
    with pytest.raises(NotFound):
        restore(empty, tmp_path / "nothing")
    with pytest.raises(NotFound):
        back_up(empty, tmp_path / "backup.db")
    with pytest.raises(BadInput):
        back_up(home, tmp_path / "no-folder" / "backup.db")


def test_a_ledger_on_a_server_is_backed_up_by_its_own_tools(home, tmp_path, monkeypatch):
    """Exit code 2 with the name of the tool; the server is not asked."""
    monkeypatch.setenv("SHIPWAY_LEDGER_URL", "postgresql+psycopg://u:p@127.0.0.1:9/d")
    with pytest.raises(BadInput) as caught:
        back_up(home, tmp_path / "backup.db")
    assert (caught.value.exit_code, "pg_dump" in str(caught.value.hint)) == (2, True)


@pytest.mark.integration
def test_the_commands(home, empty, tmp_path):
    """Both say what they found."""
    for where, verb in ((home, "backup"), (empty, "restore")):
        command = [sys.executable, "-m", "flows.cli", verb, str(tmp_path / "backup.db"), "--json"]
        environment = {**os.environ, "SHIPWAY_HOME": str(where.root)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
        assert {"releases": 1, "services": 1, "chain": "ok"}.items() <= json.loads(done.stdout).items()
