"""Every effect of every controller, counted in order, and one place where a fault meets it.

The adapters are wrapped, not changed: product code holds no hook. A killed actor's later effects (its `finally` blocks,
which a SIGKILL would never run) do not happen either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any

from pipelines.errors import DependencyDown, ShipwayError
from pipelines.ports import Ports

EFFECTS: Mapping[str, frozenset[str]] = {
    "registry": frozenset({"register", "mark"}),
    "runtime": frozenset({"ensure", "remove"}),
    "router": frozenset({"write"}),
    "ledger": frozenset({"create", "save"}),
    "services": frozenset({"save"}),
    "inbox": frozenset({"done"}),
    "lock": frozenset({"acquire", "renew", "release", "revoke"}),
}
"""What changes the world, by port. Reading is not an effect, and a notifier may say nothing at all."""


class Fault(StrEnum):
    """What may happen at one effect."""

    KILLED_BEFORE = "killed before"
    KILLED_AFTER = "killed after"
    REFUSED = "refused"
    ANSWER_LOST = "answer lost"
    PAUSED_BEFORE = "paused before"
    PAUSED_AFTER = "paused after"
    DOUBLED = "doubled"


KILLS = (Fault.KILLED_BEFORE, Fault.KILLED_AFTER)
OTHER_FAULTS = tuple(fault for fault in Fault if fault not in KILLS)


class Killed(BaseException):
    """SIGKILL: nothing in the actor runs after this."""

    def __init__(self, actor: str) -> None:
        super().__init__(actor)
        self.actor = actor


@dataclass
class Journal:
    """The effects so far, who acts now, who is dead, and what shall happen at which effect."""

    faults: dict[int, Fault] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    actors: list[str] = field(default_factory=lambda: ["setting up"])
    dead: set[str] = field(default_factory=set)
    observe: Callable[[str, Any], None] = lambda _name, _result: None
    pause: Callable[[], None] = lambda: None
    """What stops the actor until somebody lets it go on."""
    stale_reads: int = 0
    was_fooled: bool = False
    """Whether an actor was stopped in the middle of a look, or saw what is not so any more."""
    is_on: bool = False

    @property
    def actor(self) -> str:
        """Who acts now."""
        return self.actors[-1]

    @contextmanager
    def acting(self, actor: str) -> Iterator[None]:
        """From here on this actor acts."""
        self.actors.append(actor)
        try:
            yield
        finally:
            self.actors.pop()

    def perform(self, name: str, act: Callable[[], Any]) -> Any:
        """One effect, with the fault that is planned for it."""
        if self.actor in self.dead:
            raise Killed(self.actor)
        fault = self._count(name)
        self._pause(fault, Fault.PAUSED_BEFORE)
        self._meet(fault, Fault.KILLED_BEFORE, Fault.REFUSED)
        result = act()
        self.observe(name, result)
        if fault is Fault.DOUBLED:
            self._repeat(name, act)
        self._pause(fault, Fault.PAUSED_AFTER)
        self._meet(fault, Fault.KILLED_AFTER, Fault.ANSWER_LOST)
        return result

    def kill(self, actor: str) -> Killed:
        """The exception that ends an actor."""
        self.dead.add(actor)
        return Killed(actor)

    def _count(self, name: str) -> Fault | None:
        if not self.is_on:
            return None
        self.names.append(name)
        return self.faults.get(len(self.names))

    def _pause(self, fault: Fault | None, pause: Fault) -> None:
        if fault is pause:
            self.was_fooled = True
            self.pause()
            if self.actor in self.dead:
                raise Killed(self.actor)

    def _repeat(self, name: str, act: Callable[[], Any]) -> None:
        """The network delivers the call twice; only the first answer is heard."""
        with suppress(ShipwayError):
            self.observe(name, act())

    def _meet(self, fault: Fault | None, kill: Fault, error: Fault) -> None:
        if fault is kill:
            raise self.kill(self.actor)
        if fault is error:
            raise DependencyDown(f"{error} at effect {len(self.names)}", code="E_INJECTED")


class Recorded:
    """An adapter whose effects go through the journal."""

    def __init__(self, port: str, adapter: Any, journal: Journal) -> None:
        self._adapter = adapter
        for method in EFFECTS.get(port, ()):
            setattr(self, method, self._through(f"{port}.{method}", getattr(adapter, method), journal))
        if port == "router":
            self.read = self._stale(adapter.read, journal)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._adapter, name)

    @staticmethod
    def _through(name: str, method: Callable[..., Any], journal: Journal) -> Callable[..., Any]:
        def performed(*args: Any, **kwargs: Any) -> Any:
            return journal.perform(name, lambda: method(*args, **kwargs))

        return performed

    @staticmethod
    def _stale(read: Callable[[str], Any], journal: Journal) -> Callable[[str], Any]:
        """Reading that may show what was read the time before."""
        before: dict[str, Any] = {}

        def reading(service: str) -> Any:
            if journal.stale_reads and service in before:
                journal.stale_reads -= 1
                journal.was_fooled = True
                return before[service]
            before[service] = read(service)
            return before[service]

        return reading


def recorded(ports: Ports, journal: Journal) -> Ports:
    """The same ports, with every effect counted."""
    return Ports(**{f.name: Recorded(f.name, getattr(ports, f.name), journal) for f in fields(ports)})
