"""A person's word without a controller: traffic first, then the record, and never to a dead arm."""

from __future__ import annotations

import pytest

from flows.control.lock import hold
from flows.orders.commands import obey_now
from flows.orders.going_back import back_to_previous
from flows.working import take_over
from pipelines.errors import DependencyDown
from pipelines.ports import Command
from pipelines.records.reading import unfinished
from pipelines.records.release import Phase
from pipelines.records.service import Deployment
from pipelines.rollout.obeying import home_unrecorded
from pipelines.rollout.way_home import ordered
from pipelines.services.traffic import make_stable, set_share
from pipelines.services.units import server_units
from tests.pipelines.rollout.test_look import NEW, NEW_ARM, OLD, World


@pytest.fixture
def world() -> World:
    """A canary whose controller is gone, and an abort that waits."""
    made = World()
    made.look_until(Phase.CANARY)
    made.ports.lock.release(made.token)
    made.ports.inbox.send(Command("c", "r1", "abort", "ada", "enough"))
    return made


def kill_stable(world: World) -> None:
    """Stable cannot serve any more."""
    service = world.ports.services.load("s")
    world.ports.runtime.fail(server_units(service, service.stable)[0].name, "exit 9")


def test_it_is_obeyed_at_once(world):
    """Home, recorded with who and why, and answered."""
    ended = obey_now(world.ports, world.release)
    assert (ended.phase, ended.reason, world.share) == (Phase.ABORTED, "abort by ada: enough", 0)
    assert world.ports.ledger.load("r1").phase is Phase.ABORTED
    assert world.ports.inbox.pending("r1") == ()


def test_traffic_goes_home_although_nothing_can_be_recorded(world, monkeypatch):
    """The ledger fails after the router was written."""

    def full(*_):
        raise DependencyDown("disk full", code="E_LEDGER_IO")

    monkeypatch.setattr(world.ports.ledger, "save", full)
    with pytest.raises(DependencyDown, match="disk full"):
        obey_now(world.ports, world.release)
    assert world.share == 0


def test_home_without_a_record_stays_home(world):
    """Under the fence that holds, so that a living controller sees it as a share that it lost."""
    before = world.ports.router.read("s").generation
    after = home_unrecorded(world.ports, "s")
    assert (after.canary, after.generation) == (None, (before[0], before[1] + 1))
    assert home_unrecorded(world.ports, "s") == after


def test_nobody_is_sent_to_a_dead_stable(world):
    """Both ways refuse, and leave the traffic where it is answered."""
    kill_stable(world)
    for act in (lambda: obey_now(world.ports, world.release), lambda: home_unrecorded(world.ports, "s")):
        with pytest.raises(DependencyDown, match="does not move to a dead arm"):
            act()
    assert world.share > 0
    assert [c.verb for c in world.ports.inbox.pending("r1")] == ["abort"]


def orphan(world: World, verb: str) -> None:
    """Nobody holds the lock, and somebody speaks."""
    world.ports.lock.release(world.token)
    world.ports.inbox.send(Command("c", "r1", verb, "ada"))


@pytest.mark.parametrize(("verb", "end"), [("abort", Phase.ABORTED), ("rollback", Phase.REJECTED)])
def test_a_first_share_that_was_given_but_never_recorded_goes_home(verb, end):
    """The controller died between the router and the record: the record still says that no user met the candidate."""
    world = World()
    before = world.release
    intended = before.record(world.wall_s, "exposing", pct=10.0, step=0, why="the first users")
    world.ports.ledger.save(intended, before.version)
    set_share(world.ports, intended, world.token, world.ports.router.read("s").shared(NEW_ARM, 10.0, 10.0))
    assert intended.is_exposed
    orphan(world, verb)
    assert obey_now(world.ports, intended).phase is end
    assert (world.share, world.ports.inbox.pending("r1")) == (0, ())


@pytest.mark.parametrize("verb", ["abort", "rollback"])
def test_a_promotion_is_taken_back(verb):
    """Traffic had moved to the candidate already: going home means the old stable, in the router and the record."""
    world = World()
    before = world.release
    world.release = before.enter(Phase.PROMOTING, world.wall_s, why="x")
    world.ports.ledger.save(world.release, before.version)
    make_stable(world.ports, "s", NEW, world.token, "promoted")
    orphan(world, verb)
    assert obey_now(world.ports, world.release).phase is Phase.ROLLED_BACK
    assert world.ports.router.read("s").stable.digest == OLD
    assert world.ports.services.load("s").stable.digest == OLD


@pytest.mark.parametrize(("found", "left"), [(2, 1), (7, 7)])
def test_an_alias_that_was_moved_goes_back_with_the_promotion(found, left):
    """The controller died after moving it; what somebody else wrote since is left alone."""
    world = World()
    before = world.release
    world.release = before.enter(Phase.PROMOTING, world.wall_s, why="x")
    world.ports.ledger.save(world.release, before.version)
    make_stable(world.ports, "s", NEW, world.token, "promoted")
    world.ports.registry.names["champion"] = found
    orphan(world, "rollback")
    obey_now(world.ports, world.release)
    assert world.ports.registry.names["champion"] == left


@pytest.mark.parametrize("dies_at", ["router.write", "registry.mark"])
def test_a_way_back_whose_controller_died_is_finished_by_another(world, monkeypatch, dies_at):
    """It has no spec and no steps, and it is an order: it is carried out, wherever its controller died."""
    ports, (port, method) = world.ports, dies_at.split(".")
    service = ports.services.load("s")
    new = Deployment(NEW, "/b", "m", 2, "r1")
    service = ports.services.save(service.changed(previous=new, candidate=None))
    del ports.ledger.chains["r1"]
    ports.lock.release(world.token)

    def dies(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(getattr(ports, port), method, dies)
        with pytest.raises(KeyboardInterrupt):
            back_to_previous(ports, service, "it is slow")
    (release,) = unfinished(ports.ledger)
    assert release.is_exposed
    with hold(ports, "s", "up") as held:
        ended = take_over(release, ports, held)
    assert (ended.phase, ended.label) == (Phase.PROMOTED, "way home")
    assert ports.router.read("s").stable.digest == ports.services.load("s").stable.digest == NEW


def going_back(world: World) -> str:
    """A way home whose controller died before it moved any traffic; its id."""
    ports = world.ports
    service = ports.services.load("s")
    service = ports.services.save(service.changed(previous=Deployment(NEW, "/b", "m", 2, "r1"), candidate=None))
    del ports.ledger.chains["r1"]
    ports.lock.release(world.token)
    ports.ledger.create(ordered(service, "s-back-1", "ada", "it is slow", world.now()))
    return "s-back-1"


@pytest.mark.parametrize(("verb", "end", "serves"), [("rollback", "promoted", NEW), ("abort", "aborted", OLD)])
def test_a_word_about_a_way_home(verb, end, serves):
    """Said again it is carried out, never undone; an abort ends it where no traffic has moved."""
    world = World()
    name = going_back(world)
    world.ports.inbox.send(Command("c", name, verb, "bob", "again"))
    ended = obey_now(world.ports, world.ports.ledger.load(name))
    assert (ended.phase, world.ports.router.read("s").stable.digest) == (end, serves)
    assert [e.data["actor"] for e in world.ports.ledger.load(name).of_kind("commanded")] == ["bob"]
    assert world.ports.inbox.pending(name) == ()
