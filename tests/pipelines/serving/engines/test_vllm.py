"""How is vLLM started, told, asked and ended? Seen by what stands in for it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipelines.errors import BadInput
from pipelines.serving.engines import streaming_engine, vllm
from pipelines.serving.engines.endpoint import MOST_LIKELY
from pipelines.serving.engines.streaming import EnginePlace
from pipelines.serving.engines.vllm import VllmEngine, environment, flag, vllm_version
from pipelines.tasks.generation.reading.distribution import LISTED
from tests.pipelines.serving.engines.vllm_stand_in import VERSION, seen_by, stand_in
from tests.waiting import until

FACTS: dict[str, Any] = {
    "engine": "vllm",
    "version": VERSION,
    "context": 512,
    "precision": "bfloat16",
    "flags": {"enforce-eager": True, "enable-prefix-caching": False, "max-num-seqs": 8, "quantization": "fp8"},
}


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """Whose secrets are nobody else's."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("VLLM_ATTENTION_BACKEND", "other")
    return tmp_path


@pytest.fixture
def engine(home) -> Iterator[VllmEngine]:
    """One that is not started yet."""
    one = made(home)
    yield one
    one.stop(0.0)


def made(home: Path, facts: dict[str, Any] | None = None) -> VllmEngine:
    """An engine for a folder, with what stands in for vLLM."""
    place = EnginePlace(3, stand_in(home), 7.2)
    one = streaming_engine(home / "bundle", facts or FACTS, place, "chat")
    assert isinstance(one, VllmEngine)
    return one


def test_it_is_told_what_the_facts_say(engine, home):
    """And nothing else: what decides an answer is in the digest."""
    url = engine.start(0)
    port = url.rpartition(":")[2]
    assert seen_by(home)["told"] == [
        "-m",
        "vllm.entrypoints.openai.api_server",
        f"--model={home}/bundle",
        "--served-model-name=chat",
        "--host=127.0.0.1",
        f"--port={port}",
        "--max-model-len=512",
        "--dtype=bfloat16",
        f"--max-logprobs={MOST_LIKELY}",
        "--shutdown-timeout=8",
        "--enforce-eager",
        "--no-enable-prefix-caching",
        "--max-num-seqs=8",
        "--quantization=fp8",
    ]


def test_it_knows_no_secret_and_nothing_that_changes_an_answer(engine, home):
    """It is offline, says nothing of its use, and stays on loopback with its own threads."""
    engine.start(0)
    known = seen_by(home)["environment"]
    assert "secret" not in known.values()
    assert set(known) - {"LC_CTYPE"} <= {*vllm.KEPT, *vllm.SET, "OMP_NUM_THREADS"}
    assert (known["OMP_NUM_THREADS"], known["VLLM_CPU_OMP_THREADS_BIND"]) == ("3", "nobind")
    assert (known["HF_HUB_OFFLINE"], known["VLLM_NO_USAGE_STATS"], known["VLLM_HOST_IP"]) == ("1", "1", "127.0.0.1")


@pytest.mark.parametrize(("threads", "said"), [(0, "1"), (1, "1"), (8, "8")])
def test_it_has_at_least_one_thread(threads, said):
    """Left alone, it takes one a core, and each token waits for the slowest."""
    assert environment({}, threads)["OMP_NUM_THREADS"] == said


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("enforce-eager", True, "--enforce-eager"),
        ("enforce-eager", False, "--no-enforce-eager"),
        ("seed", 0, "--seed=0"),
        ("gpu-memory-utilization", 0.5, "--gpu-memory-utilization=0.5"),
        ("hf-overrides", '{"a": 1}', '--hf-overrides={"a": 1}'),
        ("load-format", "--trust-remote-code", "--load-format=--trust-remote-code"),
    ],
)
def test_a_value_never_becomes_a_flag(name, value, said):
    """Each is one word of the command."""
    assert flag(name, value) == said


def test_it_is_asked_for_what_may_come_next(engine):
    """The likeliest first, by their numbers."""
    engine.start(0)
    assert engine.following([1, 2], 2) == [(3, -0.5), (11, -1.5)]
    asked = engine.ask("/v1/completions", {"prompt": "x", "model": "whatever"})["asked"]
    assert asked == {"prompt": "x", "model": "chat"}
    assert engine.complete("Hello", 8)["asked"] == {
        "prompt": "Hello", "max_tokens": 8, "temperature": 0, "logprobs": 1, "model": "chat",
    }  # fmt: skip


def test_it_is_asked_how_likely_the_tokens_of_a_prompt_are(engine):
    """Those after the prompt are added up."""
    engine.start(0)
    assert engine.likelihood([1, 2], [3, 11]) == pytest.approx(-2.0)


def test_an_engine_that_does_not_tell_that_is_refused_by_name(engine):
    """As llama.cpp's server behind a URL, which passes over `echo`."""
    engine.start(0)
    with pytest.raises(BadInput, match="echo with logprobs") as caught:
        engine.likelihood([1, 2], [3] * 20)
    assert caught.value.code == "E_INFERENCE"


def test_as_many_are_asked_for_as_are_told():
    """An evaluation asks no more than the engine is started for."""
    assert LISTED <= MOST_LIKELY


def test_what_runs_and_what_waits_is_open(engine):
    """Over all of its engines, each once."""
    assert (engine.probe(), engine.drain(0.0)) == (False, 0)
    engine.start(0)
    assert (engine.probe(), engine.drain(0.0)) == (True, 7)


def test_it_is_gone_after_its_stop(engine):
    """And nobody answers."""
    engine.start(0)
    family = psutil.Process(engine._child.pid).children()
    assert (len(family), engine.has_ended()) == (1, False)
    engine.stop()
    assert (engine.probe(), engine.has_ended(), family[0].is_running()) == (False, True, False)
    with pytest.raises(BadInput, match="does not run"):
        engine.complete("Hello", 1)


def test_it_is_seen_to_end_by_itself(engine):
    """Whoever stands before it has nobody to ask any more."""
    engine.start(0)
    psutil.Process(engine._child.pid).children()[0].kill()
    until(engine.has_ended)


def test_another_version_is_not_started(home):
    """It would answer otherwise: that is another release."""
    one = made(home, {**FACTS, "version": "vllm 1.2.2"})
    with pytest.raises(BadInput, match=r"is version vllm 1\.2\.3, and vllm 1\.2\.2 was released") as caught:
        one.start(0)
    assert (caught.value.code, (home / "seen.json").exists()) == ("E_ENGINE", False)


def test_what_does_not_start_says_why(home):
    """In its own words, and nothing of it is left."""
    one = made(home, {**FACTS, "flags": {"fails": 1}})
    with pytest.raises(BadInput, match="vLLM does not start: ValueError: too little memory") as caught:
        one.start(0)
    assert (caught.value.code, one.has_ended()) == ("E_ENGINE", True)


def test_what_does_not_get_ready_is_ended(home, monkeypatch):
    """After a time that is long enough for weights of any size."""
    monkeypatch.setattr(vllm, "READY_S", -1.0)
    one = made(home)
    with pytest.raises(BadInput, match="was not ready") as caught:
        one.start(0)
    assert (caught.value.code, one.has_ended()) == ("E_ENGINE", True)


@pytest.mark.parametrize("python", [sys.executable, "/no/such/python", os.devnull])
def test_a_python_without_vllm_is_refused(python):
    """Before anything begins."""
    with pytest.raises(BadInput) as caught:
        vllm_version(python)
    assert (caught.value.code, caught.value.field) == ("E_ENGINE", "serve.python")
