"""What of an engine that was brought is part of a release, and what may it be told?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from pipelines.errors import BadInput
from pipelines.spec.engine import ParallelSpec
from pipelines.spec.serve import ServeSpec
from pipelines.supply.layout import ModelLayout
from pipelines.tasks.generation.serving import brought
from pipelines.tasks.generation.serving.brought import REFUSED, read_flags
from pipelines.tasks.generation.serving.served import served_facts
from tests.pipelines.serving.engines.vllm_stand_in import VERSION, stand_in

LAYOUT = ModelLayout(Path("w"), Path("c"), Path("t"), {"dtype": "bfloat16"}, 8192, chats=True)


class Answering(BaseHTTPRequestHandler):
    """An engine, or a router before several."""

    told: dict[str, Any]

    def do_GET(self):
        """What it says of itself."""
        body = self.told.get(self.path)
        self.send_response(404 if body is None else 200)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *said: object) -> None:
        """Nothing."""


@pytest.fixture
def at(tmp_path, monkeypatch) -> str:
    """Where an engine lives that may be brought."""
    monkeypatch.setenv("SHIPWAY_ENGINES", f"{tmp_path}, /no/such")
    return stand_in(tmp_path)


@pytest.fixture
def url() -> Iterator[str]:
    """Where an engine answers that says its version, and how many tokens its models take."""
    Answering.told = {
        "/v1/models": {"data": [{"id": "chat", "max_model_len": 2048}, {"id": "lora", "max_model_len": 2048}]},
        "/version": {"version": "0.32.0"},
    }
    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def facts(**said: Any) -> dict[str, Any]:
    """What a bundle would say."""
    return served_facts(LAYOUT, ServeSpec(engine="vllm", **said))


def refused(**said: Any) -> tuple[str, str]:
    """By which code, and of which field."""
    with pytest.raises(BadInput) as caught:
        facts(**said)
    return caught.value.code, caught.value.field or ""


def test_devices_are_a_part_of_what_is_released(at):
    """Told as flags, where it is more than one; said in one place only."""
    assert facts(python=at, parallel=ParallelSpec(tensor=2, replicas=3))["flags"] == {
        "data-parallel-size": 3,
        "tensor-parallel-size": 2,
    }
    assert refused(python=at, args={"tensor_parallel_size": 2}) == ("E_ENGINE_ARGS", "serve.args.tensor_parallel_size")
    assert refused(python=at, args={"data-parallel-address": "10.0.0.1"})[0] == "E_ENGINE_ARGS"


def test_version_flags_length_and_precision_are_facts(at):
    """All that decides an answer besides the files; not where the engine lives."""
    args = {"max_model_len": 4000, "enforce_eager": True, "dtype": "half", "max-num-seqs": 8}
    said = facts(python=at, args=args)
    assert said == {
        "context": 4000,
        "precision": "float16",
        "version": VERSION,
        "flags": {"enforce-eager": True, "max-num-seqs": 8},
    }
    assert facts(python=at, args=dict(reversed(args.items()))) == said


@pytest.mark.parametrize(
    ("stored", "said", "precision"),
    [
        ({"dtype": "bfloat16"}, {}, "bfloat16"),
        ({"torch_dtype": "torch.float16"}, {}, "float16"),
        ({}, {}, "float32"),
        ({"dtype": "bfloat16"}, {"dtype": "auto"}, "bfloat16"),
        ({"dtype": "bfloat16"}, {"dtype": "float32"}, "float32"),
    ],
)
def test_the_precision_is_that_of_the_weights_unless_another_is_said(at, stored, said, precision):
    """VLLM's own choice depends on the machine."""
    layout = ModelLayout(Path("w"), Path("c"), Path("t"), stored, 100)
    assert served_facts(layout, ServeSpec(engine="vllm", python=at, args=said))["precision"] == precision
    assert served_facts(layout, ServeSpec(engine="vllm", python=at, args=said))["context"] == 100


def test_other_names_of_the_model_are_facts_too(at):
    """As with every engine."""
    assert facts(python=at, model_names=("gpt-small",))["names"] == ["gpt-small"]


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_shipway_sets_and_what_no_digest_covers_is_not_told(name):
    """By either way to write it, and by the beginning of its name."""
    for said in (name, name.replace("-", "_"), name[:-1]):
        with pytest.raises(BadInput) as caught:
            read_flags({said: True})
        assert (caught.value.code, caught.value.field) == ("E_ENGINE_ARGS", f"serve.args.{said}")


@pytest.mark.parametrize(
    "args",
    [
        {"generation-config": "/tmp/other"},
        {"speculative-config": '{"model": "org/draft", "num_speculative_tokens": 3}'},
        {"hf-overrides": "~/x"},
        {"max-num-seqs": 1, "max_num_seqs": 2},
        {"max-model-len": "4k"},
        {"max-model-len": True},
        {"max-model-len": 0},
        {"dtype": "int8"},
    ],
)
def test_what_cannot_be_meant_is_refused(at, args):
    """A file, a model from elsewhere, the same flag twice, and lengths and precisions that are none."""
    assert refused(python=at, args=args)[0] == "E_ENGINE_ARGS"


def test_a_longer_context_than_the_models_is_refused(at):
    """Before vLLM would say so."""
    assert refused(python=at, args={"max-model-len": 8193}) == ("E_CONTEXT", "serve.args.max-model-len")


def test_a_version_that_must_be_there_is(at):
    """Or the spec is refused."""
    assert facts(python=at, version="1.2.3")["version"] == VERSION
    assert refused(python=at, version="1.2.4") == ("E_ENGINE", "serve.version")
    assert refused(python="/no/such/python") == ("E_ENGINE", "serve.python")


@pytest.mark.parametrize("declared", ["", "/", "HERE/elsewhere", "HERE/python3", "tmp", "HERE/x/../y"])
def test_a_spec_runs_no_program_that_nobody_declared(tmp_path, monkeypatch, declared):
    """It may come from anybody, with a program beside it; `..` leads nowhere else. All of `/` is a declaration, too."""
    monkeypatch.setenv("SHIPWAY_ENGINES", declared.replace("HERE", str(tmp_path)))
    monkeypatch.setenv("HOME", str(tmp_path))
    python = stand_in(tmp_path)
    if declared == "/":
        assert facts(python=python)["version"] == VERSION
        return
    assert refused(python=python) == ("E_ENGINE", "serve.python")
    assert refused(python=f"{tmp_path}/elsewhere/../python") == ("E_ENGINE", "serve.python")


NAMED = "host:5000/some/vllm"
IMAGE = f"{NAMED}@sha256:{'0' * 64}"


@pytest.mark.parametrize("declared", [NAMED, IMAGE, f"/opt, {NAMED}"])
def test_an_images_digest_is_part_of_the_release(monkeypatch, declared):
    """It may be declared by its name, or by its name and digest."""
    monkeypatch.setenv("SHIPWAY_ENGINES", declared)
    monkeypatch.setattr(brought, "contained_version", lambda image: VERSION)
    found = facts(image=IMAGE)
    assert (found["version"], found["image"]) == (VERSION, f"sha256:{'0' * 64}")
    assert refused(image=IMAGE, version="1.2.4") == ("E_ENGINE", "serve.version")


@pytest.mark.parametrize(
    "declared", ["", "host:5000", "host:5000/some", "some/vllm", f"{NAMED}@sha256:{'1' * 64}", "/"]
)
def test_a_spec_runs_no_image_that_nobody_declared(monkeypatch, declared):
    """Neither one of the same registry, nor another digest."""
    monkeypatch.setenv("SHIPWAY_ENGINES", declared)
    assert refused(image=IMAGE) == ("E_ENGINE", "serve.image")


def test_what_answers_at_a_url_says_what_it_is(url):
    """Its version, and how many tokens its models take; what else it was told is the spec's word."""
    said = {"context": 2048, "precision": "bfloat16", "version": "0.32.0", "flags": {"quantization": "fp8"}}
    assert facts(url=url, args={"quantization": "fp8"}) == said
    assert refused(url=url, version="0.31.0") == ("E_ENGINE", "serve.version")


def test_a_router_that_tells_nothing_is_taken_at_the_specs_word(url):
    """And is of an unknown version, where that says nothing either."""
    Answering.told = {"/v1/models": {"data": [{"id": "chat"}, {"id": "other", "max_model_len": "many"}]}}
    assert facts(url=url, version="0.33.1", args={"max-model-len": 512})["version"] == "0.33.1"
    unknown = facts(url=url)
    assert (unknown["version"], unknown["context"]) == ("unknown", 4096)


@pytest.mark.parametrize("said", [{}, {"/v1/models": {"data": []}}, {"/v1/models": []}, {"/v1/models": {"data": 3}}])
def test_what_lists_no_model_is_no_engine(url, said):
    """Whatever it answers."""
    Answering.told = said
    assert refused(url=url)[0] == "E_ENGINE"


@pytest.mark.parametrize(
    "url", ["http://192.0.2.1:80", "http://example.org", "http://user:pw@127.0.0.1:1", "https://["]
)
def test_a_spec_names_no_host_that_nobody_declared(url):
    """It may come from anybody: it would make Shipway ask machines behind a firewall."""
    assert refused(url=url) == ("E_URL", "serve.url")


def test_who_runs_shipway_declares_hosts(url, monkeypatch):
    """By its environment. The name is asked for its address, and then the address."""
    monkeypatch.setenv("SHIPWAY_ENGINES", "gpu.example, 127.0.0.1")
    assert facts(url=url)["version"] == "0.32.0"
    monkeypatch.setenv("SHIPWAY_ENGINES", "192.0.2.1")
    assert refused(url="http://192.0.2.1:80") == ("E_ENGINE", "")
