"""`up` keeps one server of Prefect for a home that releases; no kill leaves one behind, and no release needs one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from flows.control import prefect_server
from flows.control.prefect_server import HomeServer, auth_string, request_file
from flows.control.up_file import find_up, write_up_file
from pipelines.home import Home
from tests.flows.control.prefect_story import OUTCOMES, servers_of
from tests.flows.control.test_tether import wait_gone

FAKE = """\
import os, socket, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"%d" % os.getpid())
server = HTTPServer(("127.0.0.1", 0), Answer, bind_and_activate=False)
server.socket = socket.socket(fileno=int(sys.argv[1]))
server.serve_forever()
"""


def until(holds: Callable[[], Any], timeout_s: float = 120) -> Any:
    """What a condition gives once it holds."""
    deadline_s = time.monotonic() + timeout_s
    while not (found := holds()):
        if time.monotonic() > deadline_s:
            pytest.fail("it never came to that")
        time.sleep(0.02)
    return found


def said(home: Home, name: str = "prefect") -> str:
    """What the running `up` says of its server."""
    return str((find_up(home) or {}).get(name, ""))


@pytest.fixture(autouse=True)
def _no_prefect(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever server the test session has, these tests start their own."""
    for name in ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING", "PREFECT_HOME", "PREFECT_PROFILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home whose `up` is this process; nobody waits long."""
    monkeypatch.setattr(prefect_server, "POLL_S", 0.02)
    monkeypatch.setattr(prefect_server, "LONGEST_PAUSE_S", 0.02)
    home = Home.open(tmp_path / "home")
    write_up_file(home, 1)
    (home.root / "fake_server.py").write_text(FAKE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(home.root), *sys.path]))
    return home


def fake(door: int) -> list[str]:
    """A server that starts at once and says its process id."""
    return [sys.executable, "-m", "fake_server", str(door)]


@pytest.fixture
def tended(home: Home) -> Iterator[Callable[..., None]]:
    """Begin to tend a server; it is stopped at the end."""
    stop, threads = threading.Event(), []

    def begin(command: Callable[[int], list[str]] = fake) -> None:
        threads.append(threading.Thread(target=HomeServer(home, command).tend, args=(stop,)))
        threads[-1].start()

    yield begin
    stop.set()
    for thread in threads:
        thread.join(60)


def ask(home: Home) -> None:
    """As a release does."""
    request_file(home).parent.mkdir(exist_ok=True)
    request_file(home).touch()


def pid_behind(url: str) -> int:
    """Which process answers."""
    return int(httpx.get(url, trust_env=False, timeout=60).text)


def test_no_server_before_a_release_asks(home, tended):
    """Whoever never releases pays nothing."""
    started = []
    tended(lambda door: started.append(door) or fake(door))
    time.sleep(0.1)
    assert started == []
    ask(home)
    assert pid_behind(until(lambda: said(home))) > 0
    assert len(started) == 1


def test_one_that_dies_is_started_again_behind_the_same_door(home, tended):
    """Who asks meanwhile waits, and is not refused."""
    ask(home)
    tended()
    url = until(lambda: said(home))
    first = pid_behind(url)
    psutil.Process(first).kill()
    assert wait_gone(first)
    assert pid_behind(url) != first
    assert until(lambda: said(home)) == url


def test_it_comes_to_an_end_that_the_next_release_reopens(home, tended):
    """After five failures nobody tries again, and clients are refused, until another release asks."""
    broken, started = [True], []

    def command(door: int) -> list[str]:
        started.append(door)
        return [sys.executable, "-m", "no_such_module"] if broken[0] else fake(door)

    ask(home)
    tended(command)
    until(lambda: len(started) == prefect_server.MOST_FAILURES and "no_such_module" in said(home, "prefect_error"))
    port = int((home.root / "prefect" / "port").read_text())

    def is_refused() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) != 0

    until(is_refused)
    assert (len(started), said(home)) == (prefect_server.MOST_FAILURES, "")
    broken[0] = False
    ask(home)
    assert until(lambda: said(home)) == f"http://127.0.0.1:{port}/api"
    assert said(home, "prefect_error") == ""


@pytest.mark.parametrize("noted", ["{taken}", "no number"])
def test_a_port_that_cannot_be_had_again_is_another_one(home, tended, noted):
    """Somebody else took it meanwhile, or nobody can read which it was."""
    ask(home)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        (home.root / "prefect" / "port").write_text(noted.format(taken=taken))
        tended()
        url = until(lambda: said(home))
        assert f":{taken}/" not in url
        assert pid_behind(url) > 0


def test_the_server_knows_no_password_of_the_others(home, monkeypatch):
    """Neither the ledger's nor the registry's; what the user says of Prefect's server counts."""
    monkeypatch.setenv("SHIPWAY_LEDGER_URL", "postgresql://me:geheim@host/db")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "geheim")
    monkeypatch.setenv("PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED", "true")
    environment = prefect_server._environment(home)
    assert "geheim" not in json.dumps(environment)
    assert environment["PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED"] == "true"
    assert environment["PREFECT_SERVER_SERVICES_FOREMAN_ENABLED"] == "false"
    assert environment["PREFECT_SERVER_API_AUTH_STRING"] == auth_string(home)


class Real:
    """A home with a real `up`, and processes that release in it."""

    def __init__(self, root: Path) -> None:
        self.home = Home.open(root)
        self.environment = {**os.environ, "SHIPWAY_HOME": str(root), "PREFECT_LOGGING_LEVEL": "CRITICAL"}
        self.up: subprocess.Popen[bytes] | None = None

    def start_up(self) -> int:
        """Begin `up`; its process id, once it says that it runs."""
        with (self.home.root / "logs" / "up.log").open("ab") as out:
            command = [sys.executable, "-m", "flows.cli", "up"]
            self.up = subprocess.Popen(command, env=self.environment, stdout=out, stderr=out)
        pid = self.up.pid
        return until(lambda: (find_up(self.home) or {}).get("pid") == pid and pid)

    def server(self) -> psutil.Process:
        """The one server that `up` has, once it answers."""
        assert self.up is not None
        until(lambda: said(self.home))
        (found,) = servers_of(self.up.pid)
        return found

    def tell(self, *words: str) -> Any:
        """Run a story to its end."""
        command = [sys.executable, "-m", "tests.flows.control.prefect_story", *words]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False, timeout=250)
        assert done.returncode == 0, done.stderr[-3000:]
        assert "Traceback" not in done.stderr
        return json.loads(done.stdout), done.stderr

    def kill_up(self) -> None:
        """SIGKILL to it alone."""
        assert self.up is not None
        self.up.kill()
        self.up.wait()


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Real]:
    """One home for the tests below, which follow each other."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING", "PREFECT_HOME", "PREFECT_PROFILE"):
            patch.delenv(name, raising=False)
        made = Real(tmp_path_factory.mktemp("real"))
    made.start_up()
    ask(made.home)
    yield made
    if made.up is not None:
        made.up.terminate()
        made.up.wait(60)


@pytest.mark.integration
def test_an_automation_finds_every_end(real):
    """By state, tags and the sentence of the record; one server answers, and only to those who know its word."""
    found, _ = real.tell("ends")
    types = ("COMPLETED", "FAILED", "FAILED", "FAILED", "CANCELLED")
    assert found == [
        {"name": f"tiny-{phase}", "type": kind, "message": f"because of {phase}"}
        for phase, kind in zip(OUTCOMES, types, strict=True)
    ]
    assert real.server().is_running()
    url = said(real.home)
    assert httpx.post(f"{url}/flow_runs/filter", json={}, trust_env=False).status_code == 401
    assert httpx.get(f"{url}/health", trust_env=False).status_code == 200


@pytest.mark.integration
def test_a_release_outlives_its_server(real):
    """Killed in the middle of a step: `up` starts it again, and the flow goes on where it was."""
    before = real.server()
    told, _ = real.tell("kills", "server")
    assert told == {"outcome": "rejected", "prefect": "met", "runs": 1}
    assert real.server().pid != before.pid


@pytest.mark.integration
def test_a_release_needs_no_prefect(real, monkeypatch):
    """Lost between the check and the flow: the same story is told without it, and that is said."""
    monkeypatch.setitem(real.environment, "PREFECT_API_URL", "http://me:geheim@127.0.0.1:1/api")
    monkeypatch.setitem(real.environment, "PREFECT_CLIENT_MAX_RETRIES", "0")
    told, errors = real.tell("alone")
    assert told == {"outcome": "rejected", "prefect": "lost", "runs": 1}
    assert ("without Prefect" in errors, "geheim" in errors) == (True, False)


@pytest.mark.integration
def test_a_second_up_is_refused_and_starts_no_second_server(real):
    """The first one keeps its own."""
    command = [sys.executable, "-m", "flows.cli", "up"]
    done = subprocess.run(command, env=real.environment, capture_output=True, text=True, check=False)
    assert (done.returncode, "E_UP_RUNS" in done.stderr) == (8, True)
    assert real.server().is_running()


@pytest.mark.integration
def test_a_kill_of_up_leaves_no_server_and_the_next_up_has_it_again(real):
    """The release ends as it would have, and says what is missing; the server comes back at the same address."""
    server, url = real.server(), said(real.home)
    told, errors = real.tell("kills", "up")
    assert real.up.wait(60) == -9
    assert told == {"outcome": "rejected", "prefect": "met", "runs": 1}
    assert "without Prefect" in errors
    assert wait_gone(server.pid)
    real.start_up()
    assert until(lambda: said(real.home)) == url


@pytest.mark.integration
def test_a_stop_of_up_stops_its_server(real):
    """`shipway down`, or SIGTERM."""
    server = real.server()
    real.up.terminate()
    assert real.up.wait(60) == 0
    assert wait_gone(server.pid)
    real.up = None


@pytest.mark.integration
def test_a_killed_controller_leaves_no_server_of_its_own(real):
    """Where a run had to start one: SIGKILL to the controller alone."""
    command = [sys.executable, "-m", "tests.flows.control.prefect_story", "hangs"]
    with subprocess.Popen(command, env=real.environment, stdout=subprocess.PIPE, text=True) as controller:
        assert controller.stdout is not None
        (server,) = json.loads(controller.stdout.readline())
        controller.kill()
    assert wait_gone(server)
