"""Does a server answer to all of its names, and to no other?"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import httpx
import pytest

from pipelines.serving.engines.streaming import Habits
from pipelines.serving.server.front import Front
from tests.pipelines.serving.plane import OK, saying
from tests.waiting import HANG_S

NAMES = ("writer", "gpt-4o", "meta-llama/Llama-3.1-8B")


@contextmanager
def running(names: tuple[str, ...]) -> Iterator[httpx.Client]:
    """A front in this process, before an engine that says `ok` to everything."""
    loop = asyncio.new_event_loop()

    async def begin() -> int:
        engine = await asyncio.start_server(saying(OK), "127.0.0.1", 0)
        url = f"http://127.0.0.1:{engine.sockets[0].getsockname()[1]}"
        front = Front(url, names, "7", Habits(4, 512, {}, ()))
        server = await loop.create_server(front.clients.protocol, "127.0.0.1", 0)
        return int(server.sockets[0].getsockname()[1])

    thread = Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        port = asyncio.run_coroutine_threadsafe(begin(), loop).result(HANG_S)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=HANG_S, trust_env=False) as client:
            yield client
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(HANG_S)


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    """Of a front with several names."""
    with running(NAMES) as asked:
        yield asked


def ask(client: httpx.Client, **body: Any) -> httpx.Response:
    """A conversation with these keys."""
    return client.post("/v1/chat/completions", json={"messages": [], **body})


def test_every_name_is_listed_and_found(client):
    """With the same facts, the service's own name first; a name may hold a slash."""
    listed = client.get("/v1/models").json()["data"]
    assert [model["id"] for model in listed] == list(NAMES)
    assert {model["max_model_len"] for model in listed} == {512}
    assert [client.get(f"/v1/models/{name}").json() for name in NAMES] == listed
    assert client.get("/v1/models/gpt-5").status_code == 404


@pytest.mark.parametrize("name", [*NAMES, None])
def test_who_asks_by_a_name_is_answered(client, name):
    """Nobody has to name one."""
    assert ask(client, model=name).text == "ok"


@pytest.mark.parametrize("name", ["gpt-5", "WRITER", "writer ", "", 5, ["writer"], {"writer": 1}, True])
def test_who_asks_for_another_is_told(client, name):
    """Whatever the engine would say; a name is a text."""
    answer = ask(client, model=name)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


def test_probes_go_by_the_first_name():
    """It is the service's."""
    with running(("a/b", "c")) as client:
        assert json.loads(client.get("/v2/models/a/b").text)["name"] == "a/b"
        assert client.get("/v2/models/c").status_code == 404
