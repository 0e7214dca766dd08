"""How is a vLLM in an image started, confined, asked and ended? Seen on a real engine, by what stands in for it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.adapters.docker.engine import engine as docker
from pipelines.errors import BadInput
from pipelines.serving.engines import streaming_engine
from pipelines.serving.engines.streaming import EnginePlace
from pipelines.serving.engines.vllm_image import (
    ENGINE_LABEL,
    OWNER_LABEL,
    ContainedVllm,
    connect,
    contained_version,
    digest_of,
    owner,
    sweep,
)
from pipelines.supply.bundle import seal
from pipelines.tasks.generation.asking import _at_an_address
from tests.pipelines.serving.engines.vllm_stand_in import VERSION, lay_site
from tests.pipelines.serving.server.test_llama_server import started
from tests.systems.docker_engine import BASE_IMAGE
from tests.waiting import HANG_S, until

NOWHERE = "nobody/has-this@sha256:" + "0" * 64
HELD = """
import sys
from pathlib import Path
from tests.pipelines.serving.engines.test_vllm_image import made
one = made(Path(sys.argv[1]), sys.argv[2])
print(one.start(0), flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def image(docker_engine, tmp_path_factory) -> str:
    """An image with what stands in for vLLM, by its digest."""
    folder = tmp_path_factory.mktemp("image")
    lay_site(folder / "site")
    (folder / "Dockerfile").write_text(f"FROM {BASE_IMAGE}\nCOPY site /usr/lib/python3/dist-packages\n")
    built, _ = docker().images.build(path=str(folder), tag="shipway-test/vllm:1")
    return f"shipway-test/vllm@{built.id}"


def made(folder: Path, image: str, **flags: Any) -> ContainedVllm:
    """An engine for a folder; it does not run yet."""
    one = streaming_engine(folder, facts_of(image, **flags), EnginePlace(1, image, 7.2), "chat")
    assert isinstance(one, ContainedVllm)
    return one


def facts_of(image: str, **flags: Any) -> dict[str, Any]:
    """What a bundle says of it."""
    named = {"engine": "vllm", "version": VERSION, "image": digest_of(image)}
    return {**named, "context": 512, "precision": "bfloat16", "flags": flags}


@pytest.fixture
def engine(tmp_path, image) -> Iterator[ContainedVllm]:
    """One that is not started yet, for a model of one file."""
    (tmp_path / "weights").write_text("1")
    one = made(tmp_path, image, seed=3)
    yield one
    one.stop(0.0)
    assert containers() == []


def containers() -> list[Any]:
    """Of all engines that live in images."""
    return docker().containers.list(all=True, filters={"label": ENGINE_LABEL})


@pytest.mark.docker
@pytest.mark.integration
@pytest.mark.timeout(300)
def test_it_is_confined_told_and_asked(engine, tmp_path, monkeypatch):
    """Loopback only, a root and a model that it cannot write, no capability, no secret, and what the facts say."""
    monkeypatch.setenv("HF_TOKEN", "secret")
    url = engine.start(0)
    (container,) = containers()
    host, port = container.attrs["HostConfig"], url.rpartition(":")[2]
    assert host["PortBindings"]["8000/tcp"] == [{"HostIp": "127.0.0.1", "HostPort": port}]
    assert (host["ReadonlyRootfs"], host["CapDrop"], host["SecurityOpt"]) == (True, ["ALL"], ["no-new-privileges:true"])
    seen = json.loads(container.exec_run(["cat", "/tmp/seen.json"]).output)
    assert seen["told"][2:5] == ["--model=/model", "--served-model-name=chat", "--host=0.0.0.0"]
    assert {"--dtype=bfloat16", "--shutdown-timeout=8", "--seed=3"} < set(seen["told"])
    assert "secret" not in seen["environment"].values()
    assert container.exec_run(["sh", "-c", "cat /model/weights; echo 2 > /model/weights"]).exit_code != 0
    assert (tmp_path / "weights").read_text() == "1"
    assert (engine.following([1, 2], 1), engine.drain(0.0), engine.has_ended()) == ([(3, -0.5)], 7, False)
    engine.stop()
    assert (containers(), engine.probe(), engine.has_ended()) == ([], False, True)


@pytest.mark.docker
@pytest.mark.integration
@pytest.mark.timeout(300)
def test_it_ends_with_a_server_that_was_killed(tmp_path, image):
    """The Docker Engine lets go of what it held; nobody has to be there for that."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HELD, str(tmp_path), image], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout.readline().startswith(b"http://127.0.0.1:")
        assert len(containers()) == 1
        os.kill(holder.pid, signal.SIGKILL)
        until(lambda: not containers())
    finally:
        holder.kill()
        holder.communicate(timeout=HANG_S)


@pytest.mark.docker
@pytest.mark.integration
@pytest.mark.timeout(300)
def test_a_server_stands_before_it_and_ends_with_it(tmp_path, image):
    """As before any other engine: its own names and version to callers, and nothing left after a drain."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("1")
    sealed = seal(tmp_path / "model", {**facts_of(image), "model": "m", "variant": "source"}, tmp_path / "store")
    with started(sealed, tmp_path, engine_at=image) as running:
        answer = running.http.post("/v1/completions", json={"model": "tiny", "prompt": "x"})
        assert (answer.status_code, answer.headers["x-shipway-model-version"], len(containers())) == (200, "7", 1)
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(HANG_S) == 0
        assert containers() == []


@pytest.mark.docker
@pytest.mark.integration
@pytest.mark.timeout(300)
def test_who_judges_it_asks_at_an_address(tmp_path, image):
    """The child that reads files from outside has no way to the Docker Engine."""
    question = {"threads": 1, "folder": str(tmp_path), "facts": facts_of(image)}
    with _at_an_address({**question, "at": image}) as url:
        assert url.startswith("http://127.0.0.1:")
        asked = streaming_engine(tmp_path, facts_of(image), EnginePlace(1, url), "another")
        asked.start(0)
        assert asked.following([1, 2], 1) == [(3, -0.5)]
    assert containers() == []
    with (
        pytest.raises(RuntimeError, match="is not on this machine"),
        _at_an_address({**question, "at": NOWHERE, "facts": facts_of(NOWHERE)}),
    ):
        pass


@pytest.mark.parametrize("at", ["", "/some@where/python", "http://some@host:1"])
def test_other_engines_are_asked_where_they_are(at):
    """Nothing is started for them."""
    with _at_an_address({"threads": 1, "folder": "/", "facts": {}, "at": at}) as found:
        assert found == at


@pytest.mark.docker
@pytest.mark.integration
@pytest.mark.timeout(300)
def test_what_has_outlived_its_server_is_swept(image):
    """And what another one still holds is not, nor what belongs to a place where numbers mean other processes."""
    mine, place = owner(os.getpid()), owner(os.getpid()).rpartition("/")[0]
    labels = [{ENGINE_LABEL: "vllm", OWNER_LABEL: one} for one in (mine, f"{place}/1@0", f"{place[::-1]}/1@0")]
    kept = [docker().containers.create(digest_of(image), "true", labels=label) for label in labels]
    try:
        sweep(docker())
        assert {one.id for one in containers()} == {kept[0].id, kept[2].id}
    finally:
        for one in containers():
            one.remove(force=True)


@pytest.mark.docker
@pytest.mark.integration
@pytest.mark.timeout(300)
def test_what_does_not_start_says_why(tmp_path, image):
    """In its own words, and nothing of it is left."""
    one = made(tmp_path, image, fails=1)
    with pytest.raises(BadInput, match="vLLM does not start: ValueError: too little memory") as caught:
        one.start(0)
    assert (caught.value.code, one.has_ended()) == ("E_ENGINE", True)
    until(lambda: not containers())


@pytest.mark.docker
@pytest.mark.integration
@pytest.mark.timeout(300)
def test_an_image_is_asked_for_its_version(image):
    """One without vLLM, and one that is not there, are refused."""
    assert contained_version(image) == VERSION
    base = f"{BASE_IMAGE.partition(':')[0]}@{docker().images.get(BASE_IMAGE).id}"
    for other in (base, NOWHERE, f"other/name@{digest_of(image)}"):
        with pytest.raises(BadInput) as caught:
            contained_version(other)
        assert (caught.value.code, caught.value.field) == ("E_ENGINE", "serve.image")


@pytest.mark.parametrize("host", ["tcp://127.0.0.1:1", "ssh://elsewhere", "unix:///nobody/here"])
def test_another_machines_docker_engine_is_of_no_use(host, monkeypatch):
    """It sees no folder of this one; and one that does not answer is said to be so."""
    monkeypatch.setenv("DOCKER_HOST", host)
    with pytest.raises(BadInput) as caught:
        connect()
    assert (caught.value.code, caught.value.field) == ("E_ENGINE", "serve.image")


def test_another_image_is_not_started(tmp_path):
    """Its digest is part of what was released."""
    one = made(tmp_path, NOWHERE)
    one._facts["image"] = "sha256:" + "1" * 64
    with pytest.raises(BadInput, match=r"is version sha256:0+, and sha256:1+ was released"):
        one.start(0)
