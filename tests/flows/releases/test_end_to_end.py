"""Whole releases from the command line, on real processes, with real kills: what serves outlives who watches."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing

import httpx
import psutil
import pytest

from flows.control.up_file import find_up
from flows.wiring import clock
from tests.flows.releases.real_world import (
    SHORT_LEASE,
    SPEC,
    Client,
    World,
    bootstrapped,
    calling,
    kill,
    looks_since,
    phases,
)
from tests.waiting import HANG_S

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def world(tmp_path_factory, prefect_server) -> Iterator[World]:
    """Version 1 serves, bootstrapped through the command line."""
    with bootstrapped(tmp_path_factory.mktemp("home"), prefect_server) as made:
        yield made


@pytest.fixture
def client(world) -> Iterator[Client]:
    """Traffic while a test runs."""
    with calling(world.url) as sending:
        yield sending


def test_promoting_what_is_live_does_nothing(world):
    """It says so, and exits 0."""
    done = world.run("release", str(world.spec), "--model", "models:/tiny/1")
    assert (done.returncode, "already live" in done.stdout) == (0, True)


def test_a_release_is_handed_over_and_its_canary_is_asked_copies(world, client):
    """`--detach` returns at once with an id; `up` takes the release to its end.

    The canary's answers to copies of stable's requests are compared and recorded, and no user meets one.
    """
    with world.spec_with("  steps: [30]", "  shadow: {pct: 50}\n  steps: [30]"):
        new = f"models:/tiny/{world.new_version()}"
        done = world.run("release", str(world.spec), "--model", new, "--detach", "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert (facts["id"], facts["outcome"]) == (world.newest().id, None)
    world.wait_ended()
    seen = world.newest().last("looked").data["shadow"]
    assert (world.newest().outcome, seen["errors"], seen["failed"]) == ("promoted", 0, 0)
    assert 0 < seen["same"] + seen["other"] <= seen["asked"]
    assert client.failed == 0


def test_prefect_shows_the_evidence(world, prefect_server):
    """Each step of the last release has its page and, where it measured something, its table."""

    def shown() -> dict[str, str]:
        with closing(sqlite3.connect(prefect_server.database)) as database:
            asked = ("select key, type from artifact where key like ?", [f"{world.newest().id}-%"])
            return {key.removeprefix(f"{world.newest().id}-"): kind for key, kind in database.execute(*asked)}

    world.wait("the last table", lambda: "rollout-table" in shown())
    pages = {"evaluate", "compress", "build", "stage", "qualify", "rollout"}
    assert {key for key, kind in shown().items() if kind == "markdown"} == pages
    assert {key for key, kind in shown().items() if kind == "table"} == {
        "evaluate-table",
        "compress-table",
        "rollout-table",
    }


def test_a_taken_port_is_refused_before_anything_begins(world):
    """E_PORT with the port, exit 2, and no release."""
    newest = world.newest().id
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        spec = world.home.root / "other.yaml"
        spec.write_text(SPEC.replace("service: tiny", f"service: other\nserve: {{port: {port}}}"))
        done = world.run("release", str(spec), "--json")
    assert done.returncode == 2
    error = json.loads(done.stdout)["error"]
    assert (error["code"], error["field"]) == ("E_PORT", "serve.port")
    assert str(port) in error["reason"]
    assert (world.newest().id, world.ports.services.names()) == (newest, ("tiny",))


def test_up_takes_over_when_the_controller_is_killed(world, client):
    """A kill -9 of `release` in the canary: the lease never ends, and the release finishes."""
    controller = world.start_release()
    world.wait_share(controller)
    kill(controller)
    world.wait_ended()
    release = world.newest()
    assert (release.outcome, release.last("interrupted")) == ("promoted", None)
    assert world.ports.router.read("tiny").stable.digest == release.sealed.bundle_digest
    assert client.failed == 0
    done = world.run("verify", release.id, "--json")
    assert json.loads(done.stdout)["bytes"] == "ok"


def test_a_release_that_is_killed_early_goes_on_and_home_when_nobody_is_left(world, client):
    """A kill -9 while it compresses: what was evaluated is not evaluated again, and no user has noticed.

    Then one of `up` and of whoever went on: the gateway goes home by itself; a new `up` ends the release properly.
    """
    with world.spec_with(*SHORT_LEASE):
        controller = world.start_release()
        world.wait("the end of the evaluation", lambda: phases(world.newest())[-1:] == ["evaluated"])
    kill(controller)
    assert world.ports.router.read("tiny").canary is None
    world.wait_share()
    working = psutil.Process(world.controller_pid())
    psutil.Process(int(find_up(world.home)["pid"])).kill()
    kill(working)
    world.wait("home by the end of the lease", lambda: world.ports.router.read("tiny").canary is None)
    assert world.ports.router.read("tiny").reason == "lease_expired"
    assert not world.newest().is_ended
    restarted = world.start_up()
    try:
        world.wait_ended()
    finally:
        restarted.poll()
    release = world.newest()
    assert phases(release).count("evaluated") == 1
    assert (release.outcome, release.last("interrupted") is not None) == ("promoted", True)
    assert client.failed == 0


def test_a_restart_of_up_interrupts_a_release_and_convicts_nobody(world, client):
    """`down` in the middle of a canary stops gateway and servers; after the next `up` the steps begin anew."""
    with world.spec_with("hold: 3", "hold: 10"):  # `down` may take that long to begin
        controller = world.start_release()
        world.wait_share(controller)
    world.run("down")
    restarted = world.start_up()
    try:
        world.wait_ended()
    finally:
        restarted.poll()
    release = world.newest()
    assert (release.outcome, release.convicted, release.last("interrupted") is not None) == ("promoted", "", True)


@pytest.mark.parametrize("stop", [lambda c: c.terminate(), lambda c: os.killpg(c.pid, signal.SIGINT)])
def test_a_release_that_is_stopped_takes_its_traffic_home_first(world, client, stop):
    """A CI runner that is cancelled, and a Ctrl-C that all processes of a terminal hear: exit 6, and soon."""
    controller = world.start_release()
    world.wait_share(controller)
    stopped_s = clock().wall_s
    stop(controller)
    assert controller.wait(HANG_S) == 6
    release = world.newest()
    assert (release.outcome, world.ports.router.read("tiny").canary) == ("aborted", None)
    assert looks_since(release, stopped_s) <= 2, "the look that was going on, and the one that heard it"
    assert release.last("went_home").at_s - release.last("commanded").at_s < 1


def test_a_release_outlives_the_server_of_prefect(world, client):
    """Its server, which `up` has for the home, is killed in the canary: the release ends as it would have."""
    with world.prefect_of_its_own():
        controller = world.start_release()
    world.wait_share(controller)
    children = psutil.Process(int(find_up(world.home)["pid"])).children(recursive=True)
    (server,) = [c for c in children if "prefect.server.api.server:create_app" in c.cmdline()]
    server.kill()
    assert controller.wait(HANG_S) == 0
    assert (world.newest().outcome, client.failed) == ("promoted", 0)


def test_a_second_release_is_refused_and_named(world, client):
    """Exit 8 with the id of the release that holds the service; abort ends that one."""
    with world.spec_with("hold: 3", "hold: 120"):  # it is still there when it is aborted
        controller = world.start_release()
        world.wait_share(controller)
    holding = world.newest().id
    done = world.run("release", str(world.spec), "--model", f"models:/tiny/{world.new_version()}")
    assert done.returncode == 8
    assert holding in done.stderr
    assert world.run("abort", holding, "--reason", "test").returncode == 0
    assert controller.wait(HANG_S) == 6


def test_without_traffic_nothing_is_decided(world):
    """Zero requests until the deadline: held, exit 5, and the screen said how to send some."""
    (world.home.root / "release.out").write_text("")
    with world.spec_with("deadline: 180", "deadline: 8"), world.spec_with("hold: 3", "hold: 1"):
        assert world.start_release().wait(180) == 5
    said = (world.home.root / "release.out").read_text()
    assert world.newest().outcome == "held"
    assert "no traffic seen" in said
    assert "curl" in said


def test_a_service_goes_back_after_promotion(world, client):
    """`shipway rollback SERVICE`: the parked previous version serves again at once."""
    before = world.ports.services.load("tiny")
    assert before.previous is not None
    done = world.run("rollback", "tiny", "--reason", "test", "--json")
    assert done.returncode == 0, done.stderr
    after = world.ports.services.load("tiny")
    assert (after.stable.digest, after.previous.digest) == (before.previous.digest, before.stable.digest)
    assert world.ports.router.read("tiny").stable.digest == before.previous.digest
    assert client.failed == 0
    assert world.ports.registry.resolve("models:/tiny@champion").version == before.previous.version
    assert json.loads(done.stdout)["serves"] == f"tiny v{before.previous.version}"
    again = world.run("rollback", "tiny", "--json")
    assert (again.returncode, json.loads(again.stdout)["error"]["code"]) == (2, "E_TAKEN_AWAY")
    assert world.ports.router.read("tiny").stable.digest == before.previous.digest


def test_prefect_flows_watch_and_go_back(world):
    """One round of `watch` finds nothing to do; `rollback` as a flow brings back what was taken away."""
    before = world.ports.services.load("tiny")
    flows = (
        "from flows.wiring import home_path, quiet_environment\nfrom pipelines.home import Home\n"
        "quiet_environment(Home.open(home_path()))\n"
        "from flows.watch import watch\nfrom flows.rollback import rollback\n"
        "print(watch(), rollback('tiny', '', 'by a flow'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", flows], env=world.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith("[] tiny-back-")
    assert world.ports.services.load("tiny").stable.digest == before.previous.digest


def test_the_api_shows_what_serves(world):
    """Read-only JSON on loopback."""
    url = str(find_up(world.home)["url"])
    services = httpx.get(f"{url}/api/services", trust_env=False).json()
    assert [s["name"] for s in services] == ["tiny"]
    newest = world.newest()
    listed = httpx.get(f"{url}/api/releases", trust_env=False).json()
    assert listed[0]["id"] == newest.id
    assert httpx.get(f"{url}/api/releases/{newest.id}", trust_env=False).json()["outcome"] == newest.outcome
    assert httpx.get(f"{url}/api/releases/none", trust_env=False).status_code == 404
    assert "shipway_releases" in httpx.get(f"{url}/metrics", trust_env=False).text


def spec_of(world: World, service: str, alias: str) -> str:
    """Another service of the same model: the path of its spec."""
    path = world.home.root / f"{service}.yaml"
    registry = f"service: {service}\nregistry: {{alias: {alias}}}\n"
    path.write_text(SPEC.replace("service: tiny\n", registry).replace("dynamic-int8", "none"))
    return str(path)


def test_two_services_of_one_model(world):
    """Releases and ways home of one do not touch the alias, the traffic or the end of the other."""
    spec = spec_of(world, "eu", "champion-eu")
    done = world.run("release", spec, "--model", "models:/tiny/1", "--json")
    assert json.loads(done.stdout)["label"] == "unproven", done.stderr
    done = world.run("plan", spec_of(world, "third", "champion-eu"), "--json")
    assert json.loads(done.stdout)["error"]["code"] == "E_ALIAS_OWNED"
    new, tiny = world.new_version(), world.ports.services.load("tiny")
    controller = world.begin("release", spec, "--model", f"models:/tiny/{new}")
    eu = world.wait_share_of("eu", controller)
    done = world.run("rollback", "tiny", "--force", "in the middle of the other's canary", "--json")
    assert (done.returncode, json.loads(done.stdout)["alias"]) == (0, "set"), done.stderr
    assert world.champion("champion") == tiny.previous.version
    assert world.run("promote", eu.id, "--reason", "test").returncode == 0
    assert controller.wait(HANG_S) == 0
    assert world.champion("champion-eu") == new
    done = world.run("rollback", "eu", "--json")
    assert (done.returncode, json.loads(done.stdout)["alias"]) == (0, "set"), done.stderr
    assert (world.champion("champion-eu"), world.champion("champion")) == (1, tiny.previous.version)
    tags = dict(world.ports.registry.resolve(f"models:/tiny/{new}").tags)
    assert (tags["validation_status"], tags["shipway.verdict.eu"]) == ("rejected", "rolled_back")
    assert world.run("remove", "eu", "--force", "test", "--json").returncode == 0
    assert world.ports.services.names() == ("tiny",)
