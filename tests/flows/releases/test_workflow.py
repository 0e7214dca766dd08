"""Does the workflow release a model, tell how it ended, and treat what it is given as data? Run for real by `act`."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import pytest
import yaml

from pipelines.adapters.mlflow.registry import MlflowRegistry
from tests.pipelines.model_folders import LABELS

ROOT = Path(__file__).parents[3]
WORKFLOWS = ROOT / ".github" / "workflows"
RELEASE = WORKFLOWS / "release-model.yml"
TOOLS = Path(sys.executable).parent

SPEC = """
model: models:/tiny/1
service: tiny
bootstrap: true
evaluate:
  data: rows.csv
  gates: [{metric: accuracy, min: 0.0}]
"""


@dataclass(frozen=True)
class Repository:
    """A user's repository with the workflow in it, and the environment of a runner on this machine."""

    folder: Path
    runner: dict[str, str]

    def dispatch(self, **inputs: str) -> subprocess.CompletedProcess[str]:
        """Start the workflow by hand, as GitHub's page does."""
        command = [
            str(TOOLS / "act"),
            "workflow_dispatch",
            "-W",
            str(self.folder / ".github/workflows/release-model.yml"),
        ]
        command += ["-P", "self-hosted=-self-hosted"]
        for name, value in inputs.items():
            command += ["--input", f"{name}={value}"]
        return subprocess.run(
            command, cwd=self.folder, env=self.runner, capture_output=True, text=True, timeout=500, check=False
        )

    def shipway(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command on the runner's machine, after the job."""
        command = [sys.executable, "-m", "flows.cli", *arguments]
        return subprocess.run(command, env=self.runner, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def repository(tmp_path):
    """A fresh repository whose runner finds `shipway` on its path, with folders of its own for everything else."""
    folder = tmp_path / "repository"
    (folder / ".github" / "workflows").mkdir(parents=True)
    shutil.copy(RELEASE, folder / ".github" / "workflows")
    (folder / "release.yaml").write_text(SPEC)
    (tmp_path / "config" / "act").mkdir(parents=True)
    (tmp_path / "config" / "act" / "actrc").touch()
    subprocess.run(["git", "init", "--quiet", str(folder)], check=True)
    author = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", "-C", str(folder), *author, "commit", "--quiet", "--allow-empty", "-m", "Begin"], check=True)
    own = {
        "HOME": str(tmp_path),
        "PATH": f"{TOOLS}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "SHIPWAY_HOME": str(tmp_path / "shipway"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
    }
    return Repository(folder, {**os.environ, **own})


@pytest.mark.integration
@pytest.mark.parametrize(
    "text", ['a"; touch FILE; "', "$(touch FILE)", "`touch FILE`", "a\ntouch FILE", "';touch FILE;'"]
)
def test_a_hostile_model_is_data(repository, tmp_path, text):
    """It reaches Shipway as it is, which refuses it; no shell ever reads it."""
    made = tmp_path / "pwned"
    done = repository.dispatch(model=text.replace("FILE", str(made)))
    assert done.returncode != 0
    assert not made.exists()
    assert "E_NAME (model)" in done.stdout
    assert "## ❌ Shipway: not begun, E_NAME" in done.stdout


@pytest.mark.integration
@pytest.mark.parametrize(("text", "code"), [("$(touch FILE).yaml", "E_SPEC"), ("--help", "E_SPEC"), ("", "E_SPEC")])
def test_a_hostile_spec_is_a_path(repository, tmp_path, text, code):
    """It is neither a command nor an option, and a missing file fails the job."""
    made = tmp_path / "pwned"
    done = repository.dispatch(model="models:/tiny/1", spec=text.replace("FILE", str(made)))
    assert done.returncode != 0
    assert not made.exists()
    assert f"Shipway: not begun, {code}" in done.stdout


@pytest.mark.integration
def test_a_runner_without_a_home_is_refused(repository):
    """Before anything is checked out or installed: what serves would be nowhere."""
    repository.runner["SHIPWAY_HOME"] = ""
    done = repository.dispatch(model="models:/tiny/1")
    assert done.returncode != 0
    assert "SHIPWAY_HOME is set neither on the runner nor as a variable of the repository" in done.stdout


@pytest.mark.e2e
@pytest.mark.timeout(600)
def test_it_releases_a_model_and_what_serves_outlives_the_job(repository, tiny_model, tmp_path):
    """The job ends with a summary from `status`, and the service still answers after it."""
    register(tiny_model, tmp_path / "shipway")
    write_rows(repository.folder / "rows.csv")
    try:
        done = repository.dispatch(model="models:/tiny/1")
        assert done.returncode == 0, done.stdout[-3000:]
        assert "## ✅ tiny v1 → tiny: promoted" in done.stdout
        assert "outcome=promoted" in done.stdout
        rows = ["--data", str(repository.folder / "rows.csv"), "--rps", "20", "--duration-s", "1", "--json"]
        counted = json.loads(repository.shipway("traffic", "tiny", *rows).stdout)
        assert counted["requests"] > 0
        assert counted["failed"] == 0
    finally:
        repository.shipway("down")


def register(model: Path, home: Path) -> None:
    """Register a folder in the MLflow of a home."""
    home.mkdir()
    MlflowRegistry(f"sqlite:///{home / 'mlflow.db'}", home / "mlartifacts").register("tiny", model, {})


def write_rows(path: Path) -> None:
    """Rows of every label."""
    words = ["so happy with this", "it was here", "the worst of all", "never again"]
    with path.open("w", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(["text", "label"])
        rows.writerows([f"{words[i % 4]} {i}", label] for i, label in zip(range(60), cycle(LABELS), strict=False))


def scripts(workflow: Path) -> list[str]:
    """Every script of a workflow."""
    jobs = yaml.safe_load(workflow.read_text())["jobs"].values()
    return [step["run"] for job in jobs for step in job["steps"] if "run" in step]


@pytest.mark.parametrize("workflow", sorted(WORKFLOWS.glob("*.yml")), ids=lambda path: path.name)
def test_no_expression_stands_in_a_script(workflow):
    """What GitHub fills in reaches a shell through the environment only."""
    assert scripts(workflow)
    assert not [script for script in scripts(workflow) if "${{" in script]


def test_the_starter_is_the_workflow_that_is_tested():
    """`shipway init` writes what runs here."""
    assert (ROOT / "flows" / "starter" / "release-model.yml").read_text() == RELEASE.read_text()


def test_every_secret_of_the_workflow_is_declared_and_told():
    """Who calls it passes on what is declared; who starts it by hand reads the head of the file."""
    text = RELEASE.read_text()
    used = set(re.findall(r"secrets[.](\w+)", text))
    called = yaml.safe_load(text)[True]["workflow_call"]  # YAML 1.1 reads `on` as true
    head = text.partition("\non:")[0]
    assert used == called["secrets"].keys()
    assert {name for name in used | set(re.findall(r"vars[.](\w+)", text)) if name not in head} == set()


def test_ci_runs_what_people_run():
    """`.ci/run` ends in the README's test command, and CI calls `.ci/run`."""
    assert (ROOT / ".ci" / "run").read_text().rstrip().endswith("\nmake test")
    assert ".ci/run" in scripts(WORKFLOWS / "ci.yml")
    assert "make test " in (ROOT / "README.md").read_text()


@pytest.mark.integration
def test_the_workflows_are_sound():
    """No finding of zizmor: pinned actions, no credentials left behind, no permissions that are not needed."""
    command = [str(TOOLS / "zizmor"), "--offline", "--quiet", str(WORKFLOWS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout
