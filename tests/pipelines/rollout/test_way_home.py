"""The way home: an order that no registry and no kill undoes, that is not given twice, and that ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from flows.orders.going_back import back_to_previous
from pipelines.adapters.memory.registry import ANSWERS
from pipelines.errors import BadInput, DependencyDown, StaleWriter
from pipelines.records.release import Phase, Release
from pipelines.rollout.look import Controller, drive
from pipelines.rollout.way_home import JUST_NOW_S, carry_on, check_target, ordered, refuse_again
from pipelines.services.change import relabel
from pipelines.services.traffic import make_stable
from tests.faults.stories import Story, once_exposed
from tests.faults.world import OLD, SERVICE, World, begin

WHO = ("ada", "it is slow")


@pytest.fixture
def world(tmp_path) -> Iterator[World]:
    """Version 3 was promoted, and version 2 is parked."""
    made = Story("promoted", Phase.PROMOTED).world(begin(tmp_path))
    with made.patched():
        made.run("release", made.open_release)
        assert made.live_on()
        yield made


def go_back(world: World, **options: str) -> Release:
    """What `shipway rollback SERVICE` does, to its end."""
    return back_to_previous(world.raw, world.raw.services.load(SERVICE), "it is slow", sleep=world.live, **options)


def tags(world: World, version: int) -> dict[str, str]:
    """What the registry says of a version."""
    return dict(world.raw.registry.resolve(f"models:/m/{version}").tags)


def test_traffic_record_and_registry_say_what_serves(world):
    """Version 2 serves, is champion and approved; what was taken away is rejected."""
    ended = go_back(world)
    assert (ended.phase, ended.label, ended.alias) == (Phase.PROMOTED, "way home", "set")
    assert world.split.stable.digest == world.raw.services.load(SERVICE).stable.digest == OLD
    assert world.alias == 2
    assert tags(world, 3)["validation_status"] == "rejected"
    assert tags(world, 3)["shipway.verdict"] == tags(world, 3)["shipway.verdict.s"] == "rolled_back"
    assert tags(world, 2)["validation_status"] == "approved"


def test_an_alias_that_somebody_moved_is_left_alone(world):
    """Traffic goes home all the same, and both values are named."""
    world.raw.registry.mark("m", aliases={"champion": 1})
    ended = go_back(world)
    assert (world.split.stable.digest, world.alias, ended.alias) == (OLD, 1, "moved")
    assert all(value in ended.alias_why for value in ("version 1", "version 3"))


@pytest.mark.parametrize(
    ("answer", "alias"),
    [("not_found", "gone"), ("refused", "refused"), ("forbidden", "owed"), ("raced", "owed"), ("down", "owed")],
)
def test_no_answer_holds_it_up(world, answer, alias):
    """It is over at once, and the record says what was not done."""
    world.raw.registry.answers["mark"] = ANSWERS[answer]
    ended = go_back(world)
    assert (ended.phase, world.split.stable.digest, ended.alias) == (Phase.PROMOTED, OLD, alias)
    world.raw.registry.answers.clear()
    assert world.live_on()
    assert (world.alias, world.raw.ledger.load(ended.id).alias) == ((2, "set") if alias == "owed" else (3, alias))


def test_a_version_that_was_deleted_is_served_all_the_same(world):
    """Its bytes are here; a registry that forgot it is named, and nothing else is lost."""
    world.raw.registry.remove("m", 2)
    ended = go_back(world)
    assert (world.split.stable.digest, ended.alias, "version 2" in ended.alias_why) == (OLD, "gone", True)
    assert tags(world, 3)["validation_status"] == "rejected"
    assert world.live_on()


def test_a_model_that_was_made_again_is_not_touched(tmp_path):
    """Its versions count from 1 again: the same number is another registration."""
    made = Story("promoted", Phase.PROMOTED).world(begin(tmp_path))
    with made.patched():
        made.run("release", made.open_release)
        service = made.raw.services.load(SERVICE)
        known = made.raw.registry.resolve("models:/m/2").made
        made.raw.services.save(service.changed(previous=replace(service.previous, made=known)))
        made.raw.registry.remove("m")
        for name in ("older", "old", "source"):
            made.raw.registry.add("m", made.folder / name)
        ended = go_back(made)
    assert (made.split.stable.digest, ended.alias, made.alias) == (OLD, "gone", None)


def test_what_a_person_took_away_is_not_brought_back_by_the_same_word(world):
    """A second `rollback` is refused, and says who took it away and what serves now."""
    ended = go_back(world)
    with pytest.raises(BadInput) as caught:
        go_back(world)
    assert (caught.value.code, caught.value.exit_code, world.split.stable.digest) == ("E_TAKEN_AWAY", 2, OLD)
    assert all(said in caught.value.reason for said in (ended.id, "m v3", "m v2 serves now"))
    assert "--force" in caught.value.hint


def test_with_a_reason_it_is_brought_back(world):
    """And the one that it takes the place of is the one that was taken away."""
    go_back(world)
    ended = go_back(world, force="it was the network")
    assert (ended.sealed.version, world.alias, "it is slow; it was the network" in ended.reason) == (3, 3, True)
    assert tags(world, 3)["validation_status"] == "approved"
    with pytest.raises(BadInput, match="v2 was taken away"):
        go_back(world)


def test_a_later_release_may_be_taken_back(world):
    """What was convicted once, released again by force and promoted, is a way home like any other."""
    service = world.raw.services.load(SERVICE)
    convicted = {**service.quarantined, "sha256:other": "r0: slow"}
    world.raw.services.save(service.changed(quarantined=convicted))
    stable, previous = check_target(world.raw.services.load(SERVICE))
    assert (stable.version, previous.version) == (3, 2)


def test_two_people_at_once_go_back_once(world):
    """The second one waits for the lock, and reads the record again under it."""
    service = world.raw.services.load(SERVICE)
    go_back(world)
    with pytest.raises(BadInput, match="was taken away"):
        back_to_previous(world.raw, service, "me too", sleep=world.live)
    assert world.split.stable.digest == OLD


def test_there_must_be_something_to_go_back_to(world):
    """E_NO_TARGET before anything is asked."""
    service = world.raw.services.load(SERVICE)
    with pytest.raises(BadInput) as caught:
        check_target(service.changed(previous=None))
    assert caught.value.code == "E_NO_TARGET"


def test_an_order_that_cannot_be_carried_out_ends(world):
    """The parked version does not get ready: what serves goes on, and the service takes releases again."""
    world.raw.runtime.fail(world.unit(OLD), "exit 9")
    order = ordered(world.raw.services.load(SERVICE), "s-back-1", *WHO, world.now())
    world.raw.ledger.create(order)
    token = world.raw.lock.acquire(SERVICE, "up", 1e6, world.now())
    with pytest.raises(DependencyDown):
        carry_on(world.raw, order, token, world.now())
    controller = Controller(world.raw, world.spec.rollout, token, world.now)
    ended = drive(controller, order, lambda _: world.live(30.0), leave=frozenset())
    assert (ended.phase, "no replica" in ended.reason) == (Phase.ABORTED, True)
    assert world.split.stable.digest == world.raw.services.load(SERVICE).stable.digest != OLD


def test_an_order_whose_traffic_has_moved_is_finished(world):
    """Its controller died after the router, and the parked version restarts just now: the record follows."""
    order = ordered(world.raw.services.load(SERVICE), "s-back-1", *WHO, world.now())
    world.raw.ledger.create(order)
    token = world.raw.lock.acquire(SERVICE, "dies", 1e6, world.now())
    make_stable(world.raw, SERVICE, OLD, token, "way home")
    world.raw.runtime.fail(world.unit(OLD), "starting")
    ended = carry_on(world.raw, order, token, world.now())
    assert (ended.phase, world.raw.services.load(SERVICE).stable.digest) == (Phase.PROMOTED, OLD)


def test_a_controller_that_wakes_late_changes_no_record(world):
    """It was paused after the router; its release was ended and taken back since."""
    release = world.release
    go_back(world)
    before = world.raw.services.load(SERVICE)
    with pytest.raises(StaleWriter):
        relabel(world.raw, release, release.sealed.bundle_digest, world.wall_s)
    assert world.raw.services.load(SERVICE) == before


def test_an_alias_that_went_with_its_version_is_nobody_elses(tmp_path):
    """The champion was deleted in the registry during the canary: the good candidate is promoted all the same."""
    made = Story("promoted", Phase.PROMOTED, once_exposed(lambda w: w.raw.registry.remove("m", 2))).world(
        begin(tmp_path)
    )
    with made.patched():
        made.run("release", made.open_release)
    assert (made.release.phase, made.release.alias, made.alias) == (Phase.PROMOTED, "set", 3)


@pytest.mark.parametrize(("later_s", "is_refused"), [(60.0, True), (JUST_NOW_S + 1, False)])
def test_the_same_word_again_goes_no_further_back(world, later_s, is_refused):
    """A person has just taken a canary home; a repeated job would take away the good version."""
    service = world.raw.services.load(SERVICE)
    home = world._opened().record(2.0, "commanded", verb="rollback", actor="ada", reason="")
    refuse_again(home.enter(Phase.ABORTED, world.wall_s), service, world.now())  # no user had met that one
    home = home.record(1.0, "exposed", pct=20.0)
    home = home.enter(Phase.ABORTED, world.wall_s, why="rollback by ada")
    later = replace(world.now(), wall_s=world.wall_s + later_s)
    refuse_again(home, service, later, force="really")
    if is_refused:
        with pytest.raises(BadInput, match="m v3 serves now") as caught:
            refuse_again(home, service, later)
        assert caught.value.code == "E_HOME_ALREADY"
    else:
        refuse_again(home, service, later)
