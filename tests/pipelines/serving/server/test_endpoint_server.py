"""Does a server answer for an engine that somebody else runs at a URL? llama.cpp is somebody here."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import BadInput
from pipelines.records.settings import ServerSettings
from pipelines.serving.engines import streaming_engine
from pipelines.serving.engines.llamacpp import LlamaCppEngine
from pipelines.serving.engines.streaming import EnginePlace
from pipelines.serving.settings_file import write_settings
from pipelines.supply.bundle import seal
from tests.pipelines.serving.server.test_llama_server import HELLO, command_of, started
from tests.ports import free_port
from tests.waiting import HANG_S, until

pytestmark = pytest.mark.integration

FACTS: dict[str, Any] = {
    "engine": "vllm",
    "context": 512,
    "precision": "float16",
    "version": "unknown",
    "flags": {},
    "model": "m",
    "variant": "safetensors",
    "names": ["gpt-small"],
}


@pytest.fixture(scope="module")
def url(tiny_gguf) -> Iterator[str]:
    """Somebody's engine, which calls the model what he likes."""
    engine = LlamaCppEngine(tiny_gguf.folder, {"context": 512, "slots": 2}, 1, "his-name")
    yield engine.start(free_port())
    engine.stop()


@pytest.fixture(scope="module")
def sealed(tiny_gguf, tmp_path_factory) -> tuple[str, Path]:
    """A bundle that it is said to serve."""
    return seal(tiny_gguf.folder, FACTS, tmp_path_factory.mktemp("store"))


@pytest.mark.parametrize("name", ["tiny", "gpt-small"])
def test_the_model_has_our_names_here_and_his_there(url, sealed, tmp_path, name):
    """And he goes on when our server has ended."""
    with started(sealed, tmp_path, engine_at=url) as running:
        chat = running.client.chat.completions.create(model=name, messages=HELLO, max_tokens=3)
        assert chat.model == "his-name"
        assert running.http.post("/v1/completions", json={"prompt": "x", "max_tokens": 1}).status_code == 200
        refused = running.http.post("/v1/completions", json={"model": "his-name", "prompt": "x", "max_tokens": 1})
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_found")
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(HANG_S) == 0
    engine = met(url)
    assert (engine.probe(), engine.drain(0.0)) == (True, 0)
    engine.stop()
    assert engine.probe() is False


def test_a_body_that_is_too_deep_to_be_written_again_goes_on_as_it_came(url, sealed, tmp_path):
    """What can be read can be nested deeper than what can be written: the engine has the word."""
    deep = b'{"prompt": "x", "max_tokens": 1, "metadata": ' + b"[" * 500 + b"]" * 500 + b"}"
    with started(sealed, tmp_path, engine_at=url) as running:
        assert running.http.post("/v1/completions", content=deep).status_code in {200, 400}
        assert running.http.get("/v2/health/ready").status_code == 200


def met(url: str, **changes: Any) -> Any:
    """An engine there, of these facts."""
    engine = streaming_engine(Path("unused"), {**FACTS, **changes}, EnginePlace(1, url), "tiny")
    assert engine.start(0) == url
    return engine


def test_it_is_asked_like_any_engine(url):
    """With likelihoods."""
    engine = met(url)
    assert (engine.has_ended(), engine.habits.called) == (False, "his-name")
    assert engine.complete("Hello", 4)["usage"]["completion_tokens"] == 4


def test_what_answers_must_be_what_was_released():
    """Nobody, in this case: the server does not start, and says so."""
    with pytest.raises(BadInput) as caught:
        met(f"http://127.0.0.1:{free_port()}")
    assert caught.value.code == "E_ENGINE"


def test_a_server_of_nobody_ends(sealed, tmp_path):
    """With a sentence, before it opens its door."""
    nobody = f"http://127.0.0.1:{free_port()}"
    write_settings(tmp_path / "settings", ServerSettings(engine_at=nobody))
    command = command_of(sealed[1], sealed[0], free_port(), "--settings", tmp_path / "settings")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.startswith(f"E_ENGINE: {nobody} lists no model")) == (3, True), done.stderr


def test_an_endpoint_that_goes_away_is_an_error_of_each_answer(tiny_gguf, sealed, tmp_path):
    """Which the gateway counts; the server itself stays."""
    engine = LlamaCppEngine(tiny_gguf.folder, {"context": 512, "slots": 2}, 1, "his-name")
    with started(sealed, tmp_path, engine_at=engine.start(free_port())) as running:
        engine.stop()
        asked = {"prompt": "x", "max_tokens": 1}
        until(lambda: running.http.post("/v1/completions", json=asked).status_code == 502)
        assert running.http.get("/v2/health/ready").status_code == 200
