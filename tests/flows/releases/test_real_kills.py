"""SIGKILL from outside, on real processes, in every phase of a release: it ends as it would have, or at home.

Counted in `KILLS`; the effects between these points are killed one by one in memory (`tests/faults/test_sweep.py`).
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress

import pytest

from flows.control.up_file import find_up
from pipelines.services.units import gateway_name, server_name
from tests.flows.releases.real_observer import WITH_USERS, RealObserver, observed
from tests.flows.releases.real_world import SPEC, World, bootstrapped, calling, phases

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

RELEASES: list[tuple[str, list[tuple[str, str]]]] = [
    (
        "promoted",
        [
            ("opened", "gateway"),
            ("evaluated", "stable"),
            ("compressed", "gateway"),
            ("canary", "stable"),
            ("canary", "gateway"),
            ("baking", "gateway"),
            ("baking", "stable"),
        ],
    ),
    (
        "promoted",
        [
            ("opened", "controller"),
            ("evaluated", "up"),
            ("compressed", "controller"),
            ("built", "up"),
            ("staged", "controller"),
            ("canary", "controller"),
            ("canary", "up"),
            ("baking", "up"),
        ],
    ),
    (
        "promoted",
        [
            ("opened", "both"),
            ("evaluated", "controller"),
            ("compressed", "both"),
            ("built", "controller"),
            ("staged", "both"),
            ("canary", "both"),
            ("baking", "both"),
        ],
    ),
    (
        "promoted",
        [
            ("opened", "up"),
            ("evaluated", "both"),
            ("compressed", "up"),
            ("built", "both"),
            ("staged", "up"),
            ("canary", "up"),
            ("baking", "controller"),
        ],
    ),
    ("rejected", [("staged", "canary")]),
    ("rolled_back", [("canary", "controller"), ("canary", "canary")]),
    ("rolled_back", [("baking", "canary")]),
]
KILLS = sum(len(kills) for _, kills in RELEASES)
PHASES = ("opened", "evaluated", "compressed", "built", "staged", "canary", "baking")
ENTERED_ONCE = {"evaluated", "compressed", "built"}


@pytest.fixture(scope="module")
def world(tmp_path_factory, prefect_server) -> Iterator[World]:
    """Version 1 serves. A canary that lasts long enough to be killed in it twice."""
    spec = SPEC.replace("hold: 3", "hold: 5").replace("bake: 3", "bake: 5")
    with bootstrapped(tmp_path_factory.mktemp("home"), prefect_server, spec) as made:
        yield made


def test_there_are_enough_of_them():
    """Whoever decides is killed in every phase, and so is everything that serves while users meet a canary."""
    points = {point for _, kills in RELEASES for point in kills}
    deciding = {(phase, who) for phase in PHASES for who in ("controller", "up", "both")}
    serving = {(phase, who) for phase in ("canary", "baking") for who in ("gateway", "stable", "canary")}
    assert KILLS >= 30
    assert deciding | serving <= points


@pytest.mark.parametrize(("outcome", "kills"), RELEASES, ids=[f"{n}-{end}" for n, (end, _) in enumerate(RELEASES)])
def test_killed_in_every_phase(world, outcome, kills):
    """The record only grows, no share goes astray, and what serves, the alias and the record agree at the end."""
    with calling(world.url) as client, observed(world) as observer:
        begun = [world.start_release()]
        for phase, who in kills:
            reach(world, phase, observer)
            begun += hit(world, who)
        world.wait_ended()
        world.wait("one truth", lambda: agree(world))
    for process in begun:
        process.poll()
    release, killed = world.newest(), [who for _, who in kills]
    # On a slow machine the kill comes late: users may have met the candidate, and only such a one is rolled back.
    is_late = outcome == "rejected" and "canary" in phases(release)
    assert release.outcome == ("rolled_back" if is_late else outcome), release.reason
    assert all(phases(release).count(phase) == 1 for phase in ENTERED_ONCE)
    assert client.answered > 0
    if "stable" not in killed:  # the client has one request on its way at a time
        assert client.failed <= killed.count("gateway"), "what a killed gateway was about to answer is lost; no more"


def reach(world: World, phase: str, observer: RealObserver) -> None:
    """Wait until the newest release has entered a phase; one with users: until they meet the candidate, observed."""
    world.wait(
        f"a release that is {phase}",
        lambda: not world.newest().is_ended and phase in ["opened", *phases(world.newest())],
    )
    if phase in WITH_USERS:
        here = (world.newest().id, phase)
        world.wait(
            "users at the candidate",
            lambda: here in observer.seen and world.share() > 0 and phases(world.newest())[-1] == phase,
        )


def hit(world: World, who: str) -> list[subprocess.Popen[bytes]]:
    """SIGKILL. Somebody starts `up` again, as systemd would; everything else is Shipway's to repair."""
    up, killed = find_up(world.home), victims(world, who)
    for pid in killed:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if who not in {"up", "both"} and (up is None or int(up["pid"]) not in killed):
        return []
    world.wait("up is gone", lambda: find_up(world.home) is None)  # on a slow machine it decides itself
    return [world.start_up()]


def victims(world: World, who: str) -> list[int]:
    """Process ids. The controller is whoever holds the lock: `release`, a worker of `up`, or `up` itself."""
    match who:
        case "gateway":
            return [world.ports.runtime.status(gateway_name("tiny")).pid]
        case "stable":
            return [server_pid(world, world.ports.services.load("tiny").stable.digest)]
        case "canary":
            return [server_pid(world, world.newest().sealed.bundle_digest)]
    world.wait("up", lambda: find_up(world.home) is not None)
    found = {"up": int(find_up(world.home)["pid"])} if who in {"up", "both"} else {}
    if who in {"controller", "both"}:
        found["controller"] = world.controller_pid()
    return list(found.values())


def server_pid(world: World, digest: str) -> int:
    """The one replica's process, once there is one."""
    name = server_name("tiny", digest, 0)
    world.wait(f"{name} runs", lambda: world.ports.runtime.status(name).pid is not None)
    return world.ports.runtime.status(name).pid


def agree(world: World) -> bool:
    """Record, router, alias and processes name the same version, and nobody else has a share."""
    service, newest = world.ports.services.load("tiny"), world.newest()
    split = world.ports.router.read("tiny")
    champion = world.ports.registry.resolve("models:/tiny@champion").version
    wanted = {unit.digest for unit in world.ports.runtime.units("tiny")}
    is_new = service.stable.digest == newest.sealed.bundle_digest
    return (
        split.stable.digest == service.stable.digest
        and split.canary_pct == 0
        and champion == service.stable.version
        and is_new == (newest.outcome == "promoted")
        and (newest.sealed.bundle_digest in wanted) == is_new
    )
