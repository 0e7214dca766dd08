"""Does llama.cpp keep to the vocabulary of a streaming engine: start, probe, drain, stop?"""

from __future__ import annotations

import json
import socket
from contextlib import ExitStack

import pytest

from pipelines.errors import BadInput
from pipelines.serving.engines.llamacpp import LlamaCppEngine
from tests.pipelines.model_folders import MARKERS
from tests.ports import free_port
from tests.waiting import HANG_S

pytestmark = pytest.mark.integration

MANY = 16
FACTS = {"context": 512, "slots": 2}
ASKED = {"prompt": "The", "max_tokens": 500, "stream": True, "logit_bias": [[i, False] for i in range(len(MARKERS))]}


def test_it_listens_from_its_start_to_its_stop(tiny_gguf):
    """At the port that it was told, and nowhere afterwards."""
    engine, port = LlamaCppEngine(tiny_gguf.folder, FACTS, 1, "tiny"), free_port()
    assert engine.probe() is False
    assert engine.start(port) == f"http://127.0.0.1:{port}"
    assert (engine.probe(), engine.drain(0.0)) == (True, 0)
    engine.stop()
    assert (engine.probe(), engine.drain(0.0)) == (False, 0)
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_it_says_what_is_open_until_it_is_over(tiny_gguf):
    """Those that run and those that wait; a deadline that has passed ends nothing."""
    engine = LlamaCppEngine(tiny_gguf.folder, FACTS, 1, "tiny")
    engine.start(port := free_port())
    body = json.dumps(ASKED).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    with ExitStack() as stack:
        asking = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(MANY)]
        for one in asking:
            one.sendall(head + body)
        asking[-1].recv(1)
        assert 0 < engine.drain(0.0) <= MANY
        assert engine.drain(HANG_S) == 0
        assert [b"[DONE]" in whole(one) for one in asking] == [True] * MANY
    engine.stop()


def whole(one: socket.socket) -> bytes:
    """All of an answer."""
    said = b""
    while not said.endswith(b"0\r\n\r\n"):
        said += one.recv(65536)
    return said


def test_it_wants_what_it_can_bear(tiny_gguf):
    """Requests for its slots, and for a queue; and a port that somebody has is a sentence."""
    engine, other = (LlamaCppEngine(tiny_gguf.folder, FACTS, 1, "tiny") for _ in range(2))
    assert (engine.habits.most_open, engine.habits.context) == (34, 512)
    engine.start(port := free_port())
    with pytest.raises(BadInput, match=r"llama\.cpp refuses") as caught:
        other.start(port)
    assert caught.value.code == "E_ENGINE"
    engine.stop()
