"""Two programs want the same thing at the same instant: exactly one gets it, on SQLite and on PostgreSQL."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.adapters.sql.engine import open_engine
from pipelines.adapters.sql.ledger import SqlLedger
from pipelines.records.release import Release

ROOT = Path(__file__).parents[4]
ROUNDS = 3


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str | Path:
    """Where an empty ledger will be."""
    return tmp_path / "ledger.db" if request.param == "sqlite" else request.getfixturevalue("postgres").url


def race(place: str | Path, wanted: str) -> list[str]:
    """What two programs say that begin at the same instant."""
    command = [sys.executable, "-m", "tests.pipelines.adapters.sql.rival", str(place)]
    rivals = [
        subprocess.Popen([*command, name, wanted], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for name in ("a", "b")
    ]
    assert [rival.stdout.readline() for rival in rivals] == ["ready\n", "ready\n"]
    for rival in rivals:
        rival.stdin.write("go\n")
        rival.stdin.flush()
    return sorted(rival.communicate(timeout=120)[0].strip() for rival in rivals)


@pytest.mark.integration
def test_one_of_two_programs_appends(place):
    """Both have read the same last event; the record has one of the two next ones, and verifies."""
    engine = open_engine(place)
    ledger = SqlLedger(engine)
    ledger.create(Release().record(1.0, "opened", id="r1", service="s", spec={}, spec_digest="sha256:0"))
    outcomes = [race(place, "append") for _ in range(ROUNDS)]
    assert outcomes == [["lost", "won"]] * ROUNDS
    assert ledger.load("r1").version == 1 + ROUNDS
    engine.dispose()


@pytest.mark.integration
def test_one_of_two_programs_gets_the_lock(place):
    """The very first time, when there is no row that could be locked."""
    open_engine(place).dispose()
    assert race(place, "lock") == ["lost", "won"]


@pytest.mark.integration
def test_two_programs_may_begin_a_ledger(place):
    """Both make the tables; neither fails."""
    assert race(place, "open") == ["won", "won"]
