"""Is the same model on another engine another release?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipelines.adapters.memory.records import MemoryServices
from pipelines.adapters.memory.registry import MemoryRegistry
from pipelines.errors import BadInput
from pipelines.records.service import Deployment, Service
from pipelines.records.settings import ServerSettings
from pipelines.spec.spec_file import parse_spec
from pipelines.stages.intake import AlreadyLive, Intake, take_in
from pipelines.supply.bundle import seal
from tests.pipelines.serving.engines.vllm_stand_in import stand_in

pytestmark = pytest.mark.integration

SPEC = """
model: models:/m/1
service: s
bootstrap: true
evaluate: {{data: rows.jsonl, gates: [{{metric: finished, min: 0.0}}]}}
serve: {{api: openai, {}}}
"""


@pytest.fixture
def at(tmp_path, monkeypatch) -> str:
    """What stands in for vLLM."""
    monkeypatch.setenv("SHIPWAY_ENGINES", str(tmp_path))
    return stand_in(tmp_path)


@pytest.fixture
def ask(tiny_generator, tmp_path, at) -> Any:
    """Takes in the tiny model, to be served so."""
    (tmp_path / "rows.jsonl").write_text('{"prompt": "The quick"}\n' * 2)
    registry, services = MemoryRegistry(), MemoryServices()
    registry.add("m", tiny_generator)

    def taken(serve: str, stable: Deployment | None = None, quarantined: str = "") -> Intake:
        known = {quarantined: "r1: slow"} if quarantined else {}
        try:
            before = services.load("s")
        except BadInput:
            before = services.save(Service("s"))
        services.save(before.changed(stable=stable, quarantined=known))
        spec = parse_spec(SPEC.format(serve.replace("AT", at)))
        return take_in(spec, registry, services, data_dir=tmp_path, work=tmp_path / "work")

    return taken


def deployed(intake: Intake, tmp_path: Path, at: str = "") -> Deployment:
    """What was taken in, as it serves."""
    facts = {"engine": "torch", "model": "m", "variant": "source", "labels": ["a"], "max_length": 1}
    digest, bundle = seal(intake.folder, facts, tmp_path / "store")
    candidate, settings = intake.candidate, ServerSettings(engine_at=at)
    plain = Deployment(digest, str(bundle), "m", 1, "r1", settings=settings, source_version=1)
    return replace(plain, artifact_digest=candidate.artifact_digest, made=candidate.made, source_made=candidate.made)


VLLM = "engine: vllm, python: AT"


def test_the_same_model_on_the_same_engine_is_live_already(ask, tmp_path):
    """Llama.cpp told the same, and vLLM told the same."""
    for serve in ("port: 0", VLLM):
        stable = deployed(ask(serve), tmp_path)
        with pytest.raises(AlreadyLive):
            ask(serve, stable)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("port: 0", VLLM),
        (VLLM, "port: 0"),
        ("port: 0", "args: {context: 256}"),
        (VLLM, f"{VLLM}, args: {{max-model-len: 256}}"),
        (VLLM, f"{VLLM}, args: {{dtype: float16}}"),
        (VLLM, f"{VLLM}, args: {{seed: 3}}"),
    ],
)
def test_another_engine_or_another_word_to_it_is_another_release(ask, tmp_path, before, after):
    """It has a name of its own, and what was wrong with the other one is held against that one alone."""
    first = ask(before)
    stable = deployed(first, tmp_path)
    second = ask(after, stable, quarantined=first.candidate.artifact_digest)
    assert second.candidate.artifact_digest != first.candidate.artifact_digest
    with pytest.raises(BadInput) as caught:
        ask(after, stable, quarantined=second.candidate.artifact_digest)
    assert caught.value.code == "E_QUARANTINED"


def test_a_new_version_of_the_engine_is_another_release(ask, tmp_path, at):
    """Of vLLM here; whoever updates an environment finds that what serves starts no more, and why."""
    stable = deployed(ask(VLLM), tmp_path)
    stand_in(tmp_path, "vllm 1.2.4")
    assert ask(VLLM, stable).candidate.artifact_digest != stable.artifact_digest


def test_where_the_champions_engine_lives_is_recorded(ask, tmp_path, at):
    """It is asked once more, beside the candidate."""
    stable = deployed(ask("port: 0"), tmp_path, at)
    assert ask(VLLM, stable).facts()["champion"]["engine_at"] == at
    assert "engine_at" not in ask(VLLM, replace(stable, settings=ServerSettings())).facts()["champion"]
