"""Do the invariants hold at this instant, as anyone can see them from outside: gateway, ledger and alias?

Nothing of the processes that are killed is asked. Numbers are those of `docs/faults.md`. What is read one after the
other is compared only in an order in which a difference proves a wrong: the alias before the gateway (I9), the gateway
before the ledger (I1), since Shipway writes the other way round.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from pipelines.errors import DependencyDown
from pipelines.records.release import Event
from tests.flows.releases.real_world import World

LOOK_S = 0.03
WITH_USERS = {"canary", "baking"}
"""They last for seconds; other phases may be over between two looks."""
SHARED = {"qualified", "canary", "baking", "promoting"}


@dataclass
class RealObserver:
    """Polls in a thread; what was wrong, and what it has looked at."""

    world: World
    seen: set[tuple[str, str]] = field(default_factory=set)
    """The releases at which it looked, each with the phase that it had."""
    violations: list[str] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)
    _generation: tuple[int, int] = (0, 0)
    _chains: dict[str, tuple[Event, ...]] = field(default_factory=dict)

    def run(self) -> None:
        """Until stopped. What is down at this instant is looked at the next time."""
        while not self.stopped.wait(LOOK_S):
            try:
                self._look()
            except DependencyDown:
                continue
            except Exception as error:
                self._say(f"the observer: {error!r}")
                return

    def _look(self) -> None:
        champion = self.world.ports.registry.resolve("models:/tiny@champion").version
        split = self.world.ports.router.read("tiny")
        ledger = self.world.ports.ledger
        releases = {row.id: ledger.load(row.id) for row in ledger.summaries()}
        self._records(releases)
        self.seen |= {(name, str(release.phase)) for name, release in releases.items()}
        served = {r.sealed.bundle_digest: r for r in releases.values() if r.candidate and r.sealed.bundle_digest}
        stable = served.get(split.stable.digest) if split.stable else None
        if stable is None:
            return self._say("I1: what is stable was sealed by no release")
        if not any(r.outcome == "promoted" or r.phase == "promoting" for r in self._of(served, split.stable.digest)):
            self._say(f"I1: stable belongs to a release that is {stable.phase}")
        if split.canary is not None and split.canary_pct > 0:
            release = served.get(split.canary.digest)
            if release is None or not ({str(e.data["phase"]) for e in release.of_kind("entered")} & SHARED):
                self._say(f"I1: {split.canary_pct:g} % meet what no release qualified")
        if split.generation < self._generation:
            self._say(f"I3: the generation went from {self._generation} to {split.generation}")
        self._generation = split.generation
        if champion != stable.sealed.serving_version and self._has_moved_since(champion, stable.sealed.serving_version):
            self._say(f"I9: champion is {champion}, and stable serves {stable.sealed.serving_version}")
        return None

    def _has_moved_since(self, champion: int, serving: int | None) -> bool:
        """The alias may lag behind the router; it may never be ahead of it."""
        return serving is not None and champion > serving

    def _of(self, served, digest: str):
        return [r for r in served.values() if r.sealed.bundle_digest == digest]

    def _records(self, releases) -> None:
        """I10: nothing recorded is lost or changed, and each new link verifies."""
        for name, release in releases.items():
            known = self._chains.get(name, ())
            if release.events[: len(known)] != known:
                self._say(f"I10: the record of {name} was rewritten")
            for event in release.events[len(known) :]:
                event.verify(release.events[event.seq - 2] if event.seq > 1 else None)
            self._chains[name] = release.events
        for name in self._chains.keys() - releases.keys():
            self._say(f"I10: the record of {name} is gone")

    def _say(self, what: str) -> None:
        self.violations.append(what)


@contextmanager
def observed(world: World) -> Iterator[RealObserver]:
    """An observer while the block runs; afterwards it must have looked wherever users met a canary, and at the end.

    And have seen nothing wrong.
    """
    observer = RealObserver(world)
    thread = threading.Thread(target=observer.run, daemon=True)
    thread.start()
    try:
        yield observer
    finally:
        observer.stopped.set()
        thread.join()
    observer._look()
    assert not observer.violations, observer.violations[:5]
    newest = world.newest()
    entered = {str(event.data["phase"]) for event in newest.of_kind("entered")}
    assert {(newest.id, phase) for phase in entered & WITH_USERS} <= observer.seen
