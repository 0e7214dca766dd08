"""Is what comes from outside only ever looked at by a child that is bounded, and of which nothing is left?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.supply.oracle import memory
from pipelines.supply.oracle.child import Bounds, NoAnswer, ask
from pipelines.supply.scan import scan
from tests.pipelines.model_folders import edit_json
from tests.pipelines.supply.refusals import refusal

pytestmark = pytest.mark.integration


def test_a_child_answers_for_a_folder(tiny_copy):
    """Accepted, and with another configuration refused by its key."""
    memory._in_this_process.cache_clear()
    assert "model.safetensors" in scan(tiny_copy).files
    edit_json(tiny_copy / "config.json", intermediate_size=32)
    assert refusal(tiny_copy).field == "intermediate_size"


def test_a_configuration_without_end_ends(tiny_copy):
    """Within the bounds of the child, and with a sentence."""
    config = json.loads((tiny_copy / "config.json").read_text())
    question = {"config": {**config, "num_hidden_layers": 10**9}, "tensors": {}}
    with pytest.raises(NoAnswer):
        ask("architecture", question, Bounds(memory_mb=1024, cpu_s=6))


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a child's programs come from: they need neither torch nor transformers."""
    package = tmp_path / "programs"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.setattr("pipelines.supply.oracle.child._ROOT", f"{tmp_path}:{Path.cwd()}")
    monkeypatch.setattr("pipelines.supply.oracle.child.__package__", "programs")
    return package


def program(programs: Path, body: str) -> str:
    """A program whose work has that body."""
    text = "from pipelines.supply.oracle.child import answer\n\n\ndef work(asked):\n"
    (programs / "one.py").write_text(f"{text}    {body}\n\n\nanswer(work)\n")
    return "one"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("while True: pass", "SIG(KILL|XCPU)"),
        ("import os; os.kill(os.getpid(), 9)", "SIGKILL"),
        ("import os; os._exit(7)", "exit code 7"),
    ],
)
def test_a_child_that_does_not_answer_is_ended(programs, body, reason):
    """And it is said how it ended."""
    with pytest.raises(NoAnswer, match=reason):
        ask(program(programs, body), {}, Bounds(cpu_s=1))


def test_a_child_that_waits_is_ended_with_its_own_children(programs):
    """The whole session goes."""
    body = "import subprocess, time; subprocess.Popen(['sleep', '600']); time.sleep(600)"
    with pytest.raises(NoAnswer, match="within 1 s"):
        ask(program(programs, body), {}, Bounds(wall_s=1.0))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("print('loud'); return {'is': asked['a']}", {"is": 1}),
        ("raise ValueError('no\\nsuch thing')", {"error": "ValueError: no such thing"}),
        ("return {'held': len(bytearray(2**31))}", {"error": "MemoryError: "}),
        ("open('big', 'wb').truncate(2**30)", {"error": "OSError: [Errno 27] File too large"}),
        ("import os; return {'secret': os.environ.get('SECRET')}", {"secret": None}),
        ("import socket; socket.create_connection(('127.0.0.1', 9))",
         {"error": "PermissionError: files from outside reach no network"}),
    ],
)  # fmt: skip
def test_a_child_answers_in_plain_json(programs, monkeypatch, body, said):
    """Without what libraries print, more memory than is allowed, the caller's secrets or the network."""
    monkeypatch.setenv("SECRET", "s")
    assert ask(program(programs, body), {"a": 1}, Bounds(memory_mb=512, file_mb=1)) == said
