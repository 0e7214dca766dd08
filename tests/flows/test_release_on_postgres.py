"""A whole release whose every record is on a PostgreSQL server: the controller, `up` and its workers all use it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from flows.wiring import tracking_uri
from pipelines.adapters.mlflow_registry import MlflowRegistry
from pipelines.home import Home
from tests.faults_input.fingerprints import fingerprint
from tests.pipelines.model_folders import LABELS

SPEC = """\
model: models:/tiny/1
service: tiny
bootstrap: true
evaluate:
  data: rows.csv
  gates: [{metric: accuracy, min: 0.0}]
"""


@pytest.mark.e2e
@pytest.mark.postgres
@pytest.mark.timeout(600)
def test_a_first_release_is_promoted(tmp_path, tiny_model, postgres):
    """It serves, verifies and is listed; another ledger is refused while `up` runs; the home holds no ledger."""
    home = Home.open(tmp_path / "home")
    rows = [f"{text},{label}" for text in ("a good film", "a bad film", "it was fine") for label in LABELS]
    (tmp_path / "rows.csv").write_text("text,label\n" + "\n".join(rows * 5) + "\n")
    (tmp_path / "release.yaml").write_text(SPEC)
    MlflowRegistry(tracking_uri(home), home.root / "mlartifacts").register("tiny", tiny_model, {})
    environment = {**os.environ, "SHIPWAY_HOME": str(home.root), "SHIPWAY_LEDGER_URL": postgres.url}

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
        assert not (home.root / "ledger.db").exists()
        assert "s3cret-word" not in refused.stderr + (home.root / "up.json").read_text()
    finally:
        shipway("down")
    assert postgres.run("SELECT count(*) FROM shipway.releases") == [(1,)]
