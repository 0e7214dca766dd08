"""How do recorded requests lie on the disk, so that each can be found by whom it is of, and be lost for good?

Whose a request is stands beside it as keyed hashes: of its id, and of its user where the service tells users apart. The
key lies in a file of its own. What is deleted is overwritten (`secure_delete`), and the file becomes as short as what
is left; what the file system or a disk keeps of former blocks is out of reach from here.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import orjson

from pipelines.records.settings import Recording

KEY_FILE = "names.key"
BUSY_S = 5.0

WAITING_S = 3600.0
"""Long after this, nothing that was asked before waits to be written any more: a gateway writes within seconds."""

_TABLES = """
CREATE TABLE IF NOT EXISTS requests
    (n INTEGER PRIMARY KEY AUTOINCREMENT, at_s REAL, method TEXT, path TEXT, headers TEXT, body BLOB);
CREATE TABLE IF NOT EXISTS names (n INTEGER PRIMARY KEY, request BLOB, user BLOB);
CREATE TABLE IF NOT EXISTS forgotten (name BLOB PRIMARY KEY, at_s REAL);
CREATE TRIGGER IF NOT EXISTS nameless AFTER DELETE ON requests BEGIN DELETE FROM names WHERE n = OLD.n; END;
"""
"""An older Shipway reads and writes the first of them."""


@dataclass(frozen=True)
class Recorded:
    """One request as it is kept; `n` grows with every request that was ever kept here."""

    n: int
    at_s: float
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Named:
    """A request that is to be kept, and the hashes of whose it is."""

    recorded: Recorded
    request: bytes
    user: bytes | None


@dataclass(frozen=True)
class Erased:
    """What was removed of somebody: requests; and how many are left of which nobody knows whose they are."""

    requests: int
    unnamed: int


class Naming:
    """Gives hashes of ids and users, by the key beside a record. OSError where that cannot be read or made."""

    def __init__(self, folder: Path) -> None:
        path = folder / KEY_FILE
        with suppress(FileExistsError):
            made = folder / f".{KEY_FILE}.{secrets.token_hex(4)}"
            with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
                out.write(secrets.token_bytes(32))
            try:
                path.hardlink_to(made)  # whole at once, and never over another's
            finally:
                made.unlink()
        self._key = path.read_bytes()

    def of_request(self, request_id: bytes) -> bytes:
        """Of the `x-request-id` of an answer."""
        return self._hashed(b"request", request_id)

    def of_user(self, user: bytes) -> bytes:
        """Of the value that tells a user apart."""
        return self._hashed(b"user", user)

    def _hashed(self, kind: bytes, value: bytes) -> bytes:
        return blake2b(value, key=self._key, person=kind, digest_size=16).digest()


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """The record, private to its user, made where it is missing; a transaction. sqlite3.Error or OSError."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600))
    path.chmod(0o600)
    with closing(sqlite3.connect(path, timeout=BUSY_S)) as kept:
        kept.execute("PRAGMA auto_vacuum = FULL")
        kept.execute("PRAGMA secure_delete = ON")
        kept.executescript(_TABLES)
        with kept:
            yield kept


def settle(path: Path, recording: Recording) -> None:
    """Begin to keep by these rules. A record that was made under other rules of redaction is emptied first."""
    said = [*sorted(recording.redact), "", *sorted(recording.recognise), *map(str, sorted(recording.patterns.items()))]
    rules = zlib.crc32("\n".join(said).encode()) & 0x7FFFFFFF
    with opened(path) as kept:
        if kept.execute("PRAGMA user_version").fetchone()[0] != rules:
            kept.execute("DELETE FROM requests")
            kept.execute(f"PRAGMA user_version = {rules}")
        kept.execute(
            f"PRAGMA application_id = {max(1, round(recording.retain_s))}"
        )  # for who cleans up without a gateway


def keep(path: Path, batch: Sequence[Named], most: int) -> None:
    """Add requests, and remove the oldest beyond `most`. What was to be forgotten meanwhile is not added."""
    with opened(path) as kept:
        for one in batch:
            r, names = one.recorded, (one.request, one.user)
            row = (r.at_s, r.method, r.path, orjson.dumps(r.headers), r.body)
            added = kept.execute(
                "INSERT INTO requests (at_s, method, path, headers, body) SELECT ?, ?, ?, ?, ? "
                "WHERE NOT EXISTS (SELECT 1 FROM forgotten WHERE name IN (?, ?) AND at_s >= ?)",
                (*row, *names, r.at_s),
            )
            if added.rowcount:
                kept.execute("INSERT INTO names VALUES (?, ?, ?)", (added.lastrowid, *names))
        kept.execute("DELETE FROM requests WHERE n <= (SELECT max(n) FROM requests) - ?", (most,))


def expire(path: Path, now_s: float) -> int:
    """Remove what was kept for its time; how many that were."""
    with opened(path) as kept:
        retain_s = kept.execute("PRAGMA application_id").fetchone()[0] or Recording.retain_s
        kept.execute("DELETE FROM forgotten WHERE at_s < ?", (now_s - WAITING_S,))
        return kept.execute("DELETE FROM requests WHERE at_s < ?", (now_s - retain_s,)).rowcount


def empty(path: Path) -> None:
    """Remove everything that is kept, before the file itself goes: what is unlinked is not overwritten."""
    with opened(path) as kept:
        kept.execute("DELETE FROM requests")


def erase(path: Path, names: Sequence[bytes], now_s: float) -> Erased:
    """Remove all requests with one of these hashes, those that wait to be written included."""
    marks = ",".join("?" * len(names))
    with opened(path) as kept:
        kept.executemany("INSERT OR REPLACE INTO forgotten VALUES (?, ?)", [(name, now_s) for name in names])
        found = f"SELECT n FROM names WHERE request IN ({marks}) OR user IN ({marks})"  # noqa: S608  question marks
        gone = kept.execute(f"DELETE FROM requests WHERE n IN ({found})", (*names, *names)).rowcount  # noqa: S608
        left = "SELECT count(*) FROM requests LEFT JOIN names USING (n) WHERE user IS NULL"
        return Erased(gone, kept.execute(left).fetchone()[0])


def recorded_numbers(path: Path) -> tuple[int, ...]:
    """The numbers of the requests that are kept, oldest first. OSError or sqlite3.Error where they cannot be read."""
    return tuple(n for (n,) in _asked(path, "SELECT n FROM requests ORDER BY n"))


def recorded_requests(path: Path, numbers: Sequence[int]) -> dict[int, Recorded]:
    """The requests of these numbers, as far as they are still kept."""
    rows = (row for n in numbers for row in _asked(path, "SELECT * FROM requests WHERE n = ?", n))
    return {
        n: Recorded(n, at_s, method, to, orjson.loads(headers), body) for n, at_s, method, to, headers, body in rows
    }


def _asked(path: Path, query: str, *values: int) -> list[Any]:
    if not path.exists() or not path.stat().st_size:  # it is just being made
        return []
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=BUSY_S)) as kept:
        return kept.execute(query, values).fetchall()
