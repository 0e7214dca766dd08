"""Whole releases whose servers are containers of a real Docker Engine, with kills of everything around them."""

from __future__ import annotations

import json
import os
import signal
from ast import literal_eval
from collections.abc import Iterator

import psutil
import pytest

from flows.control.up_file import find_up
from pipelines.adapters.docker.engine import HOME_LABEL, UNIT_LABEL, engine
from pipelines.records.service import Deployment
from pipelines.services.units import server_name
from pipelines.serving.probes import is_server_ready
from tests.contracts.test_runtime import inside, outgrow
from tests.flows.releases.real_world import SPEC, Client, World, bootstrapped, calling, kill
from tests.pipelines.model_folders import make_generator
from tests.pipelines.serving.server.test_llama_server import LONG, slow_reader
from tests.systems.docker_engine import BASE_IMAGE
from tests.waiting import HANG_S, until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.docker,
    pytest.mark.usefixtures("docker_engine"),
    pytest.mark.timeout(600),
]
WRITER = """\
model: models:/writer/1
service: writer
bootstrap: true
evaluate: {data: rows.jsonl, max_tokens: 4, gates: [{metric: finished, min: 0.0}]}
serve: {api: openai, cpus: 2, drain: 60s, args: {context: 512}}
rollout: {gates: {latency: null, drift: null}}
"""
PACKAGE = f"package: {{target: docker, base_image: '{BASE_IMAGE}', memory_mb: 700, pids: 100}}\n"


@pytest.fixture(scope="module")
def world(docker_engine, tmp_path_factory, prefect_server) -> Iterator[World]:
    """Version 1 serves from a container."""
    with bootstrapped(tmp_path_factory.mktemp("home"), prefect_server, SPEC + PACKAGE) as made:
        yield made
    assert containers(made) == {}


@pytest.fixture
def client(world) -> Iterator[Client]:
    """Traffic while a test runs."""
    with calling(world.url) as sending:
        yield sending


def containers(world: World) -> dict[str, str]:
    """The image of every container of this home, by its unit."""
    found = engine().containers.list(all=True, filters={"label": f"{HOME_LABEL}={world.home.id}"})
    return {container.labels[UNIT_LABEL]: container.attrs["Image"] for container in found}


def canary_container(world: World):
    """The candidate's one container."""
    name = server_name("tiny", world.newest().sealed.bundle_digest, 0)
    (found,) = [c for c in engine().containers.list() if c.labels[UNIT_LABEL].endswith(name)]
    return found


def test_stable_is_a_container(world):
    """Of the image that the record names; nobody can reach it from outside this machine."""
    service = world.ports.services.load("tiny")
    assert list(containers(world).values()) == [service.stable.image]
    assert service.stable.image.startswith("sha256:")
    assert (service.stable.settings.memory_mb, service.stable.settings.pids) == (700, 100)


def test_there_are_never_two_canaries(world, client):
    """A kill -9 of `release` and of `up`: the next `up` adopts the canary's container, and the release finishes."""
    controller = world.start_release()
    world.wait_share(controller)
    canary = canary_container(world)
    psutil.Process(int(find_up(world.home)["pid"])).kill()
    kill(controller)
    restarted = world.start_up()
    try:
        world.wait_ended()
    finally:
        restarted.poll()
    release = world.newest()
    assert (release.outcome, client.failed) == ("promoted", 0)
    canary.reload()
    assert (canary.status, len(containers(world))) == ("running", 2)
    assert release.sealed.image == world.ports.services.load("tiny").stable.image == canary.attrs["Image"]


def test_a_canary_that_outgrows_its_memory_goes_home(world, client):
    """The kernel ends it: home at once, stable answers what it did not, and the log says which limit."""
    controller = world.start_release()
    world.wait_share(controller)
    canary = canary_container(world)
    outgrow(canary)
    assert controller.wait(HANG_S) == 4
    release = world.newest()
    assert (release.outcome, world.ports.router.read("tiny").canary, client.failed) == ("rolled_back", None, 0)
    log = world.home.folder("logs") / f"{server_name('tiny', release.sealed.bundle_digest, 0)}.log"
    assert "out of memory: killed at its limit" in log.read_text()


def test_a_killed_stable_is_started_again(world):
    """By `up`, at the same address, from the record."""
    service = world.ports.services.load("tiny")
    name = server_name("tiny", service.stable.digest, 0)
    before = world.ports.runtime.status(name)
    (found,) = [c for c in engine().containers.list() if c.labels[UNIT_LABEL].endswith(name)]
    found.kill("SIGKILL")
    world.wait("another one", lambda: world.ports.runtime.status(name).restarts > before.restarts)
    world.wait("ready again", lambda: world.ports.runtime.status(name).state == "ready")
    assert world.ports.runtime.status(name).url == before.url
    os.kill(world.ports.runtime.status(name).pid, signal.SIGKILL)
    world.wait("another shim", lambda: world.ports.runtime.status(name).restarts > before.restarts + 1)
    assert len([unit for unit in containers(world) if unit.endswith(name)]) == 1


def test_a_language_model_is_released_as_a_container(world):
    """Judged, staged and questioned in an image without torch; told to end, it finishes the answers that it began."""
    stable, unit = released_writer(world)
    (container,) = [c for c in engine().containers.list() if c.labels[UNIT_LABEL].endswith(unit)]
    host = container.attrs["HostConfig"]
    assert container.attrs["Image"] == stable.image == world.newest().sealed.image
    assert (host["Memory"], host["PidsLimit"], host["ReadonlyRootfs"]) == (700 * 2**20, 100, True)
    installed = literal_eval(
        inside(container, "import importlib.metadata as m; print({d.name for d in m.distributions()})")
    )
    assert installed & {"xllamacpp", "torch", "transformers", "onnxruntime", "mlflow", "prefect"} == {"xllamacpp"}
    assert container.exec_run(container.attrs["Config"]["Healthcheck"]["Test"][1:]).exit_code == 0
    with (
        slow_reader(world.ports.runtime.status(unit).url) as client,
        client.stream("POST", "/v1/completions", json=LONG) as answer,
    ):
        pieces = answer.iter_raw()
        first = next(pieces)
        ending = world.begin("down", "writer")
        until(lambda: not is_server_ready(answer.url.port))
        said = b"".join((first, *pieces))
    assert ending.wait(HANG_S) == 0
    assert (said.count(b'"finish_reason":"length"'), said[-14:]) == (4, b"data: [DONE]\n\n")
    world.wait("the end of its container", lambda: not any(name.endswith(unit) for name in containers(world)))


def released_writer(world: World) -> tuple[Deployment, str]:
    """A language model that serves from an image, and the unit of its server."""
    root = world.home.root
    folder = make_generator(root / "models" / "writer")
    world.ports.registry.register("writer", folder, {})
    rows = ({"prompt": f"The quick {n}", "reference": "fox jumps"} for n in range(30))
    (root / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (root / "writer.yaml").write_text(WRITER + PACKAGE)
    done = world.run("release", str(root / "writer.yaml"), "--json")
    assert done.returncode == 0, done.stderr[-3000:]
    stable = world.ports.services.load("writer").stable
    return stable, server_name("writer", stable.digest, 0)


def test_an_engine_that_is_restarted_accuses_nobody(world, client, docker_engine):
    """Its containers go on meanwhile (`live-restore`), and so does the release. Last: engines forget their networks."""
    if docker_engine.folder is None:
        pytest.skip("the engine is not this session's own")
    controller = world.start_release()
    world.wait_share(controller)
    canary = canary_container(world)
    docker_engine.stop()
    docker_engine.start()
    assert controller.wait(HANG_S) == 0
    canary.reload()
    assert (world.newest().outcome, canary.status, client.failed) == ("promoted", "running", 0)
