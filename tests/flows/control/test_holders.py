"""Who holds a lock, and is it gone?"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from flows.control.holders import holder, is_dead, living_holder, spoken
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


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("rollback@there/4026531836:7:1.00", "shipway rollback (rollback@there/4026531836:7:1.00)"),
        ("reconcile@a.b/0:12:3", "shipway up (reconcile@a.b/0:12:3)"),
        ("command@there/1:7:1.00", "shipway abort or rollback (command@there/1:7:1.00)"),
        ("somebody", "somebody"),
    ],
)
def test_a_holder_is_said_in_words(name, said):
    """A name of another form stays as it is."""
    assert spoken(name) == said


def test_a_lock_without_a_release_names_the_command_that_has_it(tmp_path):
    """Nobody is sent to look for a release that is not there."""
    ports = wire(Home.open(tmp_path))
    ports.lock.acquire("s", "rollback@there/1:7:1.00", 60.0, clock())
    with pytest.raises(Busy) as caught, hold(ports, "s", holder("release")):
        pass
    said = "E_BUSY (service): s is held by shipway rollback (rollback@there/1:7:1.00), and no release of it runs"
    assert str(caught.value) == said
