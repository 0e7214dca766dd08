"""Is a registry's file kept before MLflow migrates it, and is one of a newer MLflow told as that?"""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from pipelines.adapters.mlflow.registry import MlflowRegistry
from pipelines.adapters.mlflow.schema import installed_migrations, kept_before_migration, revision_of
from pipelines.errors import DependencyDown, Forbidden, NewerDatabase, NotFound

OF_3_16 = "b7e2c1a4d9f3"
"""The schema of MLflow 3.16; later ones have tables more, and migrate it at their first look."""

OF_NOBODY = "f4a9b2c7d1e6"
HEAD = installed_migrations().head


def _database(folder: Path, revision: str | None, rows: int = 1) -> Path:
    """A file that says it has this schema."""
    file = folder / "mlflow.db"
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("CREATE TABLE registered_models (name TEXT)")
        database.executemany("INSERT INTO registered_models VALUES (?)", [(f"m{i}",) for i in range(rows)])
        if revision is not None:
            database.execute("CREATE TABLE alembic_version (version_num TEXT)")
            database.execute("INSERT INTO alembic_version VALUES (?)", (revision,))
    return file


def _open(file: Path) -> None:
    with kept_before_migration(file):
        pass


def _migrated(file: Path, revision: str = HEAD) -> None:
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    later_s = file.stat().st_mtime + 5
    os.utime(file, (later_s, later_s))


def _copies(file: Path) -> list[str]:
    return sorted(path.name for path in file.parent.iterdir() if path != file)


@pytest.mark.integration
def test_the_migrations_of_the_installed_mlflow_are_read():
    """Its head is what MLflow itself would say."""
    from alembic.script import ScriptDirectory
    from mlflow.store.db.utils import _get_alembic_config

    scripts = ScriptDirectory.from_config(_get_alembic_config(""))
    assert scripts.get_current_head() == HEAD
    assert {script.revision for script in scripts.walk_revisions()} == installed_migrations().known
    assert OF_3_16 in installed_migrations().known


def test_an_older_database_is_copied_once(tmp_path, caplog):
    """Private to its owner, whole, and not again while nothing changed."""
    file = _database(tmp_path, OF_3_16, rows=1000)
    for _ in range(3):
        _open(file)
    copy = tmp_path / f"mlflow.db.before-{HEAD}"
    assert _copies(file) == [copy.name]
    assert (copy.stat().st_mode & 0o777, revision_of(copy)) == (0o600, OF_3_16)
    with closing(sqlite3.connect(copy)) as database:
        assert database.execute("SELECT count(*) FROM registered_models").fetchone() == (1000,)
    assert [record.message for record in caplog.records] == [f"MLflow may migrate {file} now: it was copied to {copy}"]


def test_an_older_copy_is_never_overwritten(tmp_path):
    """Somebody went back to the copy, worked, and came again."""
    file = _database(tmp_path, OF_3_16)
    _open(file)
    kept = (tmp_path / f"mlflow.db.before-{HEAD}").read_bytes()
    _migrated(file, OF_3_16)
    _open(file)
    assert _copies(file) == [f"mlflow.db.before-{HEAD}", f"mlflow.db.before-{HEAD}-2"]
    assert (tmp_path / f"mlflow.db.before-{HEAD}").read_bytes() == kept


@pytest.mark.parametrize("kind", ["missing", "empty", "without_tables", "current"])
def test_nothing_is_copied_that_no_migration_changes(tmp_path, kind):
    """A new home has nothing to lose, and a database of this MLflow stays as it is."""
    file = tmp_path / "mlflow.db"
    if kind == "empty":
        file.touch()
    elif kind == "without_tables":
        sqlite3.connect(file).close()
    elif kind == "current":
        _database(tmp_path, HEAD)
    _open(file)
    assert _copies(file) == []


@pytest.mark.parametrize("revision", [None, ""])
def test_a_database_that_does_not_say_its_schema_is_copied(tmp_path, revision):
    """MLflow would fill it with its tables."""
    _open(file := _database(tmp_path, revision))
    assert _copies(file) == [f"mlflow.db.before-{HEAD}"]


def test_what_stands_in_the_log_beside_it_is_in_the_copy(tmp_path):
    """A database with a write-ahead log is more than its file; the copy is one file."""
    file = _database(tmp_path, OF_3_16)
    with closing(sqlite3.connect(file)) as writer:
        writer.execute("PRAGMA journal_mode=WAL")
        writer.execute("INSERT INTO registered_models VALUES ('late')")
        writer.commit()
        _open(file)
    with closing(sqlite3.connect(tmp_path / f"mlflow.db.before-{HEAD}")) as copy:
        assert copy.execute("SELECT count(*) FROM registered_models WHERE name = 'late'").fetchone() == (1,)
        assert copy.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def test_a_newer_database_is_told_before_mlflow_touches_it(tmp_path):
    """Without a copy the hint is to install the newer one; nothing is changed or copied."""
    file = _database(tmp_path, OF_NOBODY)
    before = file.read_bytes()
    with pytest.raises(NewerDatabase) as caught:
        MlflowRegistry(f"sqlite:///{file}").resolve("models:/m/1")
    assert (caught.value.code, caught.value.exit_code) == ("E_NEWER_DATABASE", 7)
    assert str(caught.value.reason).startswith("this database was migrated by a newer MLflow")
    assert str(caught.value.hint) == "install that MLflow, or restore a copy from before"
    assert (file.read_bytes(), _copies(file)) == (before, [])


def test_the_copy_that_this_mlflow_can_read_is_named(tmp_path):
    """Of several the newest whose schema it knows, which is not the newest of all."""
    file = _database(tmp_path, OF_3_16)
    _open(file)
    _migrated(file, OF_NOBODY)
    newest = tmp_path / "mlflow.db.before-0123456789ab"
    newest.write_bytes(file.read_bytes())
    with pytest.raises(NewerDatabase, match="newer MLflow") as caught:
        _open(file)
    assert f"cp {tmp_path / f'mlflow.db.before-{HEAD}'} {file}" in str(caught.value.hint)


def test_without_a_copy_nothing_is_migrated(tmp_path, monkeypatch):
    """A disk that takes no copy stops it before MLflow is let near; nothing half is left."""
    file = _database(tmp_path, OF_3_16)

    def full(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "link", full)
    with pytest.raises(Forbidden):
        MlflowRegistry(f"sqlite:///{file}").resolve("models:/m/1")
    assert (revision_of(file), _copies(file)) == (OF_3_16, [])


def test_two_who_come_at_once_make_one_copy(tmp_path):
    """The second waits, and finds the database migrated."""
    file, inside, entered = _database(tmp_path, OF_3_16), threading.Event(), []

    def second() -> None:
        inside.wait(30)
        with kept_before_migration(file):
            entered.append(revision_of(file))

    other = threading.Thread(target=second)
    other.start()
    with kept_before_migration(file):
        inside.set()
        _migrated(file)
    other.join(30)
    assert (entered, _copies(file)) == ([HEAD], [f"mlflow.db.before-{HEAD}"])


@pytest.fixture(scope="module")
def of_3_16(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry's database as MLflow 3.16 made it, by the migrations that it had."""
    from alembic import command
    from mlflow.store.db import utils

    file = tmp_path_factory.mktemp("older") / "mlflow.db"
    engine = utils.create_sqlalchemy_engine(f"sqlite:///{file}")
    utils.InitialBase.metadata.create_all(engine)
    config = utils._get_alembic_config(f"sqlite:///{file}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, OF_3_16)
    engine.dispose()
    assert revision_of(file) == OF_3_16
    return file


@pytest.mark.integration
def test_one_look_migrates_an_older_database_and_the_copy_is_from_before(of_3_16, tmp_path):
    """MLflow does it without a word, since a table is missing."""
    file = Path(shutil.copy(of_3_16, tmp_path / "mlflow.db"))
    with pytest.raises(NotFound):
        MlflowRegistry(f"sqlite:///{file}").resolve("models:/m/1")
    assert (revision_of(file), revision_of(tmp_path / f"mlflow.db.before-{HEAD}")) == (HEAD, OF_3_16)
    again = tmp_path / "again.db"
    shutil.copy(file, again)
    _migrated(again, OF_3_16)
    with pytest.raises(DependencyDown) as caught:
        MlflowRegistry(f"sqlite:///{again}").resolve("models:/m/1")
    assert "is of an older MLflow" in caught.value.reason  # no table is missing: MLflow leaves it to a person
    assert "mlflow db upgrade" in str(caught.value.hint)
    assert (tmp_path / f"again.db.before-{HEAD}").exists()
