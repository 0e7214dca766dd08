"""A person's word to a release without a controller acts at once, wherever its controller died."""

from __future__ import annotations

import pytest

from flows.commands import obey_now
from flows.going_back import back_to_previous
from flows.holding import hold
from flows.working import is_exposed, take_over
from pipelines.errors import DependencyDown
from pipelines.ports import Command
from pipelines.release import Phase
from pipelines.service import Deployment
from pipelines.traffic import make_stable, set_share
from pipelines.units import server_name
from tests.pipelines.test_tick import NEW, OLD, World


@pytest.fixture
def world() -> World:
    """A qualified release whose controller is gone."""
    return World()


def orphan(world: World, verb: str) -> None:
    """Nobody holds the lock, and somebody speaks."""
    world.ports.lock.release(world.token)
    world.ports.inbox.send(Command("c", "r1", verb, "ada"))


@pytest.mark.parametrize(("verb", "end"), [("abort", Phase.ABORTED), ("rollback", Phase.REJECTED)])
def test_a_first_share_that_was_given_but_never_recorded_goes_home(world, verb, end):
    """The controller died between the router and the record: the record still says that no user met the candidate."""
    before = world.release
    intended = before.record(world.wall_s, "exposing", pct=10.0, step=0, why="the first users")
    world.ports.ledger.save(intended, before.version)
    set_share(world.ports, intended, world.token, world.ports.router.read("s"), 10.0, 10.0)
    assert is_exposed(intended)
    orphan(world, verb)
    assert obey_now(world.ports, intended).phase is end
    assert (world.share, world.ports.inbox.pending("r1")) == (0, ())


def test_a_word_waits_for_a_dead_stable(world):
    """Its users stay where they are answered; the word stays in the inbox."""
    world.look_until(Phase.CANARY)
    stable = server_name("s", OLD, 0)
    world.ports.runtime.fail(stable, "exited")
    orphan(world, "abort")
    with pytest.raises(DependencyDown, match="stable is down"):
        obey_now(world.ports, world.release)
    assert world.share == 10
    assert [c.verb for c in world.ports.inbox.pending("r1")] == ["abort"]


@pytest.mark.parametrize("verb", ["abort", "rollback"])
def test_a_promotion_is_taken_back(world, verb):
    """Traffic had moved to the candidate already: going home means the old stable, in the router and the record."""
    before = world.release
    world.release = before.enter(Phase.PROMOTING, world.wall_s, why="x")
    world.ports.ledger.save(world.release, before.version)
    make_stable(world.ports, "s", NEW, world.token, "promoted")
    orphan(world, verb)
    assert obey_now(world.ports, world.release).phase is Phase.ROLLED_BACK
    assert world.ports.router.read("s").stable.digest == OLD
    assert world.ports.services.load("s").stable.digest == OLD


@pytest.mark.parametrize(("found", "left"), [(2, 1), (7, 7)])
def test_an_alias_that_was_moved_goes_back_with_the_promotion(world, found, left):
    """The controller died after moving it; what somebody else wrote since is left alone."""
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
    """It has no spec and no steps: what the router shows decides, and the service is not blocked for ever."""
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
    (release,) = ports.ledger.releases(unfinished=True)
    assert is_exposed(release)
    with hold(ports, "s", "up") as held:
        ended = take_over(release, ports, held)
    assert ended.is_ended
    assert ports.router.read("s").stable.digest == ports.services.load("s").stable.digest
    assert ended.phase is (Phase.PROMOTED if dies_at == "registry.mark" else Phase.ROLLED_BACK)
