"""What a release on real processes survives beside kills: pauses, hangs, a reboot, and a registry that goes away."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from flows.control.up_file import find_up
from flows.wiring import clock
from pipelines.adapters.processes.unit_files import boot_id
from pipelines.services.units import gateway_name, server_name
from tests.faults_input.fingerprints import fingerprint
from tests.flows.releases.real_observer import observed
from tests.flows.releases.real_world import SPEC, Client, World, bootstrapped, calling, kill, looks_since
from tests.pipelines.model_folders import make_classifier
from tests.systems.mlflow_server import MlflowServer
from tests.waiting import HANG_S

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

TIMEOUT_S = 2


@pytest.fixture(scope="module")
def mlflow_server(tmp_path_factory) -> Iterator[MlflowServer]:
    """A registry that a test may kill."""
    server = MlflowServer(tmp_path_factory.mktemp("mlflow"))
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def world(tmp_path_factory, mlflow_server, prefect_server) -> Iterator[World]:
    """Version 1 serves; models are registered in a server of MLflow, and answers must come within 2 s."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", mlflow_server.uri)
        with bootstrapped(
            tmp_path_factory.mktemp("home"), prefect_server, f"{SPEC}serve: {{timeout: {TIMEOUT_S}s}}\n"
        ) as made:
            yield made


@pytest.fixture(autouse=True)
def _registry(monkeypatch, mlflow_server) -> None:
    """Commands of a test find the server."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server.uri)


@pytest.fixture
def client(world) -> Iterator[Client]:
    """Traffic while a test runs."""
    with calling(world.url) as sending:
        yield sending


def champion(world: World) -> int:
    """The version that the alias names."""
    return world.ports.registry.resolve("models:/tiny@champion").version


def test_a_registry_that_is_away_at_first_is_told(world, mlflow_server):
    """Exit 7 before any effect; the same command works when it is back."""
    before = fingerprint(world.home.root / "work")
    newest = world.newest().id
    mlflow_server.stop(signal.SIGKILL)
    try:
        done = world.run("release", str(world.spec), "--model", "models:/tiny/1")
    finally:
        mlflow_server.start()
    assert (done.returncode, "E_REGISTRY" in done.stderr) == (7, True), done.stderr
    assert (fingerprint(world.home.root / "work"), world.newest().id) == (before, newest)


def test_a_registry_that_dies_in_the_canary_delays_the_alias_only(world, client, mlflow_server):
    """The canary goes on, the candidate is promoted, and the alias is owed: it follows when the registry is back."""
    was = champion(world)
    controller = world.start_release()
    world.wait_share(controller)
    mlflow_server.stop(signal.SIGKILL)
    assert controller.wait(HANG_S) == 0
    promoted = world.newest()
    assert (promoted.outcome, promoted.alias, client.failed) == ("promoted", "owed", 0)
    assert world.ports.router.read("tiny").stable.digest == promoted.sealed.bundle_digest
    mlflow_server.start()
    world.wait("the alias", lambda: world.ports.ledger.load(promoted.id).alias == "set")
    assert was != champion(world) == world.ports.services.load("tiny").stable.version


def test_going_home_needs_no_registry_and_costs_nobody_a_request(world, client, mlflow_server):
    """It is dead, the canary is killed under load, too: home at once, and stable answers what the canary did not."""
    controller = world.start_release()
    world.wait_share(controller)
    mlflow_server.stop(signal.SIGKILL)
    try:
        digest = world.newest().sealed.bundle_digest
        os.kill(world.ports.runtime.status(server_name("tiny", digest, 0)).pid, signal.SIGKILL)
        assert controller.wait(HANG_S) == 4
        assert (world.newest().outcome, world.ports.router.read("tiny").canary) == ("rolled_back", None)
        assert (client.answered > 0, client.failed) == (True, 0)
    finally:
        mlflow_server.start()


def test_a_controller_that_was_paused_is_shut_out(world, client):
    """SIGSTOP for longer than its lock: `up` finishes the release; the sleeper wakes, and changes nothing any more."""
    with observed(world):
        controller = world.start_release()
        world.wait_share(controller)
        os.kill(controller.pid, signal.SIGSTOP)
        try:
            world.wait_ended()
            ended = world.newest()
        finally:
            os.kill(controller.pid, signal.SIGCONT)
        assert controller.wait(HANG_S) != 0 or world.newest() == ended
    assert world.newest() == ended
    assert (ended.outcome, client.failed) == ("promoted", 0)
    assert world.ports.router.read("tiny").stable.digest == ended.sealed.bundle_digest


def test_a_canary_that_hangs_goes_home(world, client):
    """It accepts and never answers: each caller waits no longer than the deadline, and there are soon no more."""
    controller = world.start_release()
    world.wait_share(controller)
    digest = world.newest().sealed.bundle_digest
    stopped_s = clock().wall_s
    os.kill(world.ports.runtime.status(server_name("tiny", digest, 0)).pid, signal.SIGSTOP)
    assert controller.wait(HANG_S) == 4
    home_s, answered = clock().wall_s, client.answered
    world.wait("answers again", lambda: client.answered > answered + 50)
    assert world.ports.router.read("tiny").canary is None
    assert looks_since(world.newest(), stopped_s) <= 4, "the one that was going on, and its patience"
    assert [why for asked_s, why in client.failures if asked_s > home_s] == []
    # The client has one request on its way at a time, and waits for it as long as the service may take.
    assert client.failed <= 1 + (home_s - stopped_s) / TIMEOUT_S


def test_a_model_that_fails_on_a_row_is_held(world, client, monkeypatch):
    """Its tokenizer knows a word that the embeddings do not: exit 5 with the row, no traceback, and no second try."""
    monkeypatch.delenv("PREFECT_LOGGING_LEVEL")  # these tests' own, louder than what a user has
    folder = make_classifier(world.home.root / "models" / "broken", seed=99)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["film"] = 5000
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    version = world.ports.registry.register("tiny", folder, {}).version
    done = world.run("release", str(world.spec), "--model", f"models:/tiny/{version}")
    assert (done.returncode, "Traceback" in done.stdout + done.stderr) == (5, False), done.stderr
    release = world.newest()
    assert (release.outcome, "evaluate failed" in release.reason, client.failed) == ("held", True, 0)


def test_a_champion_whose_bundle_was_damaged_stops_the_next_release(world):
    """Before anything begins: it would be what everything goes home to."""
    bundle = Path(world.ports.services.load("tiny").stable.bundle)
    config = bundle / "config.json"
    before, newest = config.read_bytes(), world.newest().id
    config.chmod(0o600)
    config.write_bytes(before + b" ")
    try:
        done = world.run("release", str(world.spec), "--model", "models:/tiny/1")
    finally:
        config.write_bytes(before)
    assert (done.returncode, "E_DIGEST" in done.stderr, world.newest().id) == (2, True, newest), done.stderr


def test_a_reboot_in_the_canary(world):
    """Everything is dead at once. A new `up` starts gateway and servers from the record, and ends the release.

    The machine goes on, so what was written down of the processes is made to be of an earlier boot.
    """
    with observed(world):
        controller = world.start_release()
        world.wait_share(controller)
        before = {unit.name: world.ports.runtime.status(unit.name) for unit in world.ports.runtime.units("tiny")}
        up = psutil.Process(int(find_up(world.home)["pid"]))
        up.kill()
        kill(controller)
        for status in before.values():
            os.kill(status.pid, signal.SIGKILL)
        for seen in world.home.folder("run").glob("*.json"):
            seen.write_text(seen.read_text().replace(boot_id(), "before"))
        restarted = world.start_up()
        world.wait("the gateway", lambda: world.ports.runtime.status(gateway_name("tiny")).state == "ready")
        with calling(world.url) as client:
            world.wait_ended()
            world.wait("answers", lambda: client.answered > 50)
    restarted.poll()
    release = world.newest()
    assert (release.outcome, release.last("interrupted") is not None) == ("promoted", True), release.reason
    after = {unit.name: world.ports.runtime.status(unit.name) for unit in world.ports.runtime.units("tiny")}
    assert all(after[name].url == before[name].url for name in after.keys() & before.keys())
