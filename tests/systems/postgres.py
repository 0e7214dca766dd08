"""A real PostgreSQL for the tests: made, started and stopped by the session that needs it."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from tests.ports import free_port
from tests.waiting import HANG_S

DEBIAN = Path("/usr/lib/postgresql")
SUPERUSER = "tester"


def program(name: str) -> str | None:
    """Where one of PostgreSQL's programs is; Debian keeps them off the search path."""
    beside = sorted(DEBIAN.glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(beside[-1]) if beside else None)


@dataclass(frozen=True)
class Server:
    """A running server on loopback; anybody on this machine may log in."""

    folder: Path
    port: int

    @property
    def url(self) -> str:
        """What SHIPWAY_LEDGER_URL says; the password is not needed, and must never be seen."""
        return f"postgresql+psycopg://{SUPERUSER}:s3cret-word@127.0.0.1:{self.port}/postgres"

    def control(self, *arguments: str) -> None:
        """`pg_ctl` on this server. A server that starts keeps what it inherits, so it inherits no pipe."""
        _run("pg_ctl", "-D", str(self.folder / "data"), "-w", *arguments)

    def start(self) -> None:
        """Serve, without syncing: what is lost with this machine is not missed."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c fsync=off -k {self.folder}"
        self.control("-l", str(self.folder / "log"), "-o", options, "start")

    def stop(self) -> None:
        """End it now, also where it is only about to begin."""
        if (self.folder / "data" / "postmaster.pid").exists():
            self.control("-m", "immediate", "stop")

    def run(self, statement: str) -> list[Any]:
        """Do something behind Shipway's back."""
        with psycopg.connect(self.url.replace("+psycopg", ""), autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def clear(self) -> None:
        """Nothing of Shipway's is left in it."""
        self.run("SET client_min_messages = error; DROP SCHEMA IF EXISTS shipway CASCADE")


@contextmanager
def serving() -> Iterator[Server]:
    """A server that lives as long as the block."""
    # Not under pytest's folders: those are private to root, and PostgreSQL refuses to run as root.
    folder = Path(tempfile.mkdtemp(prefix="shipway-postgres-"))
    if owner := _owner():
        shutil.chown(folder, owner)
    server = Server(folder, free_port())
    try:
        _run("initdb", "-D", str(folder / "data"), "-A", "trust", "-U", SUPERUSER, "-E", "UTF8", "--no-sync")
        try:
            server.start()
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(name: str, *arguments: str) -> None:
    user = {"user": owner, "group": owner, "extra_groups": []} if (owner := _owner()) else {}
    command = [program(name) or name, *arguments]
    with tempfile.TemporaryFile() as said:
        done = subprocess.run(command, stdout=said, stderr=said, cwd="/", timeout=HANG_S, check=False, **user)
        said.seek(0)
        assert done.returncode == 0, said.read().decode()[-2000:]


def _owner() -> str | None:
    """Root may not run PostgreSQL: then the user that its package made does."""
    if os.getuid() != 0:
        return None
    return "postgres" if any(entry.pw_name == "postgres" for entry in pwd.getpwall()) else "nobody"
