"""The command line: it answers at once, errors are three lines with a code, and wrong input changes nothing."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from flows.cli import main
from pipelines.home import Home

SPEC = """\
model: models:/sentiment/1
service: sentiment
bootstrap: true
evaluate:
  data: rows.csv
  gates: [{metric: accuracy, min: 0.0}]
"""


def shipway(home: Path, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command in a home."""
    environment = {**os.environ, "SHIPWAY_HOME": str(home)}
    command = [sys.executable, "-m", "flows.cli", *arguments]
    return subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture
def typed(tmp_path, monkeypatch, capsys):
    """What a command answers where nothing was released: in this process, since none of them leaves it."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("SHIPWAY_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["shipway", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), "".join(capsys.readouterr())

    return run


def fingerprint(folder: Path) -> str:
    """A hash over the names and contents of a folder's files (databases by their tables, not their pages)."""
    found = hashlib.sha256()
    for path in sorted(
        p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(("mlflow.db", "ledger.db-"))
    ):
        found.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return found.hexdigest()


def cpu_s(*arguments: str) -> float:
    """What a Python process costs, at best of three."""

    def once() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)

    return min(once() for _ in range(3))


def test_help_answers_at_once():
    """`--help` costs at most eight times what its screen library does, and imports nothing heavy."""
    probe = "import sys; sys.argv=['shipway','--help']\nimport flows.cli as c\ntry: c.main()\nexcept SystemExit: pass\n"
    heavy = "print('HEAVY', sorted({'torch','mlflow','prefect','numpy','sqlalchemy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", probe + heavy], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "HEAVY []"
    assert cpu_s("-m", "flows.cli", "--help") < 8 * cpu_s("-c", "import typer, rich.console")


def test_init_writes_files_that_shipway_reads(tmp_path):
    """The starter spec is valid, its schema is the published one, and nothing is overwritten."""
    from pipelines.spec.spec_file import read_spec, schema_text

    assert shipway(tmp_path / "home", "init", str(tmp_path)).returncode == 0
    assert read_spec(tmp_path / "release.yaml").service == "my-service"
    assert (tmp_path / "release.schema.json").read_text() == schema_text()
    (tmp_path / "release.yaml").write_text("mine")
    assert "kept" in shipway(tmp_path / "home", "init", str(tmp_path)).stdout
    assert (tmp_path / "release.yaml").read_text() == "mine"


def test_list_is_empty_before_the_first_release(tmp_path):
    """`list --json` is an array."""
    assert json.loads(shipway(tmp_path, "list", "--json").stdout) == []


def test_the_version_is_told(tmp_path):
    """It makes no home."""
    done = shipway(tmp_path / "home", "--version")
    assert (done.returncode, done.stdout) == (0, f"shipway {version('shipway')}\n")
    assert list(tmp_path.iterdir()) == []


ABOUT_NOTHING = [
    *(["list"], ["status"], ["evidence"], ["plan", "release.yaml"], ["gc", "--dry-run"], ["gc"], ["down"]),
    *([verb, "x"] for verb in ("status", "verify", "abort", "approve", "pause", "resume", "rollback", "resolve")),
    ["remove", "x"],
    *(["promote", "x", "--reason", "y"], ["backup", "copy.db"], ["down", "x"], ["feedback", "x", "--data", "rows.csv"]),
    ["traffic", "x", "--data", "rows.csv"],
]


@pytest.mark.parametrize("command", ABOUT_NOTHING, ids=" ".join)
def test_a_command_about_what_is_not_there_makes_nothing(tmp_path, typed, command):
    """In a folder where nothing was released it names the home, or the registry, that it looked into."""
    (tmp_path / "release.yaml").write_text(SPEC)
    code, said = typed(*command)
    assert code == (0 if command[0] in {"list", "gc"} or command == ["down"] else 2)
    assert command == ["down"] or str(tmp_path / "home") in said.replace("\n", "")
    assert [path.name for path in tmp_path.iterdir()] == ["release.yaml"]


def test_what_a_command_makes_is_for_its_user_alone(tmp_path):
    """Whatever the shell's umask: the ledger holds reasons and addresses. A home that others could enter is closed."""
    home = tmp_path / "home"
    home.mkdir(mode=0o755)
    before = os.umask(0)
    try:
        assert shipway(home, "adopt", "x", "http://127.0.0.1:9").returncode == 7
        assert shipway(home, "rollback", "x").returncode == 2
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o077 for path in (home, *home.rglob("*"))}
    assert "ledger.db" in modes
    assert set(modes.values()) == {0}


BAD = {
    "unknown key": (SPEC + "rolout: {}\n", (), "E_CONFIG"),
    "hostile model": (SPEC, ("--model", 'a"; touch pwned; "'), "E_NAME"),
    "hostile substitution": (SPEC, ("--model", "models:/$(touch pwned)/1"), "E_NAME"),
    "newline": (SPEC, ("--model", "models:/a\nb/1"), "E_NAME"),
    "unknown model": (SPEC, (), "E_NOT_FOUND"),
    "threshold NaN": (SPEC.replace("min: 0.0", "min: .nan"), (), "E_THRESHOLD"),
    "steps": (SPEC + "rollout: {steps: [50, 5]}\n", (), "E_STEPS"),
}


@pytest.mark.integration
@pytest.mark.parametrize(("text", "options", "code"), BAD.values(), ids=BAD)
def test_wrong_input_is_named_and_changes_nothing(tmp_path, text, options, code):
    """Exit code 2, a stable code as JSON, three short lines, no traceback, no file made."""
    home = tmp_path / "home"
    Home.open(home)
    assert shipway(home, "gc").returncode == 0
    before = fingerprint(home)
    (tmp_path / "release.yaml").write_text(text)
    done = shipway(home, "release", "release.yaml", *options, "--json", cwd=tmp_path)
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["code"] == code
    assert "Traceback" not in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith(("E_", "  "))]) <= 3
    assert fingerprint(home) == before
    assert not (tmp_path / "pwned").exists()


@pytest.mark.integration
def test_a_registry_that_is_down_is_exit_7(tmp_path):
    """MLflow does not answer before the start: a dependency is down, and nothing was begun."""
    (tmp_path / "release.yaml").write_text(SPEC)
    environment = {**os.environ, "SHIPWAY_HOME": str(tmp_path / "home"), "MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
    command = [sys.executable, "-m", "flows.cli", "release", "release.yaml"]
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 7
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [("status", "nothing"), ("verify", "nothing"), ("abort", "nothing")])
def test_an_unknown_release_is_exit_2(typed, command):
    """The id is named, and nothing happens."""
    code, said = typed(*command)
    assert (code, "E_NOT_FOUND" in said) == (2, True)


def test_an_unknown_service_is_exit_2(tmp_path):
    """Neither a service nor a release has this name; the process ends so, too."""
    assert shipway(tmp_path, "rollback", "nothing").returncode == 2


def test_a_home_that_cannot_be_made_is_named(tmp_path):
    """A file where the home should be."""
    (tmp_path / "file").write_text("")
    done = shipway(tmp_path / "file", "list")
    assert done.returncode == 2
    assert "E_HOME" in done.stderr
