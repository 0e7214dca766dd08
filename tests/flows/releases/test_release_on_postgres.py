"""A whole release whose every record, and that of MLflow, is on a PostgreSQL server: no file of the home holds any."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from pipelines.adapters.mlflow.registry import MlflowRegistry
from pipelines.home import Home
from tests.faults_input.fingerprints import fingerprint
from tests.pipelines.model_folders import LABELS
from tests.systems.mlflow_server import MlflowServer
from tests.systems.postgres import Server

SPEC = """\
model: models:/tiny/1
service: tiny
bootstrap: true
evaluate:
  data: rows.csv
  gates: [{metric: accuracy, min: 0.0}]
"""


@pytest.fixture
def mlflow_on(tmp_path) -> Iterator[Callable[[Server], str]]:
    """Starts an MLflow server on a database of its own; its address."""
    started: list[MlflowServer] = []

    def start(postgres: Server) -> str:
        postgres.run("CREATE DATABASE mlflow")
        started.append(MlflowServer(tmp_path, postgres.url.rpartition("/")[0] + "/mlflow"))
        started[0].start()
        return started[0].uri

    yield start
    for server in started:
        server.stop()


@pytest.mark.e2e
@pytest.mark.postgres
@pytest.mark.timeout(600)
def test_a_first_release_is_promoted(tmp_path, tiny_model, postgres, mlflow_on):
    """It serves, verifies and is listed; another ledger is refused while `up` runs; the home holds no record."""
    home = Home.open(tmp_path / "home")
    rows = [f"{text},{label}" for text in ("a good film", "a bad film", "it was fine") for label in LABELS]
    (tmp_path / "rows.csv").write_text("text,label\n" + "\n".join(rows * 5) + "\n")
    (tmp_path / "release.yaml").write_text(SPEC)
    registry = mlflow_on(postgres)
    MlflowRegistry(registry, home.root / "mlartifacts").register("tiny", tiny_model, {})
    places = {"SHIPWAY_HOME": str(home.root), "SHIPWAY_LEDGER_URL": postgres.url, "MLFLOW_TRACKING_URI": registry}
    environment = {**os.environ, **places}

    def shipway(*arguments: str, **changed: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "flows.cli", *arguments, "--json"]
        both = {**environment, **changed}
        return subprocess.run(command, env=both, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)

    try:
        done = shipway("release", "release.yaml")
        assert done.returncode == 0, done.stderr[-3000:]
        release = json.loads(done.stdout)
        assert [line["outcome"] for line in json.loads(shipway("list").stdout)] == ["promoted"]
        assert json.loads(shipway("verify", release["id"]).stdout)["bytes"] == "ok"
        before = fingerprint(home.root / "work")
        refused = shipway("release", "release.yaml", SHIPWAY_LEDGER_URL="")
        assert (refused.returncode, "E_LEDGER_OTHER" in refused.stderr) == (2, True)
        assert fingerprint(home.root / "work") == before
        assert [name for name in ("ledger.db", "mlflow.db") if (home.root / name).exists()] == []
        assert MlflowRegistry(registry, home.root / "mlartifacts").resolve("models:/tiny@champion").version == 1
        assert "s3cret-word" not in refused.stderr + (home.root / "up.json").read_text()
    finally:
        shipway("down")
    assert postgres.run("SELECT count(*) FROM shipway.releases") == [(1,)]
