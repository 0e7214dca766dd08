"""A whole release from llama.cpp to the real vLLM, of the same model, while users ask by OpenAI's client."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import openai
import pytest

from flows.wiring import wire
from pipelines.home import Home
from pipelines.supply.bundle import verify_bundle
from tests.flows.releases.real_world import World
from tests.pipelines.model_folders import make_generator
from tests.systems.mlflow_database import lay_database
from tests.waiting import HANG_S

PYTHON = os.environ.get("SHIPWAY_VLLM", "")
pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not PYTHON, reason="SHIPWAY_VLLM names the Python of an environment with vLLM"),
]
SPEC = """\
model: models:/tiny/1
service: tiny
bootstrap: true
evaluate:
  data: rows.jsonl
  max_tokens: 4
  gates: [{metric: finished, min: 0.0}]
serve: {api: openai, timeout: 60s}
rollout:
  steps: [50]
  hold: 3
  look: 0.5
  lease: 30
  warmup: 0
  bake: 3
  deadline: 600
  gates: {errors: {margin: 0.3}, latency: null, drift: null}
retain: 10m
"""
VLLM = f"""serve:
  api: openai
  timeout: 60s
  engine: vllm
  python: {PYTHON}
  args: {{max-model-len: 512, dtype: float32, enforce-eager: true, kv-cache-memory-bytes: 67108864}}
"""
HELLO = {"messages": [{"role": "user", "content": "Hello"}], "reference": "(good) day"}
ROWS = (HELLO, *({"prompt": f"The quick {n}", "reference": "fox jumps"} for n in range(32)))


@pytest.fixture
def world(tmp_path, prefect_server, monkeypatch) -> Iterator[World]:
    """A home with a registered language model, which may be served with this vLLM."""
    monkeypatch.setenv("SHIPWAY_ENGINES", PYTHON)
    home = Home.open(tmp_path)
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in ROWS))
    (tmp_path / "release.yaml").write_text(SPEC)
    lay_database(tmp_path / "mlflow.db")
    made = World(home, wire(home), tmp_path / "release.yaml", prefect_url=prefect_server.url)
    folder = make_generator(tmp_path / "models" / "1", width=128)
    assert made.ports.registry.register("tiny", folder, {}).version == 1
    try:
        yield made
    finally:
        made.end()


@contextmanager
def asking(url: str) -> Iterator[dict[str, int]]:
    """Users, one after the other; how many were answered, and by which version's server."""
    heard, stopped = {"answered": 0, "failed": 0}, threading.Event()
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=HANG_S)

    def run() -> None:
        while not stopped.wait(0.02):
            try:
                client.completions.create(model="tiny", prompt="The", max_tokens=4)
                heard["answered"] += 1
            except openai.OpenAIError:
                heard["failed"] += 1

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield heard
    finally:
        stopped.set()
        thread.join()
        with suppress(openai.OpenAIError):
            client.close()


def released(world: World) -> subprocess.CompletedProcess[str]:
    """What a release says at its end."""
    command = world.command("release", str(world.spec), "--json")
    return subprocess.run(command, env=world.environment, capture_output=True, text=True, check=False)


def test_the_same_model_moves_from_llama_cpp_to_vllm(world):
    """Judged by what transformers finds likely, seen by users, and named with its engine's version and flags."""
    first = released(world)
    assert first.returncode == 0, first.stderr[-3000:]
    with world.spec_with("serve: {api: openai, timeout: 60s}\n", VLLM), asking(world.url) as heard:
        second = released(world)
    assert second.returncode == 0, second.stderr[-3000:] + second.stdout[-3000:]
    assert (json.loads(second.stdout)["outcome"], heard["failed"]) == ("promoted", 0)
    assert heard["answered"] > 0
    stable = world.ports.services.load("tiny").stable
    facts = verify_bundle(Path(stable.bundle), stable.digest)["facts"]
    assert (facts["engine"], facts["precision"], facts["flags"]["enforce-eager"]) == ("vllm", "float32", True)
    assert facts["version"].startswith("vllm")
    assert stable.settings.engine_at == PYTHON
