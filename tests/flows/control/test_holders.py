"""Who holds a lock, and is it gone?"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from flows.control.holders import holder, is_dead, living_holder
from flows.control.lock import hold
from flows.wiring import clock, wire
from pipelines.errors import Busy
from pipelines.home import Home

SAY = "from flows.control.holders import holder; print(holder('release'), flush=True)"


@pytest.fixture
def gone() -> str:
    """The name of a process that has ended."""
    return subprocess.check_output([sys.executable, "-c", SAY], text=True).strip()


def test_a_process_that_ended_is_dead(gone):
    """And this one lives."""
    assert (is_dead(gone), is_dead(holder("release"))) == (True, False)


def test_one_that_nobody_has_asked_for_is_dead():
    """A killed child whose parent sleeps is a zombie: it writes nothing any more."""
    child = subprocess.Popen([sys.executable, "-c", f"{SAY}; input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    name = child.stdout.readline().decode().strip()
    assert not is_dead(name)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert is_dead(name)
    child.communicate()


@pytest.mark.parametrize("change", [("@", "@other-"), ("/", "/9"), ("release", "")])
def test_what_is_not_known_counts_as_alive(gone, change):
    """Another machine, another container, a name of another form."""
    assert not is_dead(gone.replace(*change, 1))


def test_a_lock_of_a_dead_process_is_free(tmp_path, gone):
    """At once, not at the end of its time; one of another machine is waited for."""
    ports = wire(Home.open(tmp_path))
    ports.lock.acquire("s", gone, 60.0, clock())
    assert living_holder(ports, "s", clock()) is None
    with hold(ports, "s", holder("release")) as held:
        assert held.token.fence == 2
    ports.lock.acquire("s", gone.replace("@", "@other-"), 60.0, clock())
    with pytest.raises(Busy, match="other-"), hold(ports, "s", holder("release")):
        pass
