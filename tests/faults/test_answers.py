"""Whatever a registry answers, and whenever: users leave the bad version, and no service is jammed."""

from __future__ import annotations

import pytest

from pipelines.adapters.memory.records import MemoryServices
from pipelines.adapters.memory.registry import ANSWERS, MemoryRegistry
from pipelines.errors import ShipwayError
from pipelines.records.release import Phase
from pipelines.stages.build import build
from pipelines.stages.intake import take_in
from pipelines.stages.workshop import NOT_THE_STEPS_FAULT, Workshop
from tests.faults.answers import PHASES, registry_answers, trial
from tests.faults.stories import STORIES
from tests.faults.world import FACTS, OLD, SPEC, World, begin


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("answer", ANSWERS)
def test_the_way_home_needs_no_registry(answer, phase, tmp_path):
    """A second after the command nobody meets the bad version, and everything ends."""
    folder = begin(tmp_path)
    for seed in range(2):
        found = trial(phase, answer, seed, folder)
        assert (found.at_bad, found.is_jammed, found.wrong) == (False, False, [])


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("method", ["resolve", "fetch"])
def test_nothing_begins(answer, method, tmp_path, tiny_model):
    """Before anything is recorded the answer reaches the person, with its own code."""
    registry = MemoryRegistry()
    registry.add("m", tiny_model), registry.add("m", tiny_model)
    registry.answers[method] = ANSWERS[answer]
    with pytest.raises(ShipwayError) as caught:
        take_in(SPEC, registry, MemoryServices(), data_dir=tmp_path, work=tmp_path / "work")
    expected = ANSWERS[answer]()
    assert (type(caught.value), caught.value.code) == (type(expected), expected.code)


ENDS = {"moved": (Phase.ROLLED_BACK, ""), "not_found": (Phase.PROMOTED, "gone"), "refused": (Phase.PROMOTED, "refused")}


@pytest.mark.parametrize("answer", ANSWERS)
def test_a_promotion_ends(answer, tmp_path):
    """Only an alias that somebody else moved takes it back; everything else is named."""
    world = STORIES[0].world(begin(tmp_path))
    world.raw.registry.answers["mark"] = ANSWERS[answer]
    with world.patched():
        world.run("release", world.open_release)
    release = world.release
    assert (release.phase, release.alias) == ENDS.get(answer, (Phase.PROMOTED, "owed"))
    assert world.split.stable.digest == (OLD if answer == "moved" else release.sealed.bundle_digest)
    assert world.observer.violations == []


@pytest.mark.parametrize("answer", [name for name in ANSWERS if name != "moved"])
def test_a_variant_is_registered_or_the_release_ends(answer, tmp_path):
    """What is gone is not made again; what may be otherwise tomorrow is asked again, and the rest is held."""
    world = World(begin(tmp_path))
    world.raw.registry.answers["register"] = ANSWERS[answer]
    shop = Workshop(world.raw, world.builder, None, world.spec, world.folder, world.folder, world.now, world.live)
    facts = {**FACTS, "variant": "int8"}
    release = world._opened().enter(Phase.EVALUATED, 1.0, golden={})
    release = release.enter(Phase.COMPRESSED, 2.0, variant="int8", facts=facts, folder="int8", golden={})
    if answer == "not_found":
        found = build(shop, release)
        assert (found["candidate"]["serving_version"], "no such version" in found["unregistered"]) == (3, True)
        return
    with pytest.raises(ShipwayError) as caught:
        build(shop, release)
    assert isinstance(caught.value, NOT_THE_STEPS_FAULT) == (answer in {"raced", "down", "newer"})


def test_the_benchmark_counts_them(monkeypatch):
    """Seven answers in each phase."""
    monkeypatch.setattr("tests.faults.answers.PHASES", PHASES[:1])
    assert registry_answers(times=1) == {"trials": 7, "at_bad_version_after_1s": 0, "jammed": 0, "wrong": 0}
