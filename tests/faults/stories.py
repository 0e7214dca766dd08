"""The releases that are swept: what happens in the world around each of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from evals.signals.replay import Pair
from pipelines.adapters.memory.registry import MemoryRegistry
from pipelines.adapters.memory.replays import SAME, MemoryReplays
from pipelines.records.release import Phase
from pipelines.spec.rollout import ReplaySpec, StepSpec
from pipelines.spec.serve import RecordSpec, ServeSpec
from tests.faults.observer import Observer
from tests.faults.world import SPEC, World

Happening = Callable[[World], None]


def nothing(_: World) -> None:
    """Nobody disturbs the release."""


@dataclass(frozen=True)
class Story:
    """One release. `happens` is asked every second of the world's time; `end` is how it ends where nobody is killed."""

    name: str
    end: Phase
    happens: Callable[[], Happening] = lambda: nothing
    first: bool = False
    errors_pct: float = 0.0
    requests_per_s: int = 100
    variant: str = "source"
    deadline_s: float = 60.0
    goes_back: bool = False
    owed_end: Phase | None = None
    """How it ends, too, where the registry could not be asked in time: the alias is then told of later."""
    replayed: Pair | None = None
    """How both arms answer each of 120 recorded requests, where some are replayed."""
    approves: bool = False
    """Whether every step waits for approval."""

    def world(self, folder: Path) -> World:
        """The world in which it plays, with an observer."""
        rollout = SPEC.rollout.model_copy(update={"deadline_s": self.deadline_s})
        if self.replayed is not None:
            rollout = rollout.model_copy(update={"replay": ReplaySpec(requests=120)})
        if self.approves:
            marked = tuple(StepSpec(pct=step.pct, approve=True) for step in rollout.steps)
            rollout = rollout.model_copy(update={"steps": marked})
        world = World(folder, first=self.first, spec=SPEC.model_copy(update={"rollout": rollout, "serve": RECORDING}))
        replays: MemoryReplays = world.raw.replays
        replays.kept["s"], replays.answer = list(range(120)), lambda _: self.replayed
        world.errors_pct, world.requests_per_s, world.variant = self.errors_pct, self.requests_per_s, self.variant
        world.each_second = self.happens()
        if self.goes_back:
            world.park_previous()
        world.observer = Observer(world)
        return world

    def begin(self, world: World) -> None:
        """What the person types."""
        world.go_back() if self.goes_back else world.open_release()


def once_exposed(act: Happening, after_s: int = 2) -> Callable[[], Happening]:
    """Once, when users have met the canary for some seconds."""

    def fresh() -> Happening:
        seconds = {"exposed": 0}

        def happens(world: World) -> None:
            seconds["exposed"] += world.split.canary_pct > 0
            if seconds["exposed"] == after_s:
                seconds["exposed"] += 1
                act(world)

        return happens

    return fresh


def at_second(second: int, act: Happening) -> Callable[[], Happening]:
    """Once, so long after the release was opened."""

    def fresh() -> Happening:
        passed = {"s": 0}

        def happens(world: World) -> None:
            passed["s"] += world.release is not None
            if passed["s"] == second:
                act(world)

        return happens

    return fresh


def move_alias(world: World) -> None:
    """Somebody else moves `champion`."""
    registry: MemoryRegistry = world.raw.registry
    world.observer.outsider_moved_alias = True
    registry.mark("m", aliases={"champion": 1})


def go_to_sleep(world: World) -> None:
    """The whole machine sleeps for longer than the lease: only the gateway's clock goes on."""
    world.mono_s += 30
    world.wall_s += 30
    world.raw.router.advance(30)


def take_back_an_orphan(world: World) -> None:
    """A person rolls back as soon as a promotion has no controller."""
    if world.release and world.release.phase is Phase.PROMOTING and world.raw.lock.holder("s", world.now()) is None:
        world.say("rollback")


def approved_after_a_restart() -> Happening:
    """The gateway is restarted under the first users; a person answers every question, three seconds after it."""
    restart = once_exposed(World.restart_gateway)()
    asked = {"s": 0}

    def happens(world: World) -> None:
        restart(world)
        release = world.release
        if release and world.split.canary_pct > 0 and not release.approved:
            world.observer.violations.append("users met a canary that nobody had approved")
        asked["s"] = asked["s"] + 1 if release and release.asks else 0
        if asked["s"] == 3:
            world.say("approve")

    return happens


RECORDING = ServeSpec(record=RecordSpec())

STORIES = (
    Story("promoted", Phase.PROMOTED, variant="int8"),
    Story("rolled back on errors", Phase.ROLLED_BACK, errors_pct=60),
    Story("crashed canary", Phase.ROLLED_BACK, once_exposed(World.crash_canary)),
    Story("aborted by command", Phase.ABORTED, once_exposed(lambda w: w.say("abort"))),
    Story("aborted before any user", Phase.ABORTED, at_second(1, lambda w: w.say("abort"))),
    Story("promoted by command", Phase.PROMOTED, once_exposed(lambda w: w.say("promote"))),
    Story("paused and resumed", Phase.PROMOTED, once_exposed(lambda w: (w.say("pause"), w.say("resume")))),
    Story("approved, also after an interruption", Phase.PROMOTED, approved_after_a_restart, approves=True),
    Story("lease lost", Phase.PROMOTED, once_exposed(go_to_sleep)),
    Story("gateway restarted", Phase.PROMOTED, once_exposed(World.restart_gateway)),
    Story("held without traffic", Phase.HELD, requests_per_s=0, deadline_s=8),
    Story("promotion taken back by command", Phase.PROMOTED, lambda: take_back_an_orphan),
    Story("first release", Phase.PROMOTED, first=True),
    Story("first release taken back by command", Phase.PROMOTED, lambda: take_back_an_orphan, first=True),
    Story("back to the previous version", Phase.PROMOTED, goes_back=True),
    Story("promoted after a replay", Phase.PROMOTED, replayed=SAME),
    Story("rejected by a replay", Phase.REJECTED, replayed=Pair(None, 1.0)),
    Story("alias moved by somebody", Phase.ROLLED_BACK, once_exposed(move_alias), owed_end=Phase.PROMOTED),
    Story(
        "first release, alias moved by somebody",
        Phase.ROLLED_BACK,
        at_second(1, move_alias),
        first=True,
        owed_end=Phase.PROMOTED,
    ),
)
