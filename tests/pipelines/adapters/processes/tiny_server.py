"""A process that answers that it is ready: what a unit is, with nothing in it."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.adapters.processes.supervisor import Supervisor
from pipelines.home import Home
from pipelines.ports import Now
from pipelines.records.unit import Unit
from tests.waiting import HANG_S

SCRIPT = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Ready(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/v2/health/ready" else 404)
        self.end_headers()

HTTPServer(("127.0.0.1", int(sys.argv[1])), Ready).serve_forever()
"""


def write_command(folder: Path, script: str = SCRIPT) -> Callable[[Home, Unit], list[str]]:
    """The command that serves a unit's port with a script."""
    path = folder / "tiny_server.py"
    path.write_text(script)
    return lambda _, unit: [sys.executable, "-S", str(path), str(unit.port), unit.name]


def now() -> Now:
    """This instant."""
    return Now(time.time(), time.monotonic())


def until(is_so: Callable[[], bool], step: Callable[[], object] = lambda: None, timeout_s: float = HANG_S) -> bool:
    """Step until it is so; False where it never was."""
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        step()
        if is_so():
            return True
        time.sleep(0.02)
    return False


@contextmanager
def listening() -> Iterator[int]:
    """A port that somebody else holds."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@contextmanager
def supervising(home: Home, command: Callable[[Home, Unit], list[str]]) -> Iterator[Supervisor]:
    """A supervisor whose processes are gone afterwards."""
    supervisor = Supervisor(home, command)
    try:
        yield supervisor
    finally:
        supervisor.stop_all()
