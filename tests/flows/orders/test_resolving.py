"""Every state can be left by a command: a stuck release, a record that nobody can read, a service that never served."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from flows.orders.resolving import remove_service, resolve_release
from pipelines.adapters.memory.registry import ANSWERS
from pipelines.errors import BadInput, Busy, LedgerBroken, NotFound
from pipelines.home import Home
from pipelines.records.reading import unfinished
from pipelines.records.release import Phase, Release
from tests.faults.recording import Fault
from tests.faults.stories import STORIES
from tests.faults.world import OLD, SERVICE, World, begin


@pytest.fixture
def world(tmp_path) -> Iterator[World]:
    """Version 2 serves, and this process resolves what the others left."""
    made = STORIES[0].world(begin(tmp_path))
    with pytest.MonkeyPatch.context() as patched, made.patched():
        patched.setattr("flows.orders.resolving.clock", made.now)
        patched.setattr("flows.orders.resolving.hold", made.hold)
        yield made


@pytest.fixture
def home(tmp_path_factory) -> Home:
    """Where a gateway's snapshot would lie."""
    return Home.open(tmp_path_factory.mktemp("home"))


def orphan(world: World, effect: str) -> Release:
    """The release whose controller died after the last effect of this name; nobody has taken it over."""
    names = _effects(world)
    last = max(number for number, name in enumerate(names, 1) if name == effect)
    world.journal.is_on, world.journal.faults = True, {last: Fault.KILLED_AFTER}
    world.up_round = lambda: None
    world.run("release", world.open_release)
    world.wall_s += 100.0
    (release,) = unfinished(world.raw.ledger)
    return release


def _effects(world: World) -> list[str]:
    from tests.faults.sweep import play

    return play(STORIES[0], world.folder).effects


def test_a_promotion_is_ended_as_the_router_shows_it(world):
    """Its traffic was moved already: it is promoted."""
    release = orphan(world, "router.write")
    ended = resolve_release(world.raw, release.id, "")
    assert (ended.phase, world.split.stable.digest) == (Phase.PROMOTED, release.sealed.bundle_digest)
    assert world.raw.lock.holder(SERVICE, world.now()) is None


def test_a_canary_is_taken_home(world):
    """As `abort` would, where no controller is left that could hear it."""
    release = orphan(world, "lock.renew")
    assert release.phase is Phase.BAKING
    ended = resolve_release(world.raw, release.id, "")
    assert (ended.phase, world.split.canary, world.split.stable.digest) == (Phase.ABORTED, None, OLD)


def test_a_living_controller_is_shut_out_only_with_a_reason(world):
    """Busy names it; with a reason it loses its lock, and its writes are refused from then on."""
    release = orphan(world, "lock.renew")
    world.raw.lock.acquire(SERVICE, "who hangs", 1000.0, world.now())
    with pytest.raises(Busy, match="who hangs") as caught:
        resolve_release(world.raw, release.id, "")
    assert "--force" in caught.value.hint
    assert resolve_release(world.raw, release.id, "it hangs").phase is Phase.ABORTED


def test_what_the_registry_is_still_owed_is_told_once_more(world):
    """Or dropped, with a reason, and the record says so."""
    world.raw.registry.answers["mark"] = ANSWERS["forbidden"]
    world.run("release", world.open_release)
    release = world.release
    assert (release.phase, release.alias) == (Phase.PROMOTED, "owed")
    assert resolve_release(world.raw, release.id, "").alias == "owed"
    dropped = resolve_release(world.raw, release.id, "we moved to another registry")
    assert world.raw.services.load(SERVICE).owed == ()
    assert "another registry" in dropped.last("registry").data["left"][0]
    with pytest.raises(BadInput, match="has ended"):
        resolve_release(world.raw, release.id, "")


def test_the_registry_is_told_as_soon_as_it_may_be(world):
    """Rights came back: nobody needs to wait for the next try."""
    world.raw.registry.answers["mark"] = ANSWERS["forbidden"]
    world.run("release", world.open_release)
    world.raw.registry.answers.clear()
    assert resolve_release(world.raw, world.release.id, "").alias == "set"
    assert world.alias == world.release.sealed.serving_version


def test_a_record_that_cannot_be_read_is_set_aside(world):
    """Its canary goes home by the gateway alone, and the service takes releases again."""
    release = orphan(world, "lock.renew")
    chain = world.raw.ledger.chains[release.id]
    world.raw.ledger.chains[release.id] = (*chain[:-1], replace(chain[-1], hash="0" * 64))
    with pytest.raises(LedgerBroken):
        world.raw.ledger.load(release.id)
    said = resolve_release(world.raw, release.id, "")
    assert "set aside" in said
    assert (world.raw.ledger.summaries(unfinished=True), world.split.canary) == ((), None)


def test_a_service_that_serves_is_removed_only_with_a_reason(world, home):
    """E_SERVES; then its units and its record are gone, and what the registry goes on saying is named."""
    with pytest.raises(BadInput) as caught:
        remove_service(home, world.raw, SERVICE, "")
    assert caught.value.code == "E_SERVES"
    assert world.raw.services.load(SERVICE).wanted
    removed = remove_service(home, world.raw, SERVICE, "it moved")
    assert (removed.alias, world.raw.runtime.units(SERVICE), world.raw.services.names()) == ("m@champion → 2", (), ())


def test_a_service_that_never_served_is_removed(world, home):
    """As one whose port was taken; its gateway's snapshot, token and socket go with it."""
    world.raw.runtime.fail(world.unit(OLD), "exit 9")
    left = [home.folder("run") / f"{SERVICE}.{kind}" for kind in ("split", "token", "sock")]
    for file in left:
        file.write_text("{}")
    remove_service(home, world.raw, SERVICE, "")
    assert (world.raw.services.names(), [file.exists() for file in left]) == ((), [False] * 3)
    with pytest.raises(NotFound):
        remove_service(home, world.raw, SERVICE, "")


def test_a_release_goes_with_its_service(world, home):
    """Without a reason it is refused; with one the release is aborted first."""
    release = orphan(world, "lock.renew")
    world.raw.runtime.fail(world.unit(OLD), "exit 9")
    with pytest.raises(Busy, match=release.id):
        remove_service(home, world.raw, SERVICE, "")
    remove_service(home, world.raw, SERVICE, "it moved")
    assert world.raw.ledger.load(release.id).phase is Phase.ABORTED
