"""Kill a release at every effect, let the world live on, and look whether it ends well.

`sweep` is also what the benchmark calls: it needs no test runner.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.records.release import Phase, Release
from pipelines.services.units import wanted_units
from tests.faults.recording import KILLS, Fault
from tests.faults.stories import STORIES, Story
from tests.faults.world import OLD, OLD_VERSION, SERVICE, World, begin

HOME = frozenset({Phase.ROLLED_BACK, Phase.REJECTED, Phase.ABORTED, Phase.HELD})


@dataclass
class Played:
    """How one release went: its effects, its last record, and what was wrong on the way and at the end."""

    effects: list[str]
    release: Release | None
    violations: list[str] = field(default_factory=list)
    is_stuck: bool = False


def play(story: Story, folder: Path, faults: dict[int, Fault] | None = None) -> Played:
    """Run a story from opening to rest, with these faults."""
    world = story.world(folder)
    world.journal.faults = faults or {}
    world.journal.is_on = True
    with world.patched():
        world.run("release", lambda: story.begin(world))
        is_over = world.live_on()
    wrong = [*world.observer.violations, *(at_rest(world, story) if is_over else [])]
    return Played(world.journal.names, world.release, wrong, not is_over)


def at_rest(world: World, story: Story) -> Iterator[str]:
    """What is wrong once everything is over: does every record say what the router shows, and is the end allowed?"""
    release, service = world.release, world.raw.services.records.get(SERVICE)
    phase = release.phase if release else Phase.ABORTED
    if phase not in HOME | {story.end, story.owed_end}:
        yield f"ended {phase} instead of {story.end} or home"
    serves = world.split.stable.digest if world.split.stable else None
    promoted = release.sealed.bundle_digest if release and phase is Phase.PROMOTED else None
    if serves != (promoted or (None if story.first else OLD)):
        yield f"{phase}, but {serves} serves"
    if service is not None:
        yield from service_at_rest(world, phase, serves)
    if release and release.convicted and story.end is not Phase.ROLLED_BACK:
        yield f"convicted without evidence: {release.convicted}"
    if release and release.convicted and (service is None or not service.quarantined):
        yield "convicted, but not quarantined"
    if world.split.canary is not None:
        yield "the router still knows a canary"
    champion = release.sealed.serving_version if promoted and release else OLD_VERSION
    may_stay = world.observer.outsider_moved_alias or (story.first and not promoted)
    if not may_stay and world.alias != champion:
        yield f"champion names {world.alias} instead of {champion}"


def service_at_rest(world: World, phase: Phase, serves: str | None) -> Iterator[str]:
    """What does the service's record say against the router and the runtime?"""
    service = world.raw.services.load(SERVICE)
    recorded = service.stable.digest if service.stable else None
    if recorded != serves:
        yield f"{phase}: {recorded} is recorded as stable, {serves} serves"
    kept = service.candidate is not None and service.candidate.keep_until_s is None
    if kept or (service.candidate is not None and phase is not Phase.HELD):
        yield f"{phase}: the candidate is still wanted"
    wanted = {unit.name for unit in wanted_units(service, world.wall_s)}
    running = {unit.name for unit in world.raw.runtime.units(SERVICE)}
    if wanted != running:
        yield f"{phase}: {sorted(running ^ wanted)} runs, or does not, against the record"


@dataclass
class Swept:
    """The result over many points."""

    points: int = 0
    violations: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    ends: dict[str, dict[str, int]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """What the benchmark prints."""
        return {"kill_points": self.points, "violations": len(self.violations), "stuck": len(self.stuck)}


def sweep(
    stories: Sequence[Story] = STORIES,
    faults: Iterable[Fault] = KILLS,
    *,
    every: int = 1,
    folder: Path | None = None,
) -> Swept:
    """Every story × every effect of it (or every so many) × every fault."""
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="shipway-sweep-") as temp:
            return sweep(stories, faults, every=every, folder=begin(Path(temp)))
    swept, kinds = Swept(), tuple(faults)
    for story in stories:
        effects = play(story, folder).effects
        for k in range(1, len(effects) + 1, every):
            for fault in kinds:
                _add(swept, story, f"{story.name}: {fault} effect {k} ({effects[k - 1]})", {k: fault}, folder)
    return swept


def _add(swept: Swept, story: Story, point: str, faults: dict[int, Fault], folder: Path) -> None:
    try:
        played = play(story, folder, faults)
    except Exception as error:  # a controller that dies of a surprise is what a sweep looks for
        swept.violations.append(f"{point}: {type(error).__name__}: {error}")
        swept.points += 1
        return
    swept.points += 1
    swept.violations += [f"{point}: {what}" for what in played.violations]
    swept.stuck += [point] if played.is_stuck else []
    end = str(played.release.phase) if played.release else "never opened"
    ends = swept.ends.setdefault(story.name, {})
    ends[end] = ends.get(end, 0) + 1


def kill_sweep() -> dict[str, int]:
    """How many kill points were tried, and how many of them broke an invariant or never came to an end?"""
    return sweep(STORIES).as_dict()
