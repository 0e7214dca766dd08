"""What is different about a ledger on a server? It has an address with a password, and it may go away."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.adapters.sql.engine import open_engine, shown_url, transaction
from pipelines.adapters.sql.inbox import SqlInbox
from pipelines.adapters.sql.ledger import SqlLedger
from pipelines.adapters.sql.lock import SqlLock
from pipelines.errors import BadInput, DependencyDown
from pipelines.ports import Command, Now

SECRET = "s3cret-word"


def shipway(home: Path, url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a home whose ledger is on a server."""
    environment = {**os.environ, "SHIPWAY_HOME": str(home), "SHIPWAY_LEDGER_URL": url}
    command = [sys.executable, "-m", "flows.cli", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize(
    "url",
    [
        *("mysql://u:s3cret-word@h/d", "s3cret-word", "postgresql+psycopg://h:s3cret-word/d", ""),
        *("postgresql+psycopg://u:a@s3cret-word@h/d", "postgresql+psycopg://u:a@s3cret-word/b@h:5/d?x=y"),
    ],
)
def test_an_address_that_is_none_is_refused_without_showing_it(url):
    """The choices are listed; what stands there may be a password."""
    with pytest.raises(BadInput) as caught:
        open_engine(url)
    assert (caught.value.field, caught.value.exit_code) == ("SHIPWAY_LEDGER_URL", 2)
    assert SECRET not in "\n".join(caught.value.lines())


def test_a_server_that_is_down_is_exit_7_and_the_password_is_not_shown(tmp_path):
    """Nothing listens there; the message says where it looked."""
    done = shipway(tmp_path, f"postgresql+psycopg://u:{SECRET}@127.0.0.1:9/d", "list", "--json")
    assert done.returncode == 7
    assert json.loads(done.stdout)["error"]["code"] == "E_LEDGER_IO"
    assert "127.0.0.1:9" in done.stderr
    assert not {SECRET, "Traceback"} & set((done.stdout + done.stderr).replace("@", " ").replace(":", " ").split())
    assert SECRET not in done.stdout + done.stderr


def test_the_address_is_shown_without_its_password():
    """In `up.json`, for instance."""
    assert shown_url(f"postgresql://u:{SECRET}@h:5/d") == "postgresql+psycopg://u:***@h:5/d"
    assert shown_url(f"postgresql://h:5/d?password={SECRET}&sslmode=require") == "postgresql+psycopg://h:5/d?***"
    for unquoted in (f"a@{SECRET}", f"a@{SECRET}/a", f"{SECRET}@a"):
        assert shown_url(f"postgresql://u:{unquoted}@h:5/d?a=b") == "postgresql+psycopg://***@h:5/d"


@pytest.mark.postgres
def test_the_command_line_keeps_its_record_on_the_server(tmp_path, postgres):
    """`list` makes the tables there, and no file of a ledger in the home."""
    assert json.loads(shipway(tmp_path, postgres.url, "list", "--json").stdout) == []
    assert ("releases",) in postgres.run(
        "SELECT table_name FROM information_schema.tables WHERE table_schema='shipway'"
    )
    assert not list(tmp_path.glob("ledger.db*"))


@pytest.mark.postgres
def test_a_restart_of_the_server_is_survived(postgres, postgres_engine):
    """While it is away: a dependency is down. Afterwards the same engine goes on."""
    ledger = SqlLedger(postgres_engine)
    assert ledger.summaries() == ()
    postgres.stop()
    try:
        with pytest.raises(DependencyDown):
            ledger.summaries()
    finally:
        postgres.start()
    assert ledger.summaries() == ()


@pytest.mark.postgres
def test_text_that_it_cannot_hold_is_wrong_input(postgres_engine):
    """PostgreSQL has no NUL, and its columns have lengths: said as such, not as an outage."""
    inbox = SqlInbox(postgres_engine)
    for reason, actor in (("a\0b", "me"), ("", "m" * 201), ("half a pair \ud800", "me")):
        with pytest.raises(BadInput) as caught:
            inbox.send(Command("c1", "r1", "abort", actor, reason))
        assert caught.value.code == "E_TEXT"
    assert inbox.pending("r1") == ()


@pytest.mark.postgres
def test_a_lease_is_not_counted_by_the_servers_clock(postgres_engine):
    """`now` decides, even where it is a day in 1970."""
    lock = SqlLock(postgres_engine)
    token = lock.acquire("s", "a", 60.0, Now(100.0, 0.0))
    assert (token.until_s, lock.holder("s", Now(159.0, 0.0)), lock.holder("s", Now(160.0, 0.0))) == (160.0, "a", None)


@pytest.mark.postgres
def test_a_writer_that_sleeps_half_way_does_not_hold_up_the_next_for_ever(postgres, postgres_engine):
    """The limits are set on every connection."""
    with transaction(postgres_engine) as connection:
        shown = [
            connection.exec_driver_sql(f"SHOW {name}").scalar()
            for name in ("lock_timeout", "idle_in_transaction_session_timeout")
        ]
    assert shown == ["10s", "10s"]


@pytest.mark.postgres
def test_tables_of_others_are_left_alone(postgres, postgres_engine):
    """A table of the same name in the database's public part is somebody else's."""
    postgres.run("CREATE TABLE public.releases (mine INTEGER)")
    try:
        assert SqlLedger(postgres_engine).summaries() == ()
    finally:
        postgres.run("DROP TABLE public.releases")
