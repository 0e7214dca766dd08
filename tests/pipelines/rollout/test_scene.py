"""What one look reads, and how often: a count over the in-memory adapters, and each dependency that may be down."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from pipelines.errors import DependencyDown
from pipelines.ports import Command
from pipelines.records.release import Phase
from pipelines.records.unit import UnitStatus
from pipelines.rollout.look import Look, look
from pipelines.rollout.scene import read_scene
from pipelines.services.units import server_name
from tests.pipelines.rollout.test_look import NEW, OLD, World
from tests.pipelines.rollout.test_replay import Replaying

STABLE, CANARY, GATEWAY = server_name("s", OLD, 0), server_name("s", NEW, 0), "s-gateway"
READS = {
    "router": ("read",),
    "runtime": ("units", "status"),
    "ledger": ("load", "summaries"),
    "services": ("load",),
    "metrics": ("measure",),
    "inbox": ("pending",),
}
A_LOOK = {
    "router.read": 1,
    "runtime.units": 1,
    f"runtime.status {STABLE}": 1,
    f"runtime.status {CANARY}": 1,
    f"runtime.status {GATEWAY}": 1,
    "metrics.measure": 1,
    "inbox.pending": 1,
}


class Counted:
    """An adapter whose reads are counted; a probe is counted by the unit that it asks."""

    def __init__(self, port: str, adapter: object, counts: Counter) -> None:
        self._port, self._adapter, self._counts = port, adapter, counts

    def __getattr__(self, name: str):
        method = getattr(self._adapter, name)
        if name not in READS[self._port]:
            return method

        def counting(*args):
            self._counts[f"{self._port}.{name}" + (f" {args[0]}" if name == "status" else "")] += 1
            return method(*args)

        return counting


def reads_of_a_look(world: World) -> dict[str, int]:
    """A second of traffic and one look: what was read at it, and how often."""
    counts: Counter = Counter()
    ports = replace(world.ports, **{port: Counted(port, getattr(world.ports, port), counts) for port in READS})
    world.second()
    world.release, world.watch = look(world.controller(ports=ports), world.release, world.watch)
    return dict(counts)


def test_a_quiet_look_reads_everything_once():
    """One list of the units, one probe of each arm, one split, and nothing of the ledger."""
    world = World()
    world.look_until(Phase.CANARY)
    assert reads_of_a_look(world) == A_LOOK
    assert world.release.phase is Phase.CANARY


def test_a_look_that_gives_the_first_share_reads_no_more():
    """Whom it gives the users to is whom it found ready."""
    assert reads_of_a_look(World()) == A_LOOK


@pytest.mark.parametrize("is_interrupted", [False, True])
def test_a_server_that_hangs_is_asked_once(is_interrupted):
    """Each probe of it takes its whole time."""
    world = World()
    world.look_until(Phase.CANARY)
    world.ports.router.advance(1e6 if is_interrupted else 0.0)
    world.ports.runtime.set(CANARY, UnitStatus("starting", reason="not ready yet"))
    assert reads_of_a_look(world) == A_LOOK


def test_a_look_that_sends_home_reads_the_split_again():
    """By then its lease may have ended: what is written is compared with what is shown."""
    world = World()
    world.look_until(Phase.CANARY)
    world.ports.inbox.send(Command("c", "r1", "abort", "ada"))
    reads = reads_of_a_look(world)
    assert (world.release.phase, reads.pop("services.load")) == (Phase.ABORTED, 2)
    assert reads == {**A_LOOK, "router.read": 2}


def test_servers_are_probed_afresh_after_a_part_of_a_replay():
    """It is slow: what was seen before it is old. The split, which has no canary yet, and the evidence are not."""
    reads = reads_of_a_look(Replaying())
    again = ("runtime.units", f"runtime.status {STABLE}", f"runtime.status {CANARY}", "inbox.pending")
    assert reads == {**A_LOOK, **dict.fromkeys(again, 2)}


def test_what_is_written_is_what_was_decided_on(monkeypatch):
    """A replica that moves during a look is found at the next: nobody is sent to an address that was not judged."""
    world = World()
    probes, looks = Counter(), []

    def moving(name: str) -> UnitStatus:
        probes[name] += 1
        return UnitStatus("ready", f"http://127.0.0.1:{20000 + probes[name]}")

    monkeypatch.setattr(world.ports.runtime, "status", moving)
    look(world.controller(on_look=looks.append), world.release, world.watch)
    (seen,) = looks
    assert isinstance(seen, Look)
    assert world.ports.router.read("s").canary == seen.scene.servers[NEW].arm()


def away(*_: object) -> None:
    """It does not answer."""
    raise DependencyDown("away", code="E_AWAY")


@pytest.mark.parametrize(("port", "method"), [("router", "read"), ("runtime", "units"), ("runtime", "status")])
def test_without_router_or_runtime_there_is_no_scene(monkeypatch, port, method):
    """Nothing is decided on what cannot be seen."""
    world = World()
    monkeypatch.setattr(getattr(world.ports, port), method, away)
    with pytest.raises(DependencyDown, match="away"):
        read_scene(world.ports, world.release, world.watch, world.now())


def test_a_look_says_that_it_has_no_evidence(monkeypatch):
    """It is blind, which is something else than quiet."""
    world = World()
    monkeypatch.setattr(world.ports.metrics, "measure", away)
    seen = read_scene(world.ports, world.release, world.watch, world.now())
    assert (seen.strata, seen.blind) == ((), "E_AWAY: away")


def test_a_look_that_cannot_read_words_hears_none(monkeypatch):
    """Harm does not wait for a database."""
    world = World()
    world.ports.inbox.send(Command("c", "r1", "abort", "ada"))
    monkeypatch.setattr(world.ports.inbox, "pending", away)
    assert read_scene(world.ports, world.release, world.watch, world.now()).words == ()


def test_only_the_servers_of_both_versions_are_asked():
    """One that is parked keeps no look waiting."""
    world = World()
    unit = world.ports.runtime.units("s")[0]
    world.ports.runtime.ensure(replace(unit, name="s-parked-0", digest="sha256:parked"))
    assert reads_of_a_look(world) == A_LOOK
