"""Does the supervisor keep running what is wanted, through kills, its own death and bad luck?"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import psutil
import pytest

from pipelines.adapters.gateway import GatewayRouter
from pipelines.adapters.processes.runtime import ProcessRuntime
from pipelines.adapters.processes.supervisor import Supervisor
from pipelines.adapters.processes.unit_files import (
    Observed,
    hand_settings,
    observed_file,
    read_observed,
    read_unit,
    settings_file,
    take_settings_back,
    unit_file,
    write_observed,
)
from pipelines.adapters.processes.unit_process import child_environment, how_it_ended, unit_command
from pipelines.home import Home
from pipelines.ports import Now
from pipelines.records.settings import GatewaySettings, Recording, ServerSettings, Shadowing
from pipelines.records.split import Arm, TrafficSplit
from pipelines.records.unit import Unit
from pipelines.serving.gateway.options import options_of, serving_of, settings_of
from pipelines.serving.settings_file import read_settings
from tests.pipelines.adapters.processes.tiny_server import listening, now, supervising, until, write_command
from tests.pipelines.serving import upstream
from tests.ports import free_port

UPSTREAM = Path(upstream.__file__)
UNIT = Unit("s-0", "server", "s", digest="sha256:1")
GATEWAY = GatewaySettings()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """An empty home."""
    return Home.open(tmp_path / "home")


@pytest.fixture
def runtime(home: Home) -> ProcessRuntime:
    """Who wants units."""
    return ProcessRuntime(home)


@contextmanager
def answering() -> Iterator[str]:
    """A model server's stand-in that streams, too."""
    port = free_port()
    process = subprocess.Popen([sys.executable, str(UPSTREAM), str(port), "1"])
    try:
        assert until(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def ready(runtime: ProcessRuntime, supervisor: Supervisor, name: str = UNIT.name) -> int:
    """Step until the unit is ready; its process id."""
    assert until(lambda: runtime.status(name).state == "ready", lambda: supervisor.step(now())), runtime.status(name)
    return runtime.status(name).pid or 0


def is_ready_after(runtime: ProcessRuntime, restarts: int) -> bool:
    """Whether the unit is ready after so many restarts."""
    status = runtime.status(UNIT.name)
    return (status.state, status.restarts) == ("ready", restarts)


def has_been_noted(runtime: ProcessRuntime, reason: str) -> bool:
    """Whether the supervisor saw the unit end, and of what: that it is dead shows before anybody has looked."""
    return reason in runtime.status(UNIT.name).reason


@pytest.mark.integration
def test_a_killed_process_comes_back_at_once(home, runtime, tmp_path):
    """Kill -9: another process on the same port, counted as one restart."""
    with supervising(home, write_command(tmp_path)) as supervisor:
        runtime.ensure(UNIT)
        first, url = ready(runtime, supervisor), runtime.status(UNIT.name).url
        os.kill(first, signal.SIGKILL)
        assert until(lambda: not psutil.pid_exists(first), lambda: supervisor.step(now()))
        second = ready(runtime, supervisor)
        status = runtime.status(UNIT.name)
    assert second != first
    assert (status.restarts, status.url) == (1, url)


@pytest.mark.integration
def test_a_new_supervisor_adopts_what_runs(home, runtime, tmp_path):
    """The same process serves on, with its restarts; and when it dies then, it comes back."""
    command = write_command(tmp_path)
    runtime.ensure(UNIT)
    pid = ready(runtime, Supervisor(home, command))
    with supervising(home, command) as second:
        assert ready(runtime, second) == pid
        assert runtime.status(UNIT.name).restarts == 0
        os.kill(pid, signal.SIGKILL)
        assert until(lambda: runtime.status(UNIT.name).restarts == 1, lambda: second.step(now()))


@pytest.mark.integration
def test_a_process_that_was_never_written_down_is_adopted(home, runtime, tmp_path):
    """The supervisor died between the start and the note: the process is found by its command, never started twice."""
    command = write_command(tmp_path)
    runtime.ensure(UNIT)
    pid = ready(runtime, Supervisor(home, command))
    observed_file(home, UNIT.name).unlink()
    with supervising(home, command) as second:
        assert ready(runtime, second) == pid


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process that has nothing to do with Shipway."""
    with subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


@pytest.mark.integration
def test_a_stranger_with_the_same_process_id_is_left_alone(home, runtime, tmp_path, stranger):
    """After a reboot the id belongs to somebody else, who is neither adopted nor stopped."""
    runtime.ensure(UNIT)
    write_observed(home, Observed(runtime.units("s")[0], pid=stranger.pid, started_s=1.0))
    with supervising(home, write_command(tmp_path)) as supervisor:
        assert ready(runtime, supervisor) != stranger.pid
    assert stranger.poll() is None


@pytest.mark.integration
def test_what_is_removed_goes(home, runtime, tmp_path):
    """Process, note and all; removing it is seen at once."""
    with supervising(home, write_command(tmp_path)) as supervisor:
        runtime.ensure(UNIT)
        pid = ready(runtime, supervisor)
        runtime.remove(UNIT.name)
        assert runtime.status(UNIT.name).state == "absent"
        assert until(lambda: not psutil.pid_exists(pid), lambda: supervisor.step(now()))
        assert until(lambda: read_observed(home, UNIT.name) is None, lambda: supervisor.step(now()))


@pytest.mark.integration
def test_what_changed_is_started_anew(home, runtime, tmp_path):
    """Other bytes under the same name are another process, and no crash."""
    with supervising(home, write_command(tmp_path)) as supervisor:
        runtime.ensure(UNIT)
        first = ready(runtime, supervisor)
        runtime.ensure(replace(UNIT, digest="sha256:2"))
        assert runtime.status(UNIT.name).state == "starting"
        second = ready(runtime, supervisor)
        assert (runtime.status(UNIT.name).restarts, second == first) == (0, False)


@pytest.mark.integration
def test_a_changed_gateway_is_relieved_and_keeps_its_streams(home, runtime):
    """The next one answers while the stream of the last one goes on; nobody is refused."""
    gateway = Unit("s-gateway", "gateway", "s", port=free_port(), settings=GATEWAY)
    router = GatewayRouter(home.admin_socket)
    with supervising(home, unit_command) as supervisor, answering() as url:
        runtime.ensure(gateway)
        first, here = ready(runtime, supervisor, gateway.name), runtime.status(gateway.name).url
        before = router.read("s").generation
        router.write("s", TrafficSplit((1, 1), Arm("sha256:1", (url,))), before)
        with httpx.stream("GET", f"{here}/drip", trust_env=False) as stream:
            runtime.ensure(replace(gateway, settings=GatewaySettings(slices=("tier",))))
            said = []
            assert until(
                lambda: runtime.status(gateway.name).pid not in {first, None},
                lambda: (said.append(httpx.get(f"{here}/", trust_env=False).status_code), supervisor.step(now())),
            )
            second = ready(runtime, supervisor, gateway.name)
            assert (set(said), psutil.pid_exists(first), first == second) == ({200}, True, False)
            assert stream.read().count(b"data:") == 15
        assert until(lambda: not psutil.pid_exists(first), lambda: supervisor.step(now()))
        assert until(lambda: list(home.folder("run").glob("*~*.json")) == [], lambda: supervisor.step(now()))
        assert httpx.get(f"{here}/", trust_env=False).status_code == 200


@pytest.mark.integration
def test_what_changed_while_nobody_supervised_is_started_anew(home, runtime, tmp_path):
    """The note says what the process was started for."""
    command = write_command(tmp_path)
    runtime.ensure(UNIT)
    first = ready(runtime, Supervisor(home, command))
    runtime.ensure(replace(UNIT, digest="sha256:2"))
    with supervising(home, command) as second:
        assert ready(runtime, second) != first


@pytest.mark.integration
def test_a_taken_port_is_named_and_tried_again(home, runtime, tmp_path):
    """E_PORT while somebody else has it; ready, without a restart, once it is free."""
    with supervising(home, write_command(tmp_path)) as supervisor:
        with listening() as port:
            runtime.ensure(replace(UNIT, port=port))
            supervisor.step(now())
            status = runtime.status(UNIT.name)
        assert (status.state, status.pid) == ("failed", None)
        assert status.reason.startswith(f"E_PORT: port {port}")
        ready(runtime, supervisor)
        assert runtime.status(UNIT.name).restarts == 0


@pytest.mark.integration
def test_a_crash_loop_backs_off_and_says_why(home, runtime, tmp_path):
    """Started, again at once, and then only after half a second of its clock."""
    command = write_command(tmp_path, "import sys; sys.exit('the bundle is damaged')")
    with supervising(home, command) as supervisor:
        runtime.ensure(UNIT)
        at, later = Now(1_000.0, 100.0), Now(1_000.6, 100.6)
        assert until(lambda: runtime.status(UNIT.name).restarts == 1, lambda: supervisor.step(at))
        assert until(lambda: has_been_noted(runtime, "the bundle is damaged"), lambda: supervisor.step(at))
        supervisor.step(Now(1_000.4, 100.4))
        assert runtime.status(UNIT.name).restarts == 1
        supervisor.step(later)
        assert until(lambda: has_been_noted(runtime, "the bundle is damaged"), lambda: supervisor.step(later))
        assert (runtime.status(UNIT.name).restarts, runtime.status(UNIT.name).reason) == (
            2,
            "exit code 1: the bundle is damaged",
        )


@pytest.mark.integration
def test_who_outgrows_its_memory_is_ended(home, runtime, tmp_path):
    """A leak ends at the unit's limit, not at the machine's; its neighbour of the same size has no limit."""
    leak = "import time; kept = [b'x' * 2**20 for _ in range(200)]; time.sleep(60)"
    with supervising(home, write_command(tmp_path, leak)) as supervisor:
        runtime.ensure(replace(UNIT, settings=ServerSettings(memory_mb=100)))
        runtime.ensure(replace(UNIT, name="s-1"))
        at = Now(1_000.0, 100.0)
        told = "out of memory: killed at its limit of 100 MB"
        assert until(lambda: has_been_noted(runtime, told), lambda: supervisor.step(at))
        assert runtime.status("s-1").restarts == 0


@pytest.mark.integration
def test_who_ran_well_is_forgiven(home, runtime, tmp_path):
    """After a healthy minute the next death counts as the first: the start after it comes at once."""
    with supervising(home, write_command(tmp_path)) as supervisor:
        runtime.ensure(UNIT)
        for restarts, at_s in enumerate((100.0, 161.0, 222.0)):
            at = Now(at_s, at_s)
            assert until(lambda n=restarts: is_ready_after(runtime, n), lambda at=at: supervisor.step(at))
            os.kill(runtime.status(UNIT.name).pid, signal.SIGKILL)
        at = Now(283.0, 283.0)
        assert until(lambda: is_ready_after(runtime, 3), lambda: supervisor.step(at))


@pytest.mark.integration
def test_what_will_not_go_is_killed(home, runtime, tmp_path):
    """SIGTERM is ignored; when the time to drain is over comes SIGKILL."""
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    command = write_command(tmp_path, stubborn + Path(write_command(tmp_path)(home, UNIT)[2]).read_text())
    with supervising(home, command) as supervisor:
        runtime.ensure(UNIT)
        pid = ready(runtime, supervisor)
        runtime.remove(UNIT.name)
        start = now()
        supervisor.step(start)
        supervisor.step(Now(start.wall_s + 11.0, start.mono_s + 11.0))
        assert psutil.pid_exists(pid)
        late = Now(start.wall_s + 12.1, start.mono_s + 12.1)
        assert until(lambda: not psutil.pid_exists(pid), lambda: supervisor.step(late))


@pytest.mark.integration
def test_stopping_everything_leaves_nothing(home, runtime, tmp_path):
    """Every process is gone when the call returns, and what is wanted stays wanted."""
    supervisor = Supervisor(home, write_command(tmp_path))
    units = [UNIT, replace(UNIT, name="s-1")]
    for unit in units:
        runtime.ensure(unit)
    pids = [ready(runtime, supervisor, unit.name) for unit in units]
    supervisor.stop_all()
    assert not [pid for pid in pids if psutil.pid_exists(pid)]
    assert [u.name for u in runtime.units("s")] == ["s-0", "s-1"]


@pytest.mark.integration
def test_a_damaged_wish_changes_nothing_about_what_runs(home, runtime, tmp_path):
    """Anything unknown means hold: the process serves on until somebody says what is wanted."""
    with supervising(home, write_command(tmp_path)) as supervisor:
        runtime.ensure(UNIT)
        pid = ready(runtime, supervisor)
        unit_file(home, UNIT.name).write_text('{"name"')
        supervisor.step(now())
        supervisor.step(now())
        assert psutil.pid_exists(pid)
        runtime.ensure(replace(UNIT, port=int(read_observed(home, UNIT.name).unit.port)))
        assert ready(runtime, supervisor) == pid


def test_a_command_that_cannot_run_is_a_failed_unit(home, runtime):
    """The supervisor survives it and says so."""
    supervisor = Supervisor(home, lambda *_: ["/nonexistent/python"])
    runtime.ensure(UNIT)
    supervisor.step(now())
    status = runtime.status(UNIT.name)
    assert status.state == "failed"
    assert status.reason.startswith("E_START: ")


def test_units_get_no_secrets():
    """The environment of a unit is a short list."""
    secrets = {"MLFLOW_TRACKING_PASSWORD": "x", "RUNNER_TRACKING_ID": "y"}
    child = child_environment({"PATH": "/bin", "LC_ALL": "C", **secrets})
    assert (child["PATH"], child["LC_ALL"], child["HF_HUB_OFFLINE"]) == ("/bin", "C", "1")
    assert not set(secrets) & set(child)


def test_the_command_of_a_server_names_its_bytes(home):
    """Which bundle, which digest, where."""
    unit = Unit("s-0", "server", "s", digest="sha256:1", bundle="/b", port=20_001, version=3)
    command = unit_command(home, unit)
    assert command[:4] == [sys.executable, "-P", "-m", "pipelines.serving.server"]
    assert dict(zip(command[4::2], command[5::2], strict=True)) == {
        "--port": "20001",
        "--settings": str(settings_file(home, unit)),
        "--bundle": "/b",
        "--digest": "sha256:1",
        "--model-name": "s",
        "--model-version": "3",
    }


def test_the_command_of_a_gateway_names_its_socket_and_snapshot(home):
    """The admin socket that others find, and a snapshot that outlives the process."""
    gateway = Unit("s-gateway", "gateway", "s", port=20_002, settings=GATEWAY)
    command = unit_command(home, gateway)
    assert command[3] == "pipelines.serving.gateway"
    assert dict(zip(command[4::2], command[5::2], strict=True)) == {
        "--port": "20002",
        "--settings": str(settings_file(home, gateway)),
        "--service": "s",
        "--admin-socket": str(home.admin_socket("s")),
        "--snapshot": str(home.root / "run" / "s.split"),
        "--override-token": str(home.root / "run" / "s.token"),
        "--record": str(home.root / "records" / "s.db"),
    }


def test_what_a_process_is_told_is_another_file_for_other_settings(home):
    """So a process is known by its command line, and one that was told something else is no stray of ours."""
    cut = GatewaySettings(drain_s=60.0, convicted_streams="cut")
    one, same, other = (Unit("s-0", "gateway", "s", settings=told) for told in (GATEWAY, GATEWAY, cut))
    assert unit_command(home, one) == unit_command(home, same) != unit_command(home, other)
    hand_settings(home, one)
    hand_settings(home, other)
    assert list(home.folder("run").glob("*.settings")) == [settings_file(home, other)]
    take_settings_back(home, "s-0")
    assert list(home.folder("run").glob("*.settings")) == []


def test_a_gateway_understands_what_it_is_told(home):
    """Everything that the unit carries, and where the requests are kept."""
    told = GatewaySettings("shipway", 2, 3.0, ("x-lang",), 60.0, "cookie:id", Recording(0.5), 60.0, "cut", ("/v1/*",))
    gateway = Unit("s-gateway", "gateway", "s", port=20_002, settings=replace(told, shadow=Shadowing(5.0, 3)))
    hand_settings(home, gateway)
    options = options_of(unit_command(home, gateway)[4:])
    serving = serving_of(options, settings_of(options))
    assert (serving.settings, serving.record) == (gateway.settings, home.record("s"))


@pytest.mark.integration
def test_a_unit_finds_its_settings_and_leaves_none(home, runtime, tmp_path):
    """In a private file, written before it starts, and gone when it is forgotten."""
    unit = replace(UNIT, settings=ServerSettings(drain_s=60.0))
    with supervising(home, write_command(tmp_path)) as supervisor:
        runtime.ensure(unit)
        ready(runtime, supervisor)
        (path,) = home.folder("run").glob("*.settings")
        assert (read_settings(path, ServerSettings), path.stat().st_mode & 0o777) == (unit.settings, 0o600)
        runtime.remove(unit.name)
        assert until(lambda: not path.exists(), lambda: supervisor.step(now()))


@pytest.mark.parametrize(
    ("returncode", "said", "expected"),
    [(1, "old\n", "exit code 1"), (-9, "old\n", "signal 9"), (None, "old\nnew\n\n", "it ended: new")],
)
def test_an_end_is_told_in_one_line(tmp_path, returncode, said, expected):
    """Only what this run said counts."""
    (tmp_path / "log").write_text(said)
    assert how_it_ended(returncode, tmp_path / "log", len("old\n")) == expected


def test_an_end_without_a_log_is_still_told(tmp_path):
    """The log may be gone."""
    assert how_it_ended(2, tmp_path / "none", 0) == "exit code 2"


@pytest.mark.integration
def test_a_reboot_is_not_a_crash(home, runtime, tmp_path):
    """What was seen in another boot is started anew, and that is not counted as a restart: the bytes did not fail."""
    runtime.ensure(UNIT)
    unit = read_unit(home, UNIT.name)
    write_observed(home, Observed(unit, os.getpid(), 5.0, restarts=1, boot="another boot"))
    with supervising(home, write_command(tmp_path)) as supervisor:
        ready(runtime, supervisor)
        assert runtime.status(UNIT.name).restarts == 1
