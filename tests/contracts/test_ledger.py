"""Does every Ledger keep the port's promises?"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine, delete

from pipelines.adapters.memory.records import MemoryLedger
from pipelines.adapters.sql.engine import open_engine
from pipelines.adapters.sql.ledger import SqlLedger
from pipelines.adapters.sql.tables import events
from pipelines.errors import Busy, DependencyDown, LedgerBroken, NotFound, ShipwayError, StaleWriter
from pipelines.records.ledger import Records
from pipelines.records.release import Candidate, Event, Phase, Release
from pipelines.records.summary import summary_of

CANDIDATE = Candidate("m", 3, "sha256:a", bundle_digest="sha256:b")


def opened(release_id: str, service: str = "s", at_s: float = 10.0) -> Release:
    """A new release."""
    facts = {"id": release_id, "service": service, "spec": {"model": "models:/m/1"}, "spec_digest": "sha256:0"}
    return Release().record(at_s, "opened", **facts)


class LedgerContract:
    """What a Ledger must do."""

    @pytest.fixture
    def ledger(self, tmp_path: Path) -> Records:
        """The adapter under test."""
        raise NotImplementedError

    def test_what_was_recorded_is_loaded(self, ledger):
        """Every event, with its data and its hash, and what folds out of them."""
        release = opened("r1").enter(
            Phase.EVALUATED, 11.25, verdict={"outcome": "pass", "reasons": [{"n": 3, "p": 0.1}]}
        )
        ledger.create(release)
        assert ledger.load("r1") == release

    def test_any_text_survives(self, ledger):
        """Names and reasons come from people."""
        release = opened("r1").record(11.0, "commanded", reason="zurück – 戻る '); DROP TABLE events;--\n\0")
        ledger.create(release)
        assert ledger.load("r1").events == release.events

    def test_whole_seconds_survive(self, ledger):
        """A clock that gives an int does not break the chain."""
        ledger.create(opened("r1", at_s=10))
        assert ledger.load("r1").started_at_s == 10

    def test_an_unknown_release_is_not_found(self, ledger):
        """With the exit code of wrong input."""
        with pytest.raises(NotFound) as caught:
            ledger.load("r9")
        assert caught.value.exit_code == 2

    def test_an_id_is_used_once(self, ledger):
        """The first release stays as it is."""
        ledger.create(opened("r1"))
        with pytest.raises(Busy):
            ledger.create(opened("r1", at_s=99.0))
        assert ledger.load("r1").started_at_s == 10.0

    def test_saving_appends(self, ledger):
        """Only what came after the expected version is written."""
        first = opened("r1")
        ledger.create(first)
        second = first.enter(Phase.EVALUATED, 11.0)
        third = second.enter(Phase.COMPRESSED, 12.0).record(13.0, "note", text="two at once")
        ledger.save(second, 1)
        ledger.save(third, 2)
        assert ledger.load("r1") == third

    @pytest.mark.parametrize("expected", [0, 1, 3])
    def test_a_stale_writer_changes_nothing(self, ledger, expected):
        """Compare-and-set: whoever does not know the last event does not write."""
        first = opened("r1")
        ledger.create(first)
        second = first.enter(Phase.EVALUATED, 11.0)
        ledger.save(second, 1)
        with pytest.raises(StaleWriter):
            ledger.save(first.enter(Phase.REJECTED, 12.0, why="late"), expected)
        assert ledger.load("r1") == second

    def test_an_unknown_release_cannot_be_saved(self, ledger):
        """It was never created."""
        with pytest.raises(StaleWriter):
            ledger.save(opened("r1"), 0)
        assert ledger.summaries() == ()

    def test_releases_are_listed_newest_first(self, ledger):
        """By start, then by id."""
        for name, at_s in (("old", 1.0), ("new", 3.0), ("mid-b", 2.0), ("mid-a", 2.0)):
            ledger.create(opened(name, at_s=at_s))
        assert [r.id for r in ledger.summaries()] == ["new", "mid-a", "mid-b", "old"]

    def test_lists_are_narrowed(self, ledger):
        """To what is unfinished, to a service, to both."""
        for name, service in (("a1", "a"), ("a2", "a"), ("b1", "b")):
            ledger.create(opened(name, service))
        ended = ledger.load("a1").enter(Phase.REJECTED, 20.0, why="worse")
        ledger.save(ended, 1)
        assert [r.id for r in ledger.summaries(unfinished=True)] == ["a2", "b1"]
        assert [r.id for r in ledger.summaries(service="a")] == ["a1", "a2"]
        assert [r.id for r in ledger.summaries(unfinished=True, service="a")] == ["a2"]
        assert ledger.summaries(service="c") == ()

    def test_a_row_says_what_the_release_says(self, ledger):
        """After every write, and none of it is read from the events."""
        first = opened("r1").record(10.5, "resolved", candidate=vars(CANDIDATE), champion={"digest": "sha256:old"})
        ledger.create(first)
        assert ledger.summaries() == (summary_of(first),)
        ended = first.enter(Phase.REJECTED, 12.0, why="worse")
        ledger.save(ended, 2)
        (row,) = ledger.summaries()
        assert row == summary_of(ended)
        assert (row.outcome, row.version, row.bundle_digest, row.champion_digest, row.reason) == (
            *("rejected", 3),
            *("sha256:b", "sha256:old", "worse"),
        )

    def test_lists_have_pages(self, ledger):
        """Each begins after the last of the one before, whatever was opened meanwhile; an unknown last is not found."""
        for name, at_s in (("a", 1.0), ("b", 2.0), ("c", 2.0), ("d", 2.0), ("e", 3.0)):
            ledger.create(opened(name, at_s=at_s))
        assert [r.id for r in ledger.summaries(limit=2)] == ["e", "b"]
        ledger.create(opened("f", at_s=4.0))
        assert [r.id for r in ledger.summaries(limit=2, before="b")] == ["c", "d"]
        assert [r.id for r in ledger.summaries(limit=2, before="d")] == ["a"]
        assert ledger.summaries(limit=2, before="a") == ()
        with pytest.raises(NotFound):
            ledger.summaries(before="z")

    def test_a_broken_record_hides_no_other_and_is_named(self, ledger):
        """Whoever loads it leaves it marked, for all who read rows only."""
        for name in ("r1", "r2"):
            ledger.create(opened(name))
        self.damage(ledger, "r1")
        with pytest.raises(LedgerBroken):
            ledger.load("r1")
        assert [bool(r.broken) for r in ledger.summaries()] == [True, False]
        assert [(r.id, r.outcome, r.is_ended) for r in ledger.summaries(broken=True)] == [("r1", None, False)]
        assert ledger.tally() == {("s", "broken"): 1, ("s", "running"): 1}

    def test_releases_are_counted(self, ledger):
        """By service and outcome."""
        for name, service in (("a1", "a"), ("a2", "a"), ("a3", "a"), ("b1", "b")):
            ledger.create(opened(name, service))
        for name in ("a1", "a2"):
            ledger.save(ledger.load(name).enter(Phase.REJECTED, 20.0, why="worse"), 1)
        assert ledger.tally() == {("a", "rejected"): 2, ("a", "running"): 1, ("b", "running"): 1}

    def test_what_was_set_aside_is_unfinished_no_more(self, ledger):
        """It is still there, says why, and nobody writes to it again."""
        release = opened("r1")
        ledger.create(release)
        self.damage(ledger, "r1")
        ledger.set_aside("r1", "the disk was bad")
        with pytest.raises(LedgerBroken):
            ledger.load("r1")
        (row,) = ledger.summaries()
        assert (row.broken, row.outcome, row.is_ended) == ("the disk was bad", None, True)
        assert (ledger.summaries(unfinished=True), ledger.tally()) == ((), {("s", "broken"): 1})
        with pytest.raises(StaleWriter):
            ledger.save(release.record(11.0, "note"), 1)
        with pytest.raises(NotFound):
            ledger.set_aside("r9", "")

    def damage(self, ledger, release_id: str) -> None:
        """Lose a record's first event."""
        raise NotImplementedError


class TestMemoryLedger(LedgerContract):
    """The in-memory adapter."""

    @pytest.fixture
    def ledger(self, tmp_path: Path) -> Records:
        """An empty one."""
        return MemoryLedger()

    def damage(self, ledger, release_id: str) -> None:
        """Behind the port's back."""
        ledger.chains[release_id] = (replace(ledger.chains[release_id][0], at_s=0.0),)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the database lies."""
    return tmp_path / "ledger.db"


@pytest.fixture
def engine(path: Path) -> Iterator[Engine]:
    """An empty database."""
    engine = open_engine(path)
    yield engine
    engine.dispose()


def change(path: Path, statement: str, *values: object) -> None:
    """Change the database behind Shipway's back."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement, values)
        connection.commit()


def cut(ledger: SqlLedger, release_id: str) -> None:
    """Lose a release's events."""
    with ledger._engine.begin() as connection:
        connection.execute(delete(events).where(events.c.release_id == release_id))


class TestSqlLedger(LedgerContract):
    """The real one, on SQLite."""

    @pytest.fixture
    def ledger(self, engine: Engine) -> Records:
        """On an empty database."""
        return SqlLedger(engine)

    def damage(self, ledger, release_id: str) -> None:
        """In the table."""
        cut(ledger, release_id)

    @pytest.mark.parametrize(
        "statement",
        [
            """UPDATE events SET data = '{"phase": "promoted"}' WHERE seq = 2""",
            "UPDATE events SET data = 'not json' WHERE seq = 2",
            "UPDATE events SET at_s = at_s + 1 WHERE seq = 2",
            "UPDATE events SET kind = 'note' WHERE seq = 2",
            "DELETE FROM events WHERE seq = 1",
            "DELETE FROM events WHERE seq = 2",
            "DELETE FROM events WHERE seq = 3",
            "DELETE FROM events",
        ],
    )
    def test_an_altered_record_is_refused_by_name(self, ledger, path, statement):
        """Changed, cut anywhere, or emptied: the error names the release, and every other one is still readable."""
        ledger.create(opened("r1").enter(Phase.EVALUATED, 11.0).enter(Phase.COMPRESSED, 12.0))
        change(path, statement)
        ledger.create(opened("r2"))
        with pytest.raises(LedgerBroken) as caught:
            ledger.load("r1")
        assert (caught.value.code, caught.value.field, caught.value.exit_code) == ("E_CHAIN", "r1", 7)
        assert ledger.load("r2").id == "r2"

    def test_a_record_that_was_repaired_is_whole_again(self, ledger, path):
        """The mark goes with the next look at it, and so does whatever else its row says wrongly."""
        ledger.create(opened("r1"))
        change(path, "UPDATE events SET at_s = 11")
        with pytest.raises(LedgerBroken):
            ledger.load("r1")
        change(path, "UPDATE events SET at_s = 10")
        change(path, "UPDATE releases SET summary = 'torn', ended = 1, service = 'other'")
        release = ledger.load("r1")
        assert ledger.summaries(unfinished=True) == (summary_of(release),)

    @pytest.mark.parametrize("text", ["", "torn", "[]", "7", '{"phase": 3}', '{"phase": "x"}', "[" * 5000])
    def test_a_row_that_cannot_be_read_is_a_broken_one(self, ledger, path, text):
        """Of a hand, or of a newer Shipway; it is still listed, and so is every other."""
        ledger.create(opened("r1"))
        ledger.create(opened("r2"))
        change(path, "UPDATE releases SET summary = ? WHERE id = 'r1'", text)
        assert [(r.id, r.service, bool(r.broken)) for r in ledger.summaries()] == [
            ("r1", "s", True),
            ("r2", "s", False),
        ]

    def test_what_a_newer_shipway_adds_to_a_row_is_passed_over(self, ledger, path):
        """And it is not written over by an older one that only reads."""
        ledger.create(opened("r1"))
        change(path, """UPDATE releases SET summary = json_set(summary, '$.mood', 'good')""")
        assert ledger.summaries() == (summary_of(ledger.load("r1")),)
        with closing(sqlite3.connect(path)) as connection:
            assert "mood" in connection.execute("SELECT summary FROM releases").fetchone()[0]

    def test_a_forged_chain_that_makes_an_illegal_move_is_refused(self, ledger, path):
        """Hashes can be recomputed by a forger; the moves are still checked."""
        release = opened("r1")
        ledger.create(release)
        forged = Event.after(release.events[-1], 11.0, "entered", {"phase": "promoted"})
        row = ("r1", forged.seq, forged.at_s, forged.kind, json.dumps(dict(forged.data)), forged.prev, forged.hash)
        change(path, "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)", *row)
        change(path, "UPDATE releases SET version = 2")
        with pytest.raises(LedgerBroken, match="may not move from open to promoted"):
            ledger.load("r1")

    def test_one_of_many_writers_wins_each_version(self, engine):
        """Eight threads race for twenty events; each version has one winner, and the chain verifies."""
        ledger = SqlLedger(engine)
        ledger.create(opened("r1"))
        surprises: list[Exception] = []

        def write() -> None:
            while (release := ledger.load("r1")).version < 21:
                try:
                    ledger.save(release.record(20.0, "note"), release.version)
                except StaleWriter:
                    continue
                except ShipwayError as error:
                    surprises.append(error)
                    return

        threads = [threading.Thread(target=write) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (surprises, ledger.load("r1").version) == ([], 21)

    def test_readers_do_not_wait_for_a_writer(self, ledger, path):
        """Status answers while somebody writes."""
        ledger.create(opened("r1"))
        with closing(sqlite3.connect(path, isolation_level=None)) as writer:
            writer.execute("BEGIN IMMEDIATE")
            writer.execute("UPDATE releases SET ended = 1")
            assert [r.id for r in ledger.summaries(unfinished=True)] == ["r1"]


@pytest.mark.postgres
class TestPostgresLedger(LedgerContract):
    """The same SQL on a real PostgreSQL."""

    @pytest.fixture
    def ledger(self, postgres_engine: Engine) -> Records:
        """On an empty ledger."""
        return SqlLedger(postgres_engine)

    def damage(self, ledger, release_id: str) -> None:
        """In the table."""
        cut(ledger, release_id)


def test_what_was_written_outlives_the_process(path):
    """Another engine on the same file reads the same."""
    first = open_engine(path)
    SqlLedger(first).create(opened("r1"))
    first.dispose()
    second = open_engine(path)
    assert [r.id for r in SqlLedger(second).summaries()] == ["r1"]
    second.dispose()


def test_a_file_that_is_no_database_is_an_error_for_people(path):
    """E_LEDGER_IO with SQLite's reason; the file is left alone."""
    path.write_text("mine, and not a database at all\n" * 200)
    with pytest.raises(DependencyDown) as caught:
        open_engine(path)
    assert (caught.value.code, "not a database" in caught.value.reason) == ("E_LEDGER_IO", True)
    assert path.read_text().startswith("mine")


def test_a_full_disk_is_an_error_for_people_and_writes_nothing(engine):
    """A database that may not grow is what a full disk looks like."""
    ledger = SqlLedger(engine)
    ledger.create(opened("r1"))
    with engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    release = ledger.load("r1")
    with pytest.raises(DependencyDown) as caught:
        ledger.save(release.record(11.0, "note", text="x" * 200_000), 1)
    assert (caught.value.code, "full" in caught.value.reason) == ("E_LEDGER_IO", True)
    assert ledger.load("r1") == release
