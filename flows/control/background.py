"""How is `shipway up` started in the background where none runs, and how is it stopped?"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress
from typing import IO

import psutil

from flows.control.up_file import find_up
from pipelines.errors import DependencyDown
from pipelines.home import Home

START_TIMEOUT_S = 60.0


def start_up(home: Home) -> dict[str, object]:
    """The running `up`, started in the background where none was."""
    running = find_up(home)
    if running is not None:
        return running
    # A CI runner ends what it tracks when the job is over; what serves must outlive the job.
    command = [sys.executable, "-m", "flows.cli", "up"]
    with append_to_log(home, "up.log") as out:
        child = subprocess.Popen(
            command,
            stdout=out,
            stderr=out,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, "SHIPWAY_HOME": str(home.root), "RUNNER_TRACKING_ID": ""},
        )
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and (child.poll() is None or find_up(home)):
        if facts := find_up(home):
            return facts
        time.sleep(0.05)
    raise DependencyDown("shipway up did not start", code="E_UP", hint=f"read {home.root / 'logs' / 'up.log'}")


def stop_up(home: Home, timeout_s: float = 30.0) -> bool:
    """Stop the running `up` and all of its children; False where none runs."""
    facts = find_up(home)
    if facts is None:
        return False
    with suppress(psutil.NoSuchProcess):
        psutil.Process(int(str(facts["pid"]))).terminate()
    # Not by waiting for the process: one whose parent never asks for it stays as a zombie.
    deadline = time.monotonic() + timeout_s
    while find_up(home) is not None and time.monotonic() < deadline:
        time.sleep(0.05)
    return True


def append_to_log(home: Home, name: str) -> IO[bytes]:
    """A log of the home, to be written on to."""
    folder = home.root / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    return (folder / name).open("ab")
