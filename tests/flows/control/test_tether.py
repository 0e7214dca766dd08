"""A server ends with the process that started it, however that one ends."""

from __future__ import annotations

import subprocess
import sys
import time

import psutil
import pytest

from flows.control.tether import leash, tethered

PARENT = """\
import subprocess, sys, time
from flows.control.tether import leash, tethered
server = [sys.executable, "-m", "http.server", "0", "--bind", "127.0.0.1"]
child = subprocess.Popen(tethered(server), stdin=leash(), stdout=subprocess.DEVNULL, start_new_session=True)
print(child.pid, flush=True)
time.sleep(600)
"""


def is_gone(pid: int) -> bool:
    """Whether a process has ended; whose child it was may never have asked."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_gone(pid: int, timeout_s: float = 60) -> bool:
    """Whether a process ends before a time that only a hanging one takes."""
    deadline_s = time.monotonic() + timeout_s
    while not is_gone(pid) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    return is_gone(pid)


def test_a_kill_of_the_parent_ends_the_server():
    """SIGKILL to the parent alone: nobody is left, although the server has a session of its own."""
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        server = int(parent.stdout.readline())
        assert not is_gone(server)
        parent.kill()
    assert wait_gone(server)


def test_the_module_gets_its_arguments():
    """It runs as `python -m MODULE …` would."""
    command = tethered([sys.executable, "-m", "http.server", "--help"])
    done = subprocess.run(command, stdin=leash(), capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: server.py")


def test_only_a_module_can_be_tethered():
    """Another command would not hear that its parent is gone."""
    with pytest.raises(ValueError, match="not a module"):
        tethered([sys.executable, "server.py"])
