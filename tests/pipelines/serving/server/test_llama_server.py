"""Does a real server with llama.cpp answer the real client of OpenAI, and end without losing an answer?"""

from __future__ import annotations

import asyncio
import gzip
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest

from pipelines.errors import BadInput
from pipelines.records.settings import GatewaySettings, Objective, ServerSettings
from pipelines.serving.engines.llamacpp import threads_of
from pipelines.serving.probes import is_server_ready
from pipelines.serving.requests.data_plane import Serving
from pipelines.serving.server.generation import try_out
from pipelines.serving.settings_file import write_settings
from pipelines.supply.bundle import seal
from tests.pipelines.model_folders import MARKERS
from tests.pipelines.serving.meter.test_metered import post
from tests.pipelines.serving.plane import Plane, body_of
from tests.ports import free_port
from tests.waiting import HANG_S, until

pytestmark = pytest.mark.integration

FACTS = {"engine": "llamacpp", "context": 512, "slots": 4, "precision": "f16", "model": "tiny", "variant": "gguf-f16"}
HELLO: Any = [{"role": "user", "content": "Hello"}]
ENDLESS = {"logit_bias": [[number, False] for number in range(len(MARKERS))]}
"""No marker is ever generated: nothing but its length ends such an answer."""

LONG = {"prompt": "The", "max_tokens": 480, "n": 4, "logprobs": 60, "stream": True, **ENDLESS}
"""More megabytes than sockets hold, so that some is still to be sent however fast it was generated."""


def slow_reader(url: str) -> httpx.Client:
    """A client that takes few bytes: what it does not read stays with the server."""
    few_bytes = httpx.HTTPTransport(socket_options=[(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)])
    return httpx.Client(base_url=url, timeout=HANG_S, transport=few_bytes)


class Running:
    """A server's process, and where it is."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process, self.port = process, port
        self.url = f"http://127.0.0.1:{port}"
        self.client = openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=HANG_S)
        self.http = httpx.Client(base_url=self.url, timeout=HANG_S)
        self.slow = slow_reader(self.url)


def command_of(bundle: Path, digest: str, port: int, *more: object) -> list[str]:
    """How a server is started."""
    options = ("--bundle", bundle, "--digest", digest, "--port", port, "--model-name", "tiny", "--model-version", "7")
    return [sys.executable, "-m", "pipelines.serving.server", *map(str, (*options, *more))]


@contextmanager
def started(
    sealed: tuple[str, Path], folder: Path, drain_s: float = HANG_S, engine_at: str = "", ready_s: float = HANG_S
) -> Iterator[Running]:
    """A server that is ready."""
    port = free_port()
    write_settings(folder / "settings", ServerSettings(cpus=1.0, drain_s=drain_s, engine_at=engine_at))
    command = command_of(sealed[1], sealed[0], port, "--settings", folder / "settings")
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        until(lambda: is_server_ready(port) or process.poll() is not None, ready_s)
        assert process.poll() is None, process.communicate()[1]
        running = Running(process, port)
        with running.http, running.slow, running.client:
            yield running
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def sealed(tiny_gguf, tmp_path_factory) -> tuple[str, Path]:
    """The tiny model's bundle."""
    return seal(tiny_gguf.folder, FACTS, tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def server(sealed, tmp_path_factory) -> Iterator[Running]:
    """One server for the tests that do not end it."""
    with started(sealed, tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready", "/ping", "/version", "/metrics", "/v2"])
def test_probes_are_answered_with_the_version(server, path):
    """As every other server of Shipway answers them."""
    answer = server.http.get(path, headers={"x-request-id": "mine"})
    assert (answer.status_code, answer.headers["x-shipway-model-version"], answer.headers["x-request-id"]) == (
        200,
        "7",
        "mine",
    )
    assert path != "/version" or answer.text == "7"


def test_the_model_is_listed(server):
    """With the length of its context."""
    assert [(model.id, model.max_model_len) for model in server.client.models.list()] == [("tiny", 512)]
    assert server.client.models.retrieve("tiny").id == "tiny"


def test_a_chat_is_answered_and_named(server):
    """Whole, with its usage, and with the headers of every answer."""
    asked: Any = {"model": "tiny", "messages": HELLO, "max_tokens": 5, "extra_body": ENDLESS}
    raw = server.client.chat.completions.with_raw_response.create(**asked)
    chat = raw.parse()
    assert (chat.choices[0].finish_reason, chat.usage.completion_tokens) == ("length", 5)
    assert raw.headers["x-shipway-model-version"] == "7"
    assert len(raw.headers["x-request-id"]) == 32


def test_a_stream_says_what_the_whole_answer_says(server):
    """The same greedy text, a finish reason, and the usage where it is asked for."""
    asked: Any = {"model": "tiny", "messages": HELLO, "max_tokens": 12, "temperature": 0, "extra_body": ENDLESS}
    whole = server.client.chat.completions.create(**asked)
    with server.client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}) as stream:
        events = list(stream)
    text = "".join(event.choices[0].delta.content or "" for event in events if event.choices)
    finish = [event.choices[0].finish_reason for event in events if event.choices and event.choices[0].finish_reason]
    assert (text, finish) == (whole.choices[0].message.content, ["length"])
    assert [event.usage.completion_tokens for event in events if event.usage] == [12]


def test_a_seed_says_the_same_again(server):
    """At a temperature at which another seed says something else."""
    texts = [
        server.client.completions.create(
            model="tiny", prompt="The quick", max_tokens=16, temperature=1.5, seed=seed, extra_body=ENDLESS
        )
        .choices[0]
        .text
        for seed in (1, 1, 2)
    ]
    assert texts[0] == texts[1] != texts[2]


def test_a_stop_is_left_out(server):
    """Nothing of it is in the text, and the answer says that it stopped."""
    asked: Any = {"model": "tiny", "prompt": "The quick", "max_tokens": 24, "temperature": 0, "extra_body": ENDLESS}
    text = server.client.completions.create(**asked).choices[0].text
    stop = next(letter for letter in text[4:] if letter.isascii())
    stopped = server.client.completions.create(**asked, stop=[stop]).choices[0]
    assert (stopped.text, stopped.finish_reason) == (text.partition(stop)[0], "stop")


def test_several_answers_come_at_once(server):
    """Each with its own place."""
    chat = server.client.chat.completions.create(model="tiny", messages=HELLO, max_tokens=3, n=3)
    assert [choice.index for choice in chat.choices] == [0, 1, 2]


def test_logprobs_come_with_a_chat(server):
    """With the next best; tokens that end within a character are told with the one that ends it."""
    asked: Any = {"max_tokens": 12, "logprobs": True, "top_logprobs": 2, "extra_body": ENDLESS}
    chat = server.client.chat.completions.create(model="tiny", messages=HELLO, **asked)
    tokens = chat.choices[0].logprobs.content
    assert 0 < len(tokens) <= 12
    assert {len(token.top_logprobs) for token in tokens} == {2}


def test_a_gateway_counts_the_engines_tokens(server, tmp_path):
    """Of every stream as of every whole answer; that of an odd request is no evidence, and costs tokens, too."""
    chat = {"model": "tiny", "messages": HELLO, "max_tokens": 9, **ENDLESS}
    asked = [chat, {**chat, "stream": True, "stream_options": {"include_usage": True}}, {**chat, "max_tokens": 0}]

    async def run():
        serving = Serving(60.0, GatewaySettings(timeout_s=HANG_S, api="openai", objective=Objective(e2e_s=HANG_S)))
        async with Plane(tmp_path, serving=serving) as plane:
            plane.split([server.url])
            heard = [await plane.say(post(body), within_s=HANG_S) for body in asked]
            return plane.gateway.intervals.current.arms["stable"].counts(), plane.gateway.counters, heard

    arm, counters, heard = asyncio.run(run())
    whole, odd = (json.loads(body_of(answer))["usage"] for answer in (heard[0], heard[2]))
    said = {kind: 2 * whole[f"{kind}_tokens"] + odd[f"{kind}_tokens"] for kind in ("prompt", "completion")}
    tokens = {kind: n for _, kind, n in counters.told.plain()["tokens"]}
    assert (arm.routed, arm.errors, arm.rates["cut"]) == (2, 0, {"": (2, 2)})
    assert {"prompt": tokens["in"], "completion": tokens["out"]} == said
    assert arm.timings["first_token"].routed == arm.timings["between_tokens"].routed == 1


def test_a_response_is_answered_and_streamed(server):
    """OpenAI's newer form, as far as an engine without a store has it."""
    response = server.client.responses.create(model="tiny", input="Hello", max_output_tokens=16)
    assert (response.object, response.model) == ("response", "tiny")
    with server.client.responses.create(model="tiny", input="Hello", max_output_tokens=16, stream=True) as stream:
        kinds = [event.type for event in stream]
    assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")


def test_json_of_a_schema_is_json_of_the_schema(server):
    """Even of a model that has learnt nothing."""
    schema = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}
    form: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    chat = server.client.chat.completions.create(model="tiny", messages=HELLO, response_format=form, max_tokens=300)
    assert chat.choices[0].finish_reason == "length" or list(json.loads(chat.choices[0].message.content)) == ["a"]


def test_another_model_is_not_here(server):
    """llama.cpp itself would answer to any name."""
    with pytest.raises(openai.NotFoundError) as caught:
        server.client.chat.completions.create(model="other", messages=HELLO)
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


@pytest.mark.parametrize(
    ("status", "code", "changes"),
    [
        (400, "too_long", {"response_format": {"type": "json_schema", "json_schema": {"enum": ["x" * 9] * 5000}}}),
        (400, "invalid_request", {"tools": 5}),
        (400, "invalid_request", {"messages": [{"content": "nobody says this"}]}),
        (400, "invalid_request", {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}),
    ],
)
def test_what_is_wrong_with_a_request_is_the_clients_doing(server, status, code, changes):
    """The engine says 500 to some of it, and would be busy for a minute with some."""
    answer = server.http.post("/v1/chat/completions", json={"messages": HELLO, "max_tokens": 2, **changes})
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_a_prompt_over_the_context_is_refused_before_the_stream(server):
    """With how long it was, and how long it may be."""
    asked = {"messages": [{"role": "user", "content": "good " * 600}], "stream": True}
    answer = server.http.post("/v1/chat/completions", json=asked)
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "exceed_context_size_error")


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[" * 5000 + b"]" * 5000, b'{"prompt": "\xff"}', b'{"prompt": "\\ud800"}']
)
def test_what_is_no_json_never_meets_the_engine(server, body):
    """In OpenAI's shape."""
    answer = server.http.post("/v1/completions", content=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_json")


def test_a_compressed_request_is_read(server):
    """Which llama.cpp does not do."""
    body = gzip.compress(json.dumps({"prompt": "The", "max_tokens": 2}).encode())
    answer = server.http.post("/v1/completions", content=body, headers={"content-encoding": "gzip"})
    assert answer.json()["usage"]["prompt_tokens"] == 1


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("POST", "/lora-adapters", 404), ("GET", "/slots", 404), ("GET", "/", 404), ("GET", "/v1/completions", 405)],
)
def test_nothing_that_changes_an_engine_is_passed_on(server, method, path, status):
    """Only what is known is."""
    assert server.http.request(method, path).status_code == status


def test_who_leaves_holds_no_slot(server):
    """All slots are free again although nobody has read the answers to their ends."""
    for _ in range(6):
        asked = {"prompt": "The", "max_tokens": 500, "stream": True, **ENDLESS}
        with server.http.stream("POST", "/v1/completions", json=asked) as answer:
            next(answer.iter_lines())
    until(lambda: "llamacpp:requests_processing 0" in server.http.get("/metrics").text)


def test_it_has_no_more_threads_than_a_container_lets_it_have(server):
    """Whoever was answered holds none: llama.cpp would make another one for the next, and end where it cannot."""
    asked = {"prompt": "The", "max_tokens": 4}
    with ThreadPoolExecutor(8) as clients:
        answers = [clients.submit(server.http.post, "/v1/completions", json=asked) for _ in range(60)]
    assert {answer.result().status_code for answer in answers} == {200}
    assert psutil.Process(server.process.pid).num_threads() <= threads_of(FACTS["slots"], 1)


def test_a_term_in_the_middle_of_a_stream_finishes_it(sealed, tmp_path):
    """With the ends of all its answers, and the process is gone afterwards."""
    with started(sealed, tmp_path) as running:
        with running.slow.stream("POST", "/v1/completions", json=LONG) as answer:
            pieces = answer.iter_raw()
            first = next(pieces)
            running.process.send_signal(signal.SIGTERM)
            until(lambda: not is_server_ready(running.port))
            *events, done, end = b"".join([first, *pieces]).split(b"\n\n")
        assert running.process.wait(HANG_S) == 0
    assert (done, end) == (b"data: [DONE]", b"")
    said = [json.loads(event.removeprefix(b"data: "))["choices"][0] for event in events]
    assert sorted(one["index"] for one in said if one["finish_reason"] == "length") == [0, 1, 2, 3]


def test_what_is_not_over_after_its_time_is_cut_and_counted(sealed, tmp_path):
    """A client sees a broken answer, never one that looks whole; the process ends all the same."""
    with (
        started(sealed, tmp_path, drain_s=0.0) as running,
        running.slow.stream("POST", "/v1/completions", json=LONG) as answer,
    ):
        pieces = answer.iter_raw()
        next(pieces)
        running.process.send_signal(signal.SIGTERM)
        said = running.process.communicate(timeout=HANG_S)[1]
        with pytest.raises(httpx.TransportError):
            list(pieces)
    assert (running.process.returncode, "1 open answers were cut after 0 s" in said) == (0, True)


def test_a_killed_server_breaks_its_streams_and_serves_again(sealed, tmp_path):
    """Nobody gets an answer that looks whole, and nothing of the dead one is in the way."""
    with started(sealed, tmp_path) as running, running.slow.stream("POST", "/v1/completions", json=LONG) as answer:
        pieces = answer.iter_raw()
        next(pieces)
        running.process.kill()
        with pytest.raises(httpx.TransportError):
            list(pieces)
    with started(sealed, tmp_path) as running:
        assert running.http.post("/v1/completions", json={"prompt": "The", "max_tokens": 1}).status_code == 200


class Broken:
    """An engine of which one number is missing."""

    def __init__(self, logprob: float | None, tokens: int = 1) -> None:
        self._said = {
            "choices": [{"logprobs": {"content": [{"logprob": logprob}] * tokens}}],
            "usage": {"completion_tokens": tokens},
        }

    def complete(self, prompt: str, most_tokens: int) -> Any:
        """What llama.cpp said of weights with a NaN in them."""
        return self._said


def test_a_model_without_numbers_does_not_get_ready():
    """Neither does one that says nothing; any probability will do."""
    try_out(Broken(-3.5))
    with pytest.raises(BadInput, match="NaN or infinity"):
        try_out(Broken(None))
    with pytest.raises(BadInput, match="generates nothing"):
        try_out(Broken(-1.0, tokens=0))


@pytest.mark.parametrize("wrong", ["digest", "bytes", "context", "weights"])
def test_other_bytes_than_those_of_the_digest_are_not_served(wrong, sealed, tmp_path, tiny_gguf):
    """Neither is a file that is no model's, nor one with numbers that are none, nor a longer context than it has."""
    digest, path = sealed
    if wrong == "context":
        digest, path = seal(tiny_gguf.folder, {**FACTS, "context": 1024}, tmp_path)
    elif wrong == "weights":
        raw = (tiny_gguf.folder / "model.gguf").read_bytes()
        (tmp_path / "m").mkdir()
        (tmp_path / "m" / "model.gguf").write_bytes(raw[:-20_000] + b"\xff\x7f" * 10_000)  # NaN in f16
        digest, path = seal(tmp_path / "m", FACTS, tmp_path / "store")
    elif wrong == "bytes":
        (tmp_path / "m").mkdir()
        (tmp_path / "m" / "model.gguf").write_bytes(b"GGUF" * 100)
        digest, path = seal(tmp_path / "m", FACTS, tmp_path / "store")
    else:
        digest = "sha256:" + "0" * 64
    done = subprocess.run(command_of(path, digest, free_port()), capture_output=True, text=True, check=False)
    codes = {"digest": "E_DIGEST", "bytes": "E_ENGINE", "context": "E_CONTEXT (context): a slot", "weights": "E_OUTPUT"}
    assert (done.returncode, codes[wrong] in done.stderr) == (3, True), done.stderr
