"""Does a server with the real vLLM answer, drain, and end with all of its processes?

`SHIPWAY_VLLM=/path/to/python python -m pytest -m vllm`: docs/llm.md says how such an environment is made.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest

from pipelines.records.settings import ServerSettings
from pipelines.serving.probes import is_server_ready
from pipelines.serving.settings_file import write_settings
from pipelines.supply.bundle import seal
from pipelines.tasks.generation import questions
from pipelines.tasks.generation.answers import read_answer
from pipelines.tasks.generation.asking import ask_all
from pipelines.tasks.generation.rows import Prompts, Row
from pipelines.tasks.task import Subject
from tests.pipelines.model_folders import make_generator
from tests.pipelines.serving.server.test_llama_server import HELLO, Running, command_of, started
from tests.ports import free_port
from tests.waiting import HANG_S, until

PYTHON = os.environ.get("SHIPWAY_VLLM", "")
READY_S = 900.0
pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(2 * READY_S),
    pytest.mark.skipif(not PYTHON, reason="SHIPWAY_VLLM names the Python of an environment with vLLM"),
]
ENDLESS = {"ignore_eos": True}
LONG: dict[str, Any] = {"prompt": "The", "max_tokens": 450, "stream": True, **ENDLESS}
ROWS = (
    Row("The quick brown", ("fox jumps over",), "", 1),
    Row(({"role": "user", "content": "Hello"},), ("(good) day",), "", 2),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A model whose heads are as wide as vLLM computes them."""
    return make_generator(tmp_path_factory.mktemp("generator"), width=128)


@pytest.fixture(scope="module")
def facts() -> dict[str, Any]:
    """What its bundle says: little memory, and nothing compiled."""
    from pipelines.serving.engines.vllm import vllm_version

    flags = {"enforce-eager": True, "kv-cache-memory-bytes": 64 << 20}
    told = {"context": 512, "precision": "float32", "version": vllm_version(PYTHON), "flags": flags}
    return {"engine": "vllm", "model": "tiny", "variant": "safetensors", **told}


@pytest.fixture(scope="module")
def sealed(folder, facts, tmp_path_factory) -> tuple[str, Path]:
    """The model's bundle."""
    return seal(folder, facts, tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def server(sealed, tmp_path_factory) -> Iterator[Running]:
    """One server for the tests that do not end it."""
    with started(sealed, tmp_path_factory.mktemp("server"), engine_at=PYTHON, ready_s=READY_S) as running:
        yield running


def family(running: Running) -> list[psutil.Process]:
    """All processes that a server has started."""
    return psutil.Process(running.process.pid).children(recursive=True)


def are_gone(processes: list[psutil.Process]) -> bool:
    """Whether none of them runs any more."""
    return not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes)


def test_a_chat_is_answered_and_streamed(server):
    """By the real client of OpenAI, alike."""
    asked: Any = {"model": "tiny", "messages": HELLO, "max_tokens": 12, "temperature": 0, "extra_body": ENDLESS}
    whole = server.client.chat.completions.create(**asked)
    with server.client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}) as stream:
        events = list(stream)
    text = "".join(event.choices[0].delta.content or "" for event in events if event.choices)
    assert (text, whole.usage.completion_tokens) == (whole.choices[0].message.content, 12)
    assert [event.usage.completion_tokens for event in events if event.usage] == [12]
    assert [(model.id, model.max_model_len) for model in server.client.models.list()] == [("tiny", 512)]


def test_another_model_is_not_here(server):
    """Neither is anything that changes the engine."""
    with pytest.raises(openai.NotFoundError):
        server.client.chat.completions.create(model="other", messages=HELLO)
    assert [server.http.post(path).status_code for path in ("/sleep", "/v1/load_lora_adapter")] == [404, 404]


def test_odd_inputs_are_answered_or_refused(server):
    """None of them is an error of the server's, and none takes long."""
    for question in (*questions.odd("tiny"), questions.largest("tiny")):
        answer = server.http.post(question.path, json=question.body)
        assert answer.status_code < 500, (question.name, answer.text[:300])
        assert answer.status_code != 200 or read_answer(answer.json()).finish


def test_tokens_are_told_apart_by_their_numbers(server):
    """Also those that end within a character: a golden answer is compared token by token."""
    body = questions.of_row("tiny", ROWS[0], 12).body
    said = read_answer(server.http.post("/v1/completions", json={**body, **ENDLESS}).json())
    assert all(token.startswith("token_id:") and ahead is not None for token, _, ahead in said.tokens)
    assert len(said.tokens) == 12


def test_who_leaves_holds_no_place(server):
    """VLLM itself counts nobody who left."""
    for _ in range(4):
        with server.http.stream("POST", "/v1/completions", json=LONG) as answer:
            next(answer.iter_lines())
    until(lambda: 'vllm:num_requests_running{engine="0",model_name="tiny"} 0.0' in server.http.get("/metrics").text)


def test_a_term_in_the_middle_of_a_stream_finishes_it(sealed, tmp_path):
    """With its end, and then nothing of the engine is left."""
    with started(sealed, tmp_path, engine_at=PYTHON, ready_s=READY_S) as running:
        processes = family(running)
        with running.slow.stream("POST", "/v1/completions", json=LONG) as answer:
            pieces = answer.iter_raw()
            first = next(pieces)
            running.process.send_signal(signal.SIGTERM)
            until(lambda: not is_server_ready(running.port))
            *events, done, end = b"".join([first, *pieces]).split(b"\n\n")
        assert running.process.wait(HANG_S) == 0
    last = json.loads(events[-1].removeprefix(b"data: "))["choices"][0]
    assert (done, end, last["finish_reason"], len(processes) >= 4) == (b"data: [DONE]", b"", "length", True)
    until(lambda: are_gone(processes))


def test_a_killed_server_takes_its_engine_along(sealed, tmp_path):
    """A kill of vLLM's first process alone would leave two that hold the model."""
    with started(sealed, tmp_path, engine_at=PYTHON, ready_s=READY_S) as running:
        processes = family(running)
        running.process.kill()
        until(lambda: are_gone(processes))


def test_a_server_without_its_engine_ends(sealed, tmp_path):
    """It says so, and its supervisor starts it again."""
    with started(sealed, tmp_path, engine_at=PYTHON, ready_s=READY_S) as running:
        processes = family(running)
        core = next(process for process in processes if "EngineCore" in " ".join(process.cmdline()))
        core.kill()
        assert running.process.wait(HANG_S) == 3
        until(lambda: are_gone(processes))


def test_an_evaluation_asks_it_and_finds_what_transformers_finds(folder, facts):
    """In a child without a network: the same tokens are read, and are as likely in 32 bits."""
    rows = Prompts(ROWS, {}, "", 12)
    served = ask_all(Subject("vLLM", folder, facts, PYTHON), rows, lambda _: None, champion=None, keep=True)
    source = Subject("source", folder, {**facts, "engine": "torch"})
    reference = ask_all(source, rows, lambda _: None, champion=served, keep=False)
    for ours, theirs in zip(served, reference, strict=True):
        assert (ours["tokens"], ours["likeliest"]) == (theirs["tokens"], theirs["likeliest"])
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-3)
        assert max(theirs["kl"]) < 1e-6


def test_broken_weights_do_not_serve(folder, facts, tmp_path):
    """NaN is no error to an engine."""
    from safetensors.numpy import load_file, save_file

    broken = tmp_path / "broken"
    broken.mkdir()
    for file in folder.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    tensors = load_file(broken / "model.safetensors")
    tensors["lm_head.weight"] = tensors["lm_head.weight"] * float("nan")
    save_file(tensors, broken / "model.safetensors", {"format": "pt"})
    digest, path = seal(broken, facts, tmp_path / "store")
    write_settings(tmp_path / "settings", ServerSettings(engine_at=PYTHON))
    command = command_of(path, digest, free_port(), "--settings", tmp_path / "settings")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert (done.returncode, last.startswith(("E_OUTPUT", "E_INFERENCE"))) == (3, True), last
