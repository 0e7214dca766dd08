"""Each answer of a registry × each phase in which a person goes home: do users leave, and is anything jammed?

From the command on the registry gives its one answer, for a while or for good. `registry_answers` is also what the
benchmark calls: it needs no test runner.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.adapters.memory.registry import ANSWERS
from pipelines.errors import BadInput
from pipelines.records.reading import unfinished
from pipelines.records.release import Phase
from tests.faults.recording import Fault
from tests.faults.stories import Story
from tests.faults.sweep import play
from tests.faults.world import OLD, PARKED, SERVICE, World, begin

SETTLED_S = 400.0
PHASES = ("canary", "baking", "promoting", "promoted", "going home")
"""When the command comes; "promoting" is after the router, without a controller; "going home" is a second command."""


@dataclass
class Trial:
    """One way home: did users meet the bad version a second later, is the service jammed, and what else was wrong?"""

    at_bad: bool | None = None
    is_jammed: bool = False
    wrong: list[str] = field(default_factory=list)


@dataclass
class Person:
    """Goes home in a phase, and looks a second later who serves."""

    phase: str
    answer: str
    delay_s: int
    trial: Trial = field(default_factory=Trial)
    _waited_s: int = -1
    _looks: int = 0

    def __call__(self, world: World) -> None:
        """Asked every second of the world's time."""
        if self._waited_s >= 0:
            self._waited_s += 1
            if self._waited_s == 1:
                self.trial.at_bad = _serves(world, _new(world))
        elif self._is_time(world) and self._is_due():
            world.raw.registry.answers["mark"] = ANSWERS[self.answer]
            self._waited_s = 0
            self._speak(world)

    def _is_due(self) -> bool:
        """At once, or a second later; where nobody controls the release `up` would be first."""
        self._looks += 1
        return self._looks > (0 if self.phase == "promoting" else self.delay_s)

    def _is_time(self, world: World) -> bool:
        release = world.release
        if release is None:
            return False
        match self.phase:
            case "canary":
                return release.phase is Phase.CANARY and world.split.canary_pct > 0
            case "baking":
                return release.phase is Phase.BAKING
            case "promoting":
                return release.phase is Phase.PROMOTING
            case _:
                return release.phase is Phase.PROMOTED

    def _speak(self, world: World) -> None:
        if self.phase in {"canary", "baking", "promoting"}:
            world.say("rollback")
            return
        world.run("person", world.go_back)
        if self.phase == "going home":
            with suppress(BadInput):  # going back twice would be going forth
                world.go_back()


def trial(phase: str, answer: str, seed: int, folder: Path) -> Trial:
    """A release that comes as far as `phase`, and a person who wants the old version back."""
    chance = random.Random(f"{phase} {answer} {seed}")
    person = Person(phase, answer, chance.randrange(2))
    world = Story("home", Phase.ROLLED_BACK, lambda: person).world(folder)
    world.journal.is_on = True
    if phase == "promoting":
        world.journal.faults = {_last_write(folder): Fault.KILLED_AFTER}
    with world.patched():
        world.run("release", world.open_release)
        world.live_on(SETTLED_S, debts=False)
        world.live(5.0)
        if chance.random() < 0.5:  # the registry is itself again some day, or never
            world.raw.registry.answers.clear()
        person.trial.is_jammed = not world.live_on(SETTLED_S, debts=False) or bool(unfinished(world.raw.ledger))
    person.trial.wrong = [*world.observer.violations, *_wrong_at_rest(world)]
    return person.trial


def _last_write(folder: Path) -> int:
    """Which effect of an undisturbed release makes its candidate stable?"""
    effects = play(Story("home", Phase.PROMOTED), folder).effects
    return max(number for number, name in enumerate(effects, 1) if name == "router.write")


def _new(world: World) -> str:
    release = next(r for r in map(world.raw.ledger.load, world.raw.ledger.chains) if not r.is_way_home)
    return release.sealed.bundle_digest


def _serves(world: World, digest: str) -> bool:
    split = world.split
    is_canary = split.canary is not None and split.canary.digest == digest and split.canary_pct > 0
    return is_canary or (split.stable is not None and split.stable.digest == digest)


def _wrong_at_rest(world: World) -> Iterator[str]:
    serves = world.split.stable.digest if world.split.stable else None
    service = world.raw.services.load(SERVICE)
    if serves != OLD:
        yield f"{serves} serves"
    if service.stable is None or service.stable.digest != serves:
        yield "the service's record says something else"
    if service.previous is not None and service.previous.digest == PARKED:
        yield "what served before is lost"


def registry_answers(times: int = 20, say: Callable[[str], None] = lambda _: None) -> dict[str, int]:
    """How many ways home were tried, after how many users were at the bad version, and how many services are jammed?"""
    trials = []
    with tempfile.TemporaryDirectory(prefix="shipway-answers-") as temp:
        folder = begin(Path(temp))
        for phase in PHASES:
            for answer in ANSWERS:
                say(f"{answer} while {phase}")
                trials += [trial(phase, answer, seed, folder) for seed in range(times)]
    return {
        "trials": len(trials),
        "at_bad_version_after_1s": sum(t.at_bad is not False for t in trials),
        "jammed": sum(t.is_jammed for t in trials),
        "wrong": sum(bool(t.wrong) for t in trials),
    }
