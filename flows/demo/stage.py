"""Where a demo plays: its home, its screen, the real commands, and the client that asks all the time."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from flows.wiring import wire
from pipelines.errors import BadInput
from pipelines.home import FOLDERS, Home

STOP_TIMEOUT_S, HOME_TIMEOUT_S = 35.0, 60.0

NOT_THE_USERS = ("MLFLOW_TRACKING_URI", "SHIPWAY_LEDGER_URL")
"""A demo has a registry and a ledger of its own."""


@dataclass
class Stage:
    """A demo's home and screen, and the processes it must end. `result` is the file that it ends with."""

    home: Home
    service: str
    rows: str
    rps: int
    result: Path
    console: Console = field(default_factory=lambda: Console(stderr=True, highlight=False))
    traffic: subprocess.Popen[bytes] | None = None

    @property
    def folder(self) -> Path:
        """Rows, models, specs and the client's report."""
        return self.home.root / "demo"

    @property
    def data(self) -> str:
        """What production sends."""
        return str(self.folder / self.rows)

    def shipway(self, *arguments: str, quiet: bool = False) -> subprocess.CompletedProcess[str]:
        """Run a command as a user would; its progress goes to the terminal."""
        errors = subprocess.PIPE if quiet else None
        child = subprocess.Popen(
            _command(*arguments), env=self._environment(), stdout=subprocess.PIPE, stderr=errors, text=True
        )
        try:
            said, complained = child.communicate()
        except KeyboardInterrupt:
            child.terminate()  # a release takes its traffic home before it ends
            try:
                child.communicate(timeout=HOME_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                child.kill()
            raise
        return subprocess.CompletedProcess(child.args, child.returncode, said, complained)

    def ask(self, *arguments: str) -> Any:
        """The JSON of a command."""
        done = self.shipway(*arguments, "--json", quiet=True)
        if done.returncode != 0:
            raise RuntimeError(f"shipway {' '.join(arguments)} failed: {done.stderr[-500:]}")
        return json.loads(done.stdout)

    def begin_again(self) -> None:
        """An earlier demo of this home is cleared away; its trained models are kept. Anything else is left alone."""
        home = self.home.root
        if (home / "ledger.db").exists() and set(wire(self.home).services.names()) - {self.service}:
            reason = "this home holds services that are not the demo's"
            raise BadInput(reason, code="E_DEMO", field="SHIPWAY_HOME", hint="name another folder for the demo")
        if not (self.folder / "release.yaml").exists():
            return
        self.shipway("down", quiet=True)
        self.result.unlink(missing_ok=True)
        for name in (*FOLDERS, "prefect"):
            shutil.rmtree(home / name, ignore_errors=True)
        for file in (*home.glob("ledger.db*"), *home.glob("mlflow.db*")):
            file.unlink()
        Home.open(home)

    def start_traffic(self) -> None:
        """Begin to send production rows, in a process of its own."""
        report = str(self.folder / "traffic.json")
        command = _command("traffic", self.service, "--data", self.data, "--rps", str(self.rps), "--report", report)
        self.traffic = subprocess.Popen(
            command,
            env=self._environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def stop_traffic(self) -> None:
        """End the client; it writes its report."""
        if self.traffic is not None and self.traffic.poll() is None:
            self.traffic.send_signal(signal.SIGTERM)
            try:
                self.traffic.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.traffic.kill()

    def leave(self) -> None:
        """Stop what was started, whatever happens meanwhile."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.stop_traffic()
        self.shipway("down", quiet=True)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def _environment(self) -> dict[str, str]:
        """This home with its own registry and ledger, whatever the user's are."""
        kept = {name: value for name, value in os.environ.items() if name not in NOT_THE_USERS}
        return {**kept, "SHIPWAY_HOME": str(self.home.root)}


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "flows.cli", *arguments]
