"""Does everything that an engine started end with whoever started it?"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from pipelines.serving.engines import leash
from tests.waiting import HANG_S, until

LEASH = str(Path(leash.__file__))
FAMILY = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("family", child.pid, flush=True)
time.sleep(600)
"""
DRAINS = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
print("ready", flush=True)
time.sleep(600)
"""
PARENT = """
import subprocess, sys, time
leashed = subprocess.Popen([sys.executable, "-I", *sys.argv[1:]], stdin=subprocess.PIPE, start_new_session=True)
print(leashed.pid, flush=True)
time.sleep(600)
"""


def held(code: str) -> subprocess.Popen[bytes]:
    """A program on a leash that is held here."""
    command = [sys.executable, "-I", LEASH, sys.executable, "-c", code]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, **pipes, start_new_session=True)


def is_gone(pid: int) -> bool:
    """Whether a process runs no more."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_killed_parent_takes_all_of_its_engine_along():
    """Also what the engine itself started: a kill of its first process would leave the one with the model."""
    command = [sys.executable, "-c", PARENT, LEASH, sys.executable, "-c", FAMILY]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    leashed = int(parent.stdout.readline())
    child = int(parent.stderr.readline().split()[1])
    family = [leashed, *(process.pid for process in psutil.Process(leashed).children(recursive=True))]
    assert child in family
    assert len(family) == 3
    parent.kill()
    parent.communicate()
    until(lambda: all(is_gone(pid) for pid in family))


def test_what_is_left_of_an_engine_ends_with_its_first_process():
    """VLLM's goes, and the process with the model would stay."""
    one = held(FAMILY)
    child = int(one.stderr.readline().split()[1])
    first = next(p for p in psutil.Process(one.pid).children() if p.pid != child)
    first.send_signal(signal.SIGKILL)
    assert one.wait(HANG_S) == 128 + signal.SIGKILL
    until(lambda: is_gone(child))
    one.communicate()


def test_a_term_is_passed_on_and_the_answer_is_the_programs():
    """It may drain as long as it likes."""
    one = held(DRAINS)
    one.stderr.readline()
    one.terminate()
    assert one.wait(HANG_S) == 7
    one.communicate()


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["(A) WARNING fd errors like `OSError: [24]`", "ValueError: too much", "RuntimeError: see above"], "too much"),
        (["x INFO y: KeyError: no", "(W pid=1) ERROR 12 [a.py:1] ValueError: less memory (1/2 GiB)"], "less memory"),
        (["pydantic.ValidationError: 1 error", "  Value error, the length is wrong [type=x]"], "the length is wrong"),
        (["api_server.py: error: argument --n: invalid"], "argument --n: invalid"),
        (["x WARNING y", "nothing more"], ""),
        ([], ""),
    ],
)
def test_the_first_error_is_told(lines, told):
    """What comes after it follows from it; and all of it stands in the log."""
    one = held(f"print({chr(10).join(lines)!r}); raise SystemExit(3)")
    assert one.wait(HANG_S) == 3
    said, log = (text.decode() for text in one.communicate())
    assert (told in said, "24" in said) == (True, False)
    assert all(line in log for line in lines)


def test_a_log_that_nobody_reads_ends_no_engine():
    """A pipe that is closed is no error of the engine's."""
    reading, writing = os.pipe()
    command = [sys.executable, "-I", LEASH, sys.executable, "-c", "print('x' * 100_000); raise SystemExit(5)"]
    one = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=writing)
    os.close(writing)
    os.close(reading)
    assert one.wait(HANG_S) == 5
    one.communicate()
