"""A real `mlflow server` on loopback, which a test may kill and start again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.ports import free_port
from tests.waiting import HANG_S, until

WITHOUT_JOBS = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
"""Else it starts eight more processes, which nothing here uses."""


@dataclass
class MlflowServer:
    """Its artifacts lie in `folder`, and so does its database where no `database` is named."""

    folder: Path
    database: str = ""
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def uri(self) -> str:
        """What MLFLOW_TRACKING_URI says."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Begin, and wait until it listens."""
        arguments = ["server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        arguments += ["--backend-store-uri", self.database or f"sqlite:///{self.folder / 'server.db'}"]
        arguments += ["--artifacts-destination", str(self.folder / "served")]
        command = [sys.executable, "-m", "mlflow", *arguments]
        with (self.folder / "server.log").open("a") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self.folder, env=os.environ | WITHOUT_JOBS, start_new_session=True
            )
        with ExitStack() as stack:
            stack.callback(self.stop, signal.SIGKILL)
            until(lambda: self.listens() or self.process.poll() is not None)
            assert self.process.poll() is None, (self.folder / "server.log").read_text()[-2000:]
            stack.pop_all()

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it and its workers."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, how)
            self.process.wait(HANG_S)

    def listens(self) -> bool:
        """Whether somebody is there."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0
