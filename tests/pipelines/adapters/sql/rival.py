"""One of two programs that want the same thing at the same instant: `rival.py PLACE NAME append|lock|open`."""

from __future__ import annotations

import sys
from pathlib import Path

from pipelines.adapters.sql.engine import open_engine
from pipelines.adapters.sql.ledger import SqlLedger
from pipelines.adapters.sql.lock import SqlLock
from pipelines.errors import Busy, StaleWriter
from pipelines.ports import Now

PLACE, NAME, WANTED = sys.argv[1:]


def say(word: str) -> None:
    """To the test, and wait for its answer."""
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()
    sys.stdin.readline()


def append() -> None:
    """Write the release's next event, from the same last one as the rival."""
    ledger = SqlLedger(open_engine(place()))
    release = ledger.load("r1")
    say("ready")
    ledger.save(release.record(2.0, "note", by=NAME), release.version)


def lock() -> None:
    """Take the lock of a service that nobody has ever held."""
    locks = SqlLock(open_engine(place()))
    say("ready")
    locks.acquire("s", NAME, 60.0, Now(100.0, 0.0))


def open_new() -> None:
    """Make the tables of an empty database."""
    say("ready")
    SqlLedger(open_engine(place())).summaries()


def place() -> str | Path:
    """An address or a file."""
    return PLACE if "://" in PLACE else Path(PLACE)


try:
    {"append": append, "lock": lock, "open": open_new}[WANTED]()
    sys.stdout.write("won\n")
except (Busy, StaleWriter):
    sys.stdout.write("lost\n")
