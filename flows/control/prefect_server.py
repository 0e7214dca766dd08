"""Which server of Prefect's does `up` keep for its home?

One, from the first release on that asks for it, on loopback and at a port that stays. It is started again when it dies,
to an end, and ends with `up`, of whatever that dies.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from flows.control.tether import leash, tethered
from flows.control.up_file import say_in_up_file
from pipelines.adapters.processes.unit_process import child_environment, how_it_ended
from pipelines.home import Home

log = logging.getLogger("shipway.prefect")

POLL_S = 0.5
HEALTHY_TIMEOUT_S = 120.0
WELL_AFTER_S = 60.0
MOST_FAILURES = 5
LONGEST_PAUSE_S = 60.0
END_S = 8.0
BACKLOG = 128

APP = "prefect.server.api.server:create_app"
_NOT_THE_SERVERS = {
    "PREFECT_API_AUTH_STRING",
    "PREFECT_API_KEY",
    "PREFECT_API_URL",
    "PREFECT_CLIENT_MAX_RETRIES",
    "PREFECT_LOGGING_LEVEL",
}
_UNUSED = (
    "CANCELLATION_CLEANUP",
    "CLEANUP_RECONCILER",
    "FOREMAN",
    "LATE_RUNS",
    "PAUSE_EXPIRATIONS",
    "REPOSSESSOR",
    "SCHEDULER",
)
"""Services for deployments and workers, of which a home has none. Automations need the others."""


def request_file(home: Home) -> Path:
    """A release touches it; a home that releases is served again after a restart of `up`."""
    return home.root / "prefect" / "wanted"


def auth_string(home: Home) -> str:
    """What the server asks of its clients: others on this machine reach its port, too. Made where it is missing."""
    path = home.root / "prefect" / "auth"
    with suppress(FileExistsError):
        path.parent.mkdir(mode=0o700, exist_ok=True)
        made = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(made, "w") as file:
            file.write(f"shipway:{secrets.token_urlsafe(32)}")
    return path.read_text()


def server_command(door: int) -> list[str]:
    """Prefect's API behind a socket that listens already."""
    options = ("--fd", str(door), "--log-level", "error", "--lifespan", "on", "--timeout-graceful-shutdown", "4")
    return [sys.executable, "-m", "uvicorn", "--factory", APP, *options]


class HomeServer:
    """The Prefect server of a home, in the hands of a thread of `up`."""

    def __init__(self, home: Home, command: Callable[[int], list[str]] = server_command) -> None:
        self._home = home
        self._command = command
        self._door: socket.socket | None = None
        self._log = home.folder("logs") / "prefect-server.log"

    def tend(self, stop: threading.Event) -> None:
        """Until `stop`: serve once a release has asked; where it dies again, after longer and longer pauses, to an end.

        The next release that asks begins the count anew.
        """
        failures, heard_s = 0, 0.0
        while not stop.wait(_pause_s(failures)):
            asked_s = _asked_s(self._home)
            failures = 0 if asked_s > heard_s else failures
            heard_s = max(asked_s, heard_s)
            if asked_s and failures < MOST_FAILURES:
                failures = 0 if self._serve_once(stop) else failures + 1
                if failures == MOST_FAILURES:
                    self._close()
        self._close()

    def _serve_once(self, stop: threading.Event) -> bool:
        """Serve until the process ends or `stop`; whether it ran well for long enough to count as healthy."""
        try:
            return self._serve(stop)
        except OSError as error:
            self._say("", str(error))
            return False

    def _serve(self, stop: threading.Event) -> bool:
        self._say("")
        door = self._open()
        log_from = self._log.stat().st_size if self._log.exists() else 0
        child = self._start(door)
        began_s, port = time.monotonic(), door.getsockname()[1]
        try:
            if _answers(child, port, stop):
                began_s = time.monotonic()
                is_said = False
                while child.poll() is None and not stop.wait(POLL_S):
                    is_said = is_said or self._say(f"http://127.0.0.1:{port}/api")
        finally:
            _end(child)
            if not stop.is_set():
                self._say("", how_it_ended(child.returncode, self._log, log_from))
        return time.monotonic() - began_s > WELL_AFTER_S

    def _start(self, door: socket.socket) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as out:
            return subprocess.Popen(
                tethered(self._command(door.fileno())),
                cwd=self._home.root / "prefect",
                env=_environment(self._home),
                pass_fds=(door.fileno(),),
                stdin=leash(),
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def _open(self) -> socket.socket:
        """The door stays open while the server behind it is started again: clients wait, and are not refused."""
        if self._door is None:
            noted = self._home.root / "prefect" / "port"
            self._door = _listening(_port_in(noted))
            noted.write_text(str(self._door.getsockname()[1]))
        return self._door

    def _close(self) -> None:
        if self._door is not None:
            self._door.close()
            self._door = None

    def _say(self, url: str, error: str = "") -> bool:
        if error:
            log.warning("Prefect's server: %s", error)
        with suppress(OSError):
            return say_in_up_file(self._home, prefect=url, prefect_error=error)
        return False


def _asked_s(home: Home) -> float:
    try:
        return request_file(home).stat().st_mtime
    except OSError:
        return 0.0


def _pause_s(failures: int) -> float:
    return min(2.0**failures, LONGEST_PAUSE_S) if 0 < failures < MOST_FAILURES else POLL_S


def _port_in(file: Path) -> int:
    """The port that was used before; 0 chooses one."""
    try:
        return int(file.read_text()) % 2**16
    except (OSError, ValueError):
        return 0


def _listening(port: int) -> socket.socket:
    """The same port as before where it is free, another one where it is not."""
    door = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Linux hands it on to accepted connections; uvicorn takes what it inherits for a Unix socket, and sets nothing.
    door.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        door.bind(("127.0.0.1", port))
    except OSError:
        door.bind(("127.0.0.1", 0))
    door.listen(BACKLOG)
    return door


def _answers(child: subprocess.Popen[bytes], port: int, stop: threading.Event) -> bool:
    deadline_s = time.monotonic() + HEALTHY_TIMEOUT_S
    while child.poll() is None and not stop.is_set() and time.monotonic() < deadline_s:
        connection = HTTPConnection("127.0.0.1", port, timeout=0.5)
        with suppress(OSError, HTTPException):
            connection.request("GET", "/api/health")
            if connection.getresponse().status == 200:
                return True
        connection.close()
        stop.wait(POLL_S)
    return False


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(END_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _environment(home: Home) -> dict[str, str]:
    """No password of the ledger or the registry; what the user says of Prefect's server, and what must be so."""
    users = {n: v for n, v in os.environ.items() if n.startswith("PREFECT_") and n not in _NOT_THE_SERVERS}
    return {
        **child_environment(os.environ),
        **{f"PREFECT_SERVER_SERVICES_{name}_ENABLED": "false" for name in _UNUSED},
        **users,
        "PREFECT_SERVER_API_AUTH_STRING": auth_string(home),
        "PREFECT_UI_ENABLED": "false",
        "PREFECT__SERVER_FINAL": "1",
        "DO_NOT_TRACK": "1",
    }
