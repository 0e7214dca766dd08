"""A real Prefect server on loopback: one for all releases of a session, since each of its own costs ten CPU seconds."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.ports import free_port
from tests.waiting import HANG_S, until

MINIMAL = {"PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1", "PREFECT_UI_ENABLED": "0"}
"""What Prefect gives the server that it starts for a run alone: no services that nobody asks here."""


@dataclass(frozen=True)
class PrefectServer:
    """Its database lies in `folder`."""

    folder: Path
    port: int

    @property
    def url(self) -> str:
        """What PREFECT_API_URL says."""
        return f"http://127.0.0.1:{self.port}/api"

    @property
    def database(self) -> Path:
        """SQLite."""
        return self.folder / "prefect.db"

    @property
    def command(self) -> list[str]:
        """As Prefect itself starts one."""
        package = importlib.util.find_spec("prefect").submodule_search_locations[0]
        where = ["--app-dir", package, "--host", "127.0.0.1", "--port", str(self.port)]
        return [sys.executable, "-m", "uvicorn", *where, "--factory", "prefect.server.api.server:create_app"]

    def listens(self) -> bool:
        """Whether somebody is there."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@contextmanager
def serving() -> Iterator[PrefectServer]:
    """A server that lives as long as the block."""
    with tempfile.TemporaryDirectory(prefix="shipway-prefect-", ignore_cleanup_errors=True) as folder:
        server = PrefectServer(Path(folder), free_port())
        environment = {**os.environ, **MINIMAL, "PREFECT_HOME": folder}
        log = Path(folder) / "log"
        with log.open("wb") as said:
            process = subprocess.Popen(
                server.command, stdout=said, stderr=said, env=environment, start_new_session=True
            )
        try:
            until(lambda: process.poll() is not None or server.listens())
            assert process.poll() is None, log.read_text()[-2000:]
            yield server
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(HANG_S)
