"""What the session's own fixtures promise: what fails half-way stays nowhere, and what is kept is whole."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.ordering import DOCKER, DOCKER_FILES, FIRST, WEIGHTS_S, group_of, weight_s
from tests.pipelines.serving.gateway.test_gateway import Bench
from tests.ports import EACH, free_port, thousand_of
from tests.systems import prefect_server
from tests.systems.base_image import NAME, BaseImage, CannotMake
from tests.systems.children import living_children
from tests.systems.mlflow_server import MlflowServer

TESTS = Path(__file__).parents[1]
ALIVE = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"


def never(*_: object) -> None:
    """What somebody waits for does not come."""
    raise AssertionError("it never held")


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A stand-in for mmdebstrap, which writes what it is told to write; it is to be filled."""
    path = tmp_path / "program"
    path.touch(0o700)
    return path


def test_a_base_image_is_made_once(tmp_path, program):
    """Whole, by a rename; the second time nothing is run."""
    program.write_text('#!/bin/sh\nfor last; do :; done\nprintf whole > "$last"\n')
    base = BaseImage(tmp_path / "cache", str(program))
    assert base.path().read_text() == "whole"
    program.write_text("#!/bin/sh\nexit 1\n")
    assert base.path() == tmp_path / "cache" / NAME
    assert sorted(path.name for path in base.folder.iterdir()) == [NAME, f"{NAME}.lock"]


def test_a_base_image_that_cannot_be_made_leaves_nothing(tmp_path, program):
    """The reason is told, and half an archive is not kept."""
    program.write_text('#!/bin/sh\nfor last; do :; done\nprintf half > "$last"\necho "no route" >&2\nexit 1\n')
    base = BaseImage(tmp_path / "cache", str(program))
    with pytest.raises(CannotMake, match="no route"):
        base.path()
    assert [path.name for path in base.folder.iterdir()] == [f"{NAME}.lock"]


def test_servers_that_do_not_get_ready_are_ended(tmp_path, monkeypatch):
    """MLflow's, Prefect's and a gateway: whoever waits for them in vain leaves no process behind."""
    before = living_children()
    for module in (
        "tests.systems.mlflow_server",
        "tests.systems.prefect_server",
        "tests.pipelines.serving.gateway.test_gateway",
    ):
        monkeypatch.setattr(f"{module}.until", never)
    with pytest.raises(AssertionError, match="never held"):
        MlflowServer(tmp_path).start()
    with pytest.raises(AssertionError, match="never held"), prefect_server.serving():
        pass
    with pytest.raises(AssertionError, match="never held"):
        Bench(tmp_path)
    assert living_children() <= before


@pytest.mark.integration
@pytest.mark.timeout(180)
def test_a_session_that_is_told_to_end_takes_its_fixtures_down(tmp_path):
    """SIGTERM: what a fixture started is gone before the session is."""
    (tmp_path / "test_one.py").write_text(
        "import subprocess, sys, time, pytest\nfrom tests.conftest import pytest_configure\npytest_configure()\n\n"
        "@pytest.fixture\ndef child():\n"
        f"    process = subprocess.Popen([sys.executable, '-c', {ALIVE!r}])\n"
        "    yield\n    process.kill()\n    process.wait()\n\n"
        "def test_one(child):\n    time.sleep(600)\n"
    )
    command = [sys.executable, "-m", "pytest", "-s", "-p", "no:cacheprovider", f"--rootdir={tmp_path}", str(tmp_path)]
    alone = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    session = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=TESTS.parent, env=alone, start_new_session=True
    )
    try:
        words = (line.split()[-1:] for line in session.stdout)
        pid = next(int(last[0]) for last in words if last and last[0].isdigit())
        session.send_signal(signal.SIGTERM)
        session.communicate(timeout=120)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(session.pid, signal.SIGKILL)
        session.wait()
    assert (session.returncode, psutil.pid_exists(pid)) == (143, False)


def test_each_worker_has_ports_of_its_own():
    """A thousand each, which nobody else gives out; and one port is not given twice in a row."""
    thousands = [set(thousand_of(worker)) for worker in ("", "gw0", "gw1")]
    assert [len(ports) for ports in thousands] == [EACH] * 3
    assert not thousands[0] & thousands[1] | thousands[1] & thousands[2]
    first, second = free_port(), free_port()
    assert first != second
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", first))


def test_the_weights_are_of_files_that_are_there():
    """A file that was renamed keeps its place in the order; the linters come before all."""
    texts = {path.stem.removeprefix("test_"): path.read_text() for path in TESTS.rglob("test_*.py")}
    assert set(WEIGHTS_S) <= {*texts, DOCKER}
    assert max([*WEIGHTS_S, FIRST], key=weight_s) == FIRST
    assert {stem for stem, text in texts.items() if re.search(r"@?pytest\.mark\.docker\b", text)} == DOCKER_FILES


def test_a_file_belongs_to_one_worker():
    """And all that needs the Docker Engine to another one, or the same."""
    ids = [
        "tests/flows/releases/test_adopt.py::test_a[x/y::z]",
        "tests/contracts/test_runtime.py::TestB::test_b",
        "test_c.py",
    ]
    assert [group_of(nodeid) for nodeid in ids] == ["adopt", DOCKER, "c"]
