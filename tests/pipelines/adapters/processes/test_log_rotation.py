"""Does a log stay small while a process writes to it, and is what was written still there?"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.adapters.processes.log_rotation import rotate, rotate_all
from pipelines.adapters.processes.unit_process import how_it_ended, spawn
from tests.pipelines.adapters.processes.tiny_server import until

TALKER = "import itertools, time\nfor n in itertools.count():\n  print(n, 'x' * 90, flush=True)\n  time.sleep(0.0005)\n"


def numbers(path: Path) -> list[int]:
    """The numbers of the lines that are whole."""
    return [int(line.split()[0]) for line in path.read_text().splitlines() if line.endswith("x" * 90)]


@pytest.mark.integration
def test_a_child_goes_on_in_the_cut_file(tmp_path):
    """It keeps the same open file: after each cut it writes at the new end, without a hole, and its lines go on."""
    log = tmp_path / "s-0.log"
    child = spawn([sys.executable, "-c", TALKER], {}, tmp_path, log)
    try:
        for _ in range(3):
            assert until(lambda: log.exists() and log.stat().st_size > 20_000)
            inode = log.stat().st_ino
            rotate_all(tmp_path, max_bytes=20_000)
            assert (log.stat().st_ino, log.stat().st_size < 20_000) == (inode, True)
        assert until(lambda: log.stat().st_size > 5_000)
    finally:
        child.kill()
        child.wait()
    files = [tmp_path / f"s-0.log.{n}" for n in (3, 2, 1)] + [log]
    assert not any(b"\0" in file.read_bytes() for file in files)
    found = [n for file in files for n in numbers(file)]
    assert found == sorted(set(found))
    assert len(found) >= 0.98 * (found[-1] + 1)


def test_the_oldest_goes(tmp_path):
    """Three are kept, the newest is `.1`."""
    log = tmp_path / "up.log"
    for n in range(5):
        log.write_text(f"{n}")
        rotate(log)
    assert [(tmp_path / f"up.log.{n}").read_text() for n in (1, 2, 3)] == ["4", "3", "2"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["up.log", "up.log.1", "up.log.2", "up.log.3"]
    assert log.read_text() == ""


def test_small_logs_and_other_files_are_left_alone(tmp_path):
    """Only `*.log` over the limit."""
    (tmp_path / "small.log").write_text("x" * 100)
    (tmp_path / "large.json").write_text("x" * 1000)
    (tmp_path / "large.log").write_text("x" * 1000)
    rotate_all(tmp_path, max_bytes=500)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["large.json", "large.log", "large.log.1", "small.log"]


def test_a_log_that_cannot_be_rotated_is_survived(tmp_path):
    """A folder stands where the copy should go: the log stays whole, and the next one has its turn."""
    (tmp_path / "a.log").write_text("x" * 1000)
    (tmp_path / "a.log.3").mkdir()
    (tmp_path / "b.log").write_text("x" * 1000)
    rotate_all(tmp_path, max_bytes=500)
    assert (tmp_path / "a.log").stat().st_size == 1000
    assert (tmp_path / "b.log").stat().st_size == 0


def test_why_a_process_ended_is_found_after_a_rotation(tmp_path):
    """Its run began at an offset that the cut file no longer has."""
    log = tmp_path / "s-0.log"
    log.write_text("the disk is gone\n")
    assert how_it_ended(3, log, log_from=5_000) == "exit code 3: the disk is gone"


@pytest.mark.integration
def test_up_rotates_the_logs_of_its_home(tmp_path):
    """A large log in the home is cut soon after `up` has begun, its own too."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "up.log").write_bytes(b"x" * (17 * 1024 * 1024))
    with (tmp_path / "logs" / "up.log").open("ab") as out:
        environment = {**os.environ, "SHIPWAY_HOME": str(tmp_path)}
        command = [sys.executable, "-m", "flows.cli", "up"]
        up = subprocess.Popen(command, env=environment, stdout=out, stderr=out, cwd=Path(__file__).parents[4])
    try:
        assert until((tmp_path / "logs" / "up.log.1").exists)
        assert until(lambda: (tmp_path / "logs" / "up.log").stat().st_size < 1_000_000)
    finally:
        up.terminate()
        up.wait(120)
