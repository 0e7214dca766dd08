"""Does every Runtime keep the port's promises?"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.adapters import process_runtime
from pipelines.adapters.memory import MemoryRuntime
from pipelines.adapters.process_runtime import ProcessRuntime
from pipelines.adapters.unit_files import read_unit, unit_file
from pipelines.errors import DependencyDown, LedgerBroken
from pipelines.home import Home
from pipelines.ports import Runtime, Unit, UnitStatus
from tests.pipelines.tiny_server import listening, now, supervising, until, write_command

UNIT = Unit("s-0", "server", "s", digest="sha256:1", bundle="/bundle")
OTHER = replace(UNIT, name="s-1")


class RuntimeContract:
    """What a Runtime must do."""

    @pytest.fixture
    def runtime(self, tmp_path: Path) -> Runtime:
        """The adapter under test."""
        raise NotImplementedError

    def crash(self, runtime: Runtime, name: str) -> None:
        """The unit's process dies."""
        raise NotImplementedError

    def eventually(self, runtime: Runtime, name: str, is_so: Callable[[UnitStatus], bool]) -> UnitStatus:
        """The unit's status once it is so."""
        assert until(lambda: is_so(runtime.status(name))), runtime.status(name)
        return runtime.status(name)

    def test_an_unknown_unit_is_absent(self, runtime):
        """With nothing to say about it."""
        assert runtime.status("nobody") == UnitStatus()

    def test_what_is_ensured_becomes_ready(self, runtime):
        """On loopback, with a process and no restarts."""
        runtime.ensure(UNIT)
        status = self.eventually(runtime, UNIT.name, lambda s: s.state == "ready")
        assert status.url.startswith("http://127.0.0.1:")
        assert (status.pid is not None, status.restarts, status.reason) == (True, 0, "")

    def test_ensuring_again_changes_nothing(self, runtime):
        """The same process on the same port."""
        runtime.ensure(UNIT)
        before = self.eventually(runtime, UNIT.name, lambda s: s.state == "ready")
        runtime.ensure(UNIT)
        after = self.eventually(runtime, UNIT.name, lambda s: s.state == "ready")
        assert (after.url, after.pid, after.restarts) == (before.url, before.pid, 0)

    def test_a_crash_is_counted_and_repaired(self, runtime):
        """Same address, one restart."""
        runtime.ensure(UNIT)
        before = self.eventually(runtime, UNIT.name, lambda s: s.state == "ready")
        self.crash(runtime, UNIT.name)
        after = self.eventually(runtime, UNIT.name, lambda s: s.state == "ready" and s.restarts == 1)
        assert after.url == before.url

    def test_units_have_their_own_ports(self, runtime):
        """Two that choose do not choose the same."""
        runtime.ensure(UNIT)
        runtime.ensure(OTHER)
        assert len({runtime.status(u.name).url for u in (UNIT, OTHER)}) == 2

    def test_a_changed_unit_keeps_its_address(self, runtime):
        """Other bytes under the same name are ready where the first ones were."""
        runtime.ensure(UNIT)
        before = self.eventually(runtime, UNIT.name, lambda s: s.state == "ready")
        runtime.ensure(replace(UNIT, digest="sha256:2"))
        after = self.eventually(runtime, UNIT.name, lambda s: s.state == "ready")
        assert (after.url, after.restarts) == (before.url, 0)
        assert runtime.units("s")[0].digest == "sha256:2"

    def test_what_is_removed_is_absent(self, runtime):
        """And no longer wanted; the others stay."""
        runtime.ensure(UNIT)
        runtime.ensure(OTHER)
        runtime.remove(UNIT.name)
        assert runtime.status(UNIT.name).state == "absent"
        assert [u.name for u in runtime.units("s")] == [OTHER.name]

    def test_removing_what_is_absent_is_fine(self, runtime):
        """Nothing happens."""
        runtime.remove("nobody")
        assert runtime.status("nobody").state == "absent"

    def test_what_was_removed_can_come_back(self, runtime):
        """Without a restart on its account."""
        runtime.ensure(UNIT)
        self.eventually(runtime, UNIT.name, lambda s: s.state == "ready")
        runtime.remove(UNIT.name)
        runtime.ensure(UNIT)
        assert self.eventually(runtime, UNIT.name, lambda s: s.state == "ready").restarts == 0

    def test_units_are_listed_by_service(self, runtime):
        """As they were asked for, each with the port it got."""
        runtime.ensure(UNIT)
        runtime.ensure(replace(UNIT, name="t-0", service="t"))
        (found,) = runtime.units("s")
        assert replace(found, port=0) == UNIT
        assert found.port == int(runtime.status(UNIT.name).url.rsplit(":", 1)[1])
        assert runtime.units("nobody") == ()


class TestMemoryRuntime(RuntimeContract):
    """The in-memory adapter."""

    @pytest.fixture
    def runtime(self, tmp_path: Path) -> Runtime:
        """An empty one."""
        return MemoryRuntime()

    def crash(self, runtime: MemoryRuntime, name: str) -> None:
        """It has a method for that."""
        runtime.crash(name)

    def test_a_status_can_be_set(self, runtime):
        """Whatever a test wants to be seen is seen."""
        runtime.ensure(UNIT)
        runtime.set(UNIT.name, UnitStatus("starting", reason="loading"))
        assert runtime.status(UNIT.name) == UnitStatus("starting", reason="loading")

    def test_a_unit_can_fail(self, runtime):
        """With a reason, at its address."""
        runtime.ensure(UNIT)
        runtime.fail(UNIT.name, "out of memory")
        assert (runtime.status(UNIT.name).state, runtime.status(UNIT.name).reason) == ("failed", "out of memory")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """An empty home."""
    return Home.open(tmp_path / "home")


@pytest.mark.integration
class TestProcessRuntime(RuntimeContract):
    """Real processes under a real supervisor."""

    @pytest.fixture
    def runtime(self, home: Home, tmp_path: Path) -> Iterator[Runtime]:
        """The client, with a supervisor in a thread as `up` has it."""
        stop = threading.Event()
        with supervising(home, write_command(tmp_path)) as supervisor:

            def supervise() -> None:
                while not stop.wait(0.02):
                    supervisor.step(now())

            thread = threading.Thread(target=supervise)
            thread.start()
            try:
                yield ProcessRuntime(home)
            finally:
                stop.set()
                thread.join()

    def crash(self, runtime: ProcessRuntime, name: str) -> None:
        """Kill -9."""
        os.kill(runtime.status(name).pid or 0, signal.SIGKILL)


def test_what_is_wanted_outlives_who_wanted_it(home):
    """Another process on the same home sees the same unit on the same port; nothing runs yet."""
    ProcessRuntime(home).ensure(UNIT)
    (found,) = ProcessRuntime(home).units("s")
    ProcessRuntime(home).ensure(UNIT)
    assert ProcessRuntime(home).units("s") == (found,)
    assert ProcessRuntime(home).status(UNIT.name).state == "starting"


def test_a_port_that_was_asked_for_is_kept(home):
    """The gateway of a service listens where its spec says."""
    ProcessRuntime(home).ensure(replace(UNIT, port=18_321))
    assert ProcessRuntime(home).status(UNIT.name).url == "http://127.0.0.1:18321"


def test_a_port_in_use_is_not_chosen(home, monkeypatch):
    """Neither one that somebody listens on nor one that another unit was promised."""
    with listening() as taken:
        monkeypatch.setattr(process_runtime, "PORTS", range(taken, taken + 1))
        with pytest.raises(DependencyDown) as caught:
            ProcessRuntime(home).ensure(UNIT)
    assert caught.value.code == "E_PORT"
    ProcessRuntime(home).ensure(UNIT)
    with pytest.raises(DependencyDown):
        ProcessRuntime(home).ensure(OTHER)
    assert [u.port for u in ProcessRuntime(home).units("s")] == [taken]


def test_a_field_of_a_newer_shipway_is_passed_over(home):
    """What an older reader does not know does not stop it."""
    ProcessRuntime(home).ensure(UNIT)
    path = unit_file(home, UNIT.name)
    path.write_text(path.read_text().replace("{", '{"colour": "red", ', 1))
    assert replace(read_unit(home, UNIT.name), port=0) == UNIT


@pytest.mark.parametrize("damage", ["", "{", "[]", "3", '{"name": "s-0"}', "\ud800".encode("utf-8", "surrogatepass")])
def test_a_damaged_unit_file_is_named_and_can_be_replaced(home, damage):
    """E_UNIT; the next `ensure` writes it anew."""
    raw = damage if isinstance(damage, bytes) else damage.encode()
    unit_file(home, UNIT.name).write_bytes(raw)
    with pytest.raises(LedgerBroken) as caught:
        ProcessRuntime(home).status(UNIT.name)
    assert (caught.value.code, caught.value.field) == ("E_UNIT", UNIT.name)
    ProcessRuntime(home).ensure(UNIT)
    assert ProcessRuntime(home).status(UNIT.name).state == "starting"


def test_many_writers_leave_one_whole_file(home):
    """Threads of `up` and of a release ensure the same unit; no half file, no leftovers."""
    surprises: list[Exception] = []

    def ensure(n: int) -> None:
        try:
            for k in range(20):
                ProcessRuntime(home).ensure(replace(UNIT, port=20_001, version=n * 100 + k))
        except Exception as error:  # whatever it is, the test shows it
            surprises.append(error)

    threads = [threading.Thread(target=ensure, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert surprises == []
    assert [p.name for p in home.folder("units").iterdir()] == ["s-0.json"]
    assert read_unit(home, UNIT.name).version % 100 == 19
