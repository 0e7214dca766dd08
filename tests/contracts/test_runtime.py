"""Does every Runtime keep the port's promises?"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.adapters.docker.engine import HOME_LABEL, engine
from pipelines.adapters.memory.records import MemoryRuntime
from pipelines.adapters.processes import runtime as process_runtime
from pipelines.adapters.processes.runtime import ProcessRuntime
from pipelines.adapters.processes.supervisor import Supervisor
from pipelines.adapters.processes.unit_files import read_unit, unit_file
from pipelines.adapters.processes.unit_process import unit_command
from pipelines.errors import DependencyDown, LedgerBroken
from pipelines.home import Home
from pipelines.ports import Bundle, Runtime
from pipelines.records.settings import ServerSettings
from pipelines.records.unit import Unit, UnitStatus
from tests.pipelines.adapters.processes.tiny_server import listening, now, supervising, until, write_command
from tests.systems.docker_engine import BASE_IMAGE

UNIT = Unit("s-0", "server", "s", digest="sha256:1", bundle="/bundle")
OTHER = replace(UNIT, name="s-1")


class RuntimeContract:
    """What a Runtime must do."""

    @pytest.fixture
    def runtime(self, tmp_path: Path) -> Runtime:
        """The adapter under test."""
        raise NotImplementedError

    @pytest.fixture
    def unit(self) -> Unit:
        """What is wanted."""
        return UNIT

    def changed(self, unit: Unit) -> Unit:
        """Something else under the same name."""
        return replace(unit, digest="sha256:2")

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

    def test_what_is_ensured_becomes_ready(self, runtime, unit):
        """On loopback, with a process and no restarts."""
        runtime.ensure(unit)
        status = self.eventually(runtime, unit.name, lambda s: s.state == "ready")
        assert status.url.startswith("http://127.0.0.1:")
        assert (status.pid is not None, status.restarts, status.reason) == (True, 0, "")

    def test_ensuring_again_changes_nothing(self, runtime, unit):
        """The same process on the same port."""
        runtime.ensure(unit)
        before = self.eventually(runtime, unit.name, lambda s: s.state == "ready")
        runtime.ensure(unit)
        after = self.eventually(runtime, unit.name, lambda s: s.state == "ready")
        assert (after.url, after.pid, after.restarts) == (before.url, before.pid, 0)

    def test_a_crash_is_counted_and_repaired(self, runtime, unit):
        """Same address, one restart."""
        runtime.ensure(unit)
        before = self.eventually(runtime, unit.name, lambda s: s.state == "ready")
        self.crash(runtime, unit.name)
        after = self.eventually(runtime, unit.name, lambda s: s.state == "ready" and s.restarts == 1)
        assert after.url == before.url

    def test_units_have_their_own_ports(self, runtime, unit):
        """Two that choose do not choose the same."""
        other = replace(unit, name="s-1")
        runtime.ensure(unit)
        runtime.ensure(other)
        assert len({runtime.status(u.name).url for u in (unit, other)}) == 2

    def test_a_changed_unit_keeps_its_address(self, runtime, unit):
        """Other bytes under the same name are ready where the first ones were."""
        runtime.ensure(unit)
        before = self.eventually(runtime, unit.name, lambda s: s.state == "ready")
        runtime.ensure(self.changed(unit))
        after = self.eventually(runtime, unit.name, lambda s: s.state == "ready")
        assert (after.url, after.restarts) == (before.url, 0)
        assert replace(runtime.units("s")[0], port=0) == self.changed(unit)

    def test_what_is_removed_is_absent(self, runtime, unit):
        """And no longer wanted; the others stay."""
        other = replace(unit, name="s-1")
        runtime.ensure(unit)
        runtime.ensure(other)
        runtime.remove(unit.name)
        assert runtime.status(unit.name).state == "absent"
        assert [u.name for u in runtime.units("s")] == [other.name]

    def test_removing_what_is_absent_is_fine(self, runtime):
        """Nothing happens."""
        runtime.remove("nobody")
        assert runtime.status("nobody").state == "absent"

    def test_what_was_removed_can_come_back(self, runtime, unit):
        """Without a restart on its account."""
        runtime.ensure(unit)
        self.eventually(runtime, unit.name, lambda s: s.state == "ready")
        runtime.remove(unit.name)
        runtime.ensure(unit)
        assert self.eventually(runtime, unit.name, lambda s: s.state == "ready").restarts == 0

    def test_units_are_listed_by_service(self, runtime, unit):
        """As they were asked for, each with the port it got."""
        runtime.ensure(unit)
        runtime.ensure(replace(unit, name="t-0", service="t"))
        (found,) = runtime.units("s")
        assert replace(found, port=0) == unit
        assert found.port == int(runtime.status(unit.name).url.rsplit(":", 1)[1])
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


@contextmanager
def stepping(supervisor: Supervisor) -> Iterator[None]:
    """A supervisor at work in a thread, as `up` has it."""
    stop = threading.Event()

    def supervise() -> None:
        while not stop.wait(0.02):
            supervisor.step(now())

    thread = threading.Thread(target=supervise)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.mark.integration
class TestProcessRuntime(RuntimeContract):
    """Real processes under a real supervisor."""

    @pytest.fixture
    def runtime(self, home: Home, tmp_path: Path) -> Iterator[Runtime]:
        """The client, with a supervisor in a thread as `up` has it."""
        with supervising(home, write_command(tmp_path)) as supervisor, stepping(supervisor):
            yield ProcessRuntime(home)

    def crash(self, runtime: ProcessRuntime, name: str) -> None:
        """Kill -9."""
        os.kill(runtime.status(name).pid or 0, signal.SIGKILL)


@pytest.mark.integration
@pytest.mark.docker
@pytest.mark.usefixtures("docker_engine")
@pytest.mark.timeout(600)
class TestContainers(RuntimeContract):
    """Real containers on a real engine, each with its shim under a real supervisor."""

    @pytest.fixture
    def unit(self, tiny_image: Bundle) -> Unit:
        """One replica of a tiny real model, within narrow limits."""
        settings = ServerSettings(cpus=1.0, memory_mb=512, pids=64)
        bytes_of = {"digest": tiny_image.digest, "image": tiny_image.image, "bundle": str(tiny_image.path)}
        return replace(UNIT, settings=settings, **bytes_of)

    @pytest.fixture
    def runtime(self, home: Home) -> Iterator[Runtime]:
        """The client, with a supervisor in a thread as `up` has it; no container of this home is left afterwards."""
        with supervising(home, unit_command) as supervisor, stepping(supervisor):
            yield ProcessRuntime(home)
        assert containers_of(home) == []

    def crash(self, runtime: ProcessRuntime, name: str) -> None:
        """Kill -9 of the server in its container."""
        (container,) = [c for c in engine().containers.list() if c.name.endswith(name)]
        container.kill("SIGKILL")

    def changed(self, unit: Unit) -> Unit:
        """The same bytes, said to be another version: the container must be another one."""
        return replace(unit, version=2)

    def test_it_is_confined(self, runtime, unit):
        """Loopback, a number for a user, a root that cannot be written, no capability, and the limits of the spec."""
        runtime.ensure(unit)
        self.eventually(runtime, unit.name, lambda s: s.state == "ready")
        (container,) = engine().containers.list()
        host = container.attrs["HostConfig"]
        assert (host["Memory"], host["MemorySwap"], host["PidsLimit"]) == (512 * 2**20, 512 * 2**20, 64)
        assert (host["NanoCpus"], host["ReadonlyRootfs"], host["CapDrop"]) == (10**9, True, ["ALL"])
        assert host["PortBindings"]["8080/tcp"][0]["HostIp"] == "127.0.0.1"
        assert host["SecurityOpt"] == ["no-new-privileges:true"]
        assert inside(container, "import os; print(os.getuid())") == "10001"
        assert "Read-only" in inside(container, "open('/srv/bundle/x', 'w')")
        assert inside(container, "print(open('/proc/self/status').read().split('CapEff:')[1].split()[0])") == "0" * 16
        assert inside(container, "print(open('/proc/self/status').read().split('NoNewPrivs:')[1].split()[0])") == "1"
        asked = container.attrs["Config"]["Healthcheck"]["Test"]
        assert container.exec_run(asked[1:]).exit_code == 0
        log = (runtime._home.folder("logs") / f"{unit.name}.log").read_text()
        assert "telemetry" not in log, "the engine calls home"

    def test_a_container_that_lost_its_shim_is_adopted(self, runtime, unit):
        """The same container goes on serving; there are never two."""
        runtime.ensure(unit)
        before = self.eventually(runtime, unit.name, lambda s: s.state == "ready")
        (container,) = engine().containers.list()
        os.kill(before.pid or 0, signal.SIGKILL)
        after = self.eventually(runtime, unit.name, lambda s: s.state == "ready" and s.pid != before.pid)
        assert ([c.id for c in engine().containers.list(all=True)], after.url) == ([container.id], before.url)

    def test_a_container_that_outgrows_its_memory_says_so(self, runtime, unit):
        """It is ended by the kernel, counted, and the reason names the limit."""
        runtime.ensure(unit)
        self.eventually(runtime, unit.name, lambda s: s.state == "ready")
        (container,) = engine().containers.list()
        outgrow(container)
        status = self.eventually(runtime, unit.name, lambda s: s.restarts == 1 or s.state == "failed")
        log = (runtime._home.folder("logs") / f"{unit.name}.log").read_text()
        assert "out of memory" in status.reason + log

    def test_an_image_that_is_gone_is_named(self, runtime, unit):
        """E_IMAGE."""
        runtime.ensure(replace(unit, image="sha256:" + "0" * 64))
        self.eventually(runtime, unit.name, lambda s: "E_IMAGE" in s.reason)


@pytest.fixture(scope="session")
def tiny_image(docker_engine, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The tiny model on ONNX Runtime, in an image."""
    from pipelines.adapters.docker.builder import DockerBuilder
    from pipelines.compress.search import techniques_for
    from pipelines.spec.serve import ServeSpec
    from pipelines.stages.evaluate import source_subject

    folder = tmp_path_factory.mktemp("image")
    (technique,) = techniques_for("dynamic-int8")
    facts = dict(source_subject(tiny_model, "tiny", ServeSpec()).facts)
    made = technique.compress(tiny_model, folder / "small", facts)
    facts.update(engine=made.engine, variant=technique.name, recipe=dict(made.recipe))
    return DockerBuilder(folder / "bundles", "home", BASE_IMAGE).build(made.folder, facts)


def containers_of(home: Home) -> list[str]:
    """The containers that carry this home's label."""
    found = engine().containers.list(all=True, filters={"label": f"{HOME_LABEL}={home.id}"})
    return [container.name for container in found]


def outgrow(container) -> None:
    """Fill the container's memory, so that the kernel ends its server."""
    inside(container, "open('/proc/1/oom_score_adj', 'w').write('1000'); x = [b'x' * 2**20 for _ in range(2000)]")


def inside(container, program: str) -> str:
    """What Python says in a container."""
    return container.exec_run(["python", "-c", program]).output.decode().strip()


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
