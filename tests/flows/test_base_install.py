"""A serving machine needs the base distribution and one engine: no Prefect, no MLflow, no torch."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from pipelines.compress.search import techniques_for
from pipelines.supply.bundle import seal
from tests.ports import free_port
from tests.waiting import until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

ROOT = Path(__file__).parent.parent.parent
UV = Path(sys.executable).parent / "uv"


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> Path:
    """A fresh environment with `shipway[onnxruntime]`, from a wheel; gives its Python."""
    if not UV.exists():
        pytest.skip("uv is not in this environment: make setup brings it")
    folder = tmp_path_factory.mktemp("base")
    python = folder / "env" / "bin" / "python"
    uv = {**os.environ, "UV_FIND_LINKS": os.environ.get("UV_FIND_LINKS") or os.environ.get("PIP_FIND_LINKS", "")}
    subprocess.run([UV, "build", "--quiet", "--wheel", "--out-dir", folder, ROOT], check=True, env=uv)
    wheel = next(folder.glob("*.whl"))
    subprocess.run([UV, "venv", "--quiet", "--python", sys.executable, folder / "env"], check=True)
    install = ["pip", "install", "--quiet", "--python", python, "-c", ROOT / "constraints.txt"]
    subprocess.run([UV, *install, f"{wheel}[onnxruntime]"], check=True, env=uv)
    return python


def test_nothing_heavy_came_along(environment):
    """The release stack stays out."""
    probe = (
        "import importlib.util as u; print([n for n in ('torch', 'mlflow', 'prefect', 'evaluate') if u.find_spec(n)])"
    )
    found = subprocess.run([environment, "-P", "-c", probe], capture_output=True, text=True, check=True, cwd="/")
    assert found.stdout.strip() == "[]"


def test_the_command_line_answers(environment, tmp_path):
    """Help and list work without the release stack."""
    shipway = environment.parent / "shipway"
    home = {**os.environ, "SHIPWAY_HOME": str(tmp_path)}
    assert "release" in subprocess.run([shipway, "--help"], capture_output=True, text=True, check=True).stdout
    assert subprocess.run([shipway, "list"], capture_output=True, check=False, env=home).returncode == 0


def test_a_server_starts_and_answers(environment, tiny_model, tmp_path):
    """A bundle that was made elsewhere is served, and a wrong digest is not."""
    facts = {
        "engine": "torch",
        "labels": ["negative", "neutral", "positive"],
        "max_length": 64,
        "model": "m",
        "variant": "",
    }
    (technique,) = techniques_for("dynamic-int8")
    made = technique.compress(tiny_model, tmp_path / "variant", facts)
    digest, bundle = seal(made.folder, {**facts, "engine": made.engine, "variant": technique.name}, tmp_path)
    port = free_port()
    options = ["--bundle", str(bundle), "--port", str(port)]
    serve = [environment, "-P", "-m", "pipelines.serving.server", *options]
    wrong = subprocess.run(
        [*serve, "--digest", "sha256:" + "0" * 64], capture_output=True, text=True, check=False, cwd="/"
    )
    assert (wrong.returncode, "E_DIGEST" in wrong.stderr) == (3, True)
    server = subprocess.Popen([*serve, "--digest", digest], cwd="/")
    try:
        assert _answer(f"http://127.0.0.1:{port}").json()["predictions"][0]["label"] in facts["labels"]
    finally:
        server.terminate()
        assert server.wait(120) == 0


def _answer(url: str) -> httpx.Response:
    found: list[httpx.Response] = []

    def answers() -> bool:
        with suppress(httpx.ConnectError):
            found.append(httpx.post(f"{url}/invocations", json={"inputs": ["a good film"]}, trust_env=False))
        return bool(found)

    until(answers)
    return found[0]
