"""A ledger on a disk, models in memory, and releases that are asked for while another one runs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from flows.orders.queueing import Turn, in_turn, line_up
from pipelines.adapters.sql.engine import open_engine
from pipelines.adapters.sql.inbox import SqlInbox
from pipelines.adapters.sql.ledger import SqlLedger
from pipelines.adapters.sql.lock import SqlLock
from pipelines.adapters.sql.queue import SqlQueue
from pipelines.home import Home
from pipelines.records.queue import Ticket
from pipelines.records.release import Candidate, Phase, Release
from pipelines.records.service import Service
from tests.faults.world import memory_ports
from tests.pipelines.rollout.test_look import SPEC

CHALLENGER = SPEC.model_copy(update={"model": "models:/m@challenger"})


TO_USERS = (Phase.EVALUATED, Phase.COMPRESSED, Phase.BUILT, Phase.STAGED, Phase.QUALIFIED)


class Script:
    """What happens while a command waits: an action each time it would sleep; after the last one somebody stops it."""

    def __init__(self, *actions: Callable[[], object]) -> None:
        self.actions = list(actions)

    def wait(self, _timeout_s: float) -> bool:
        """Let it happen; True once nothing more does."""
        if not self.actions:
            return True
        self.actions.pop(0)()
        return False


class Room:
    """One service `s` without a stable version, six versions of its model, of which 2 is the challenger."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.home = Home.open(folder / "home")
        engine = open_engine(self.home.root / "ledger.db")
        records = {"ledger": SqlLedger(engine), "inbox": SqlInbox(engine), "lock": SqlLock(engine)}
        self.ports = replace(memory_ports(), **records, queue=SqlQueue(engine))
        self.ports.services.save(Service("s"))
        (folder / "model").mkdir()
        for n in range(6):
            (folder / "model" / "config.json").write_text(str(n))
            self.ports.registry.add("m", folder / "model")
        self.ports.registry.mark("m", aliases={"challenger": 2})
        self.folder, self.told = folder, []
        self.fails: Exception | None = None
        monkeypatch.setattr("flows.control.opening.take_in", self._take_in)

    def _take_in(self, spec, registry, _services, *, data_dir, work, force, kept, machine, weights, prompts):
        """What is checked before a release begins, without a model."""
        if self.fails is not None:
            raise self.fails
        version = registry.resolve(spec.model)
        (work / "source").mkdir()
        facts = {"candidate": vars(Candidate("m", version.version, f"sha256:{version.version}"))}
        return SimpleNamespace(service=None, folder=work / "source", facts=lambda: facts)

    def line_up(self, model: str = "models:/m/3", policy: str = "queue", *, detach: bool = False) -> Turn:
        """Ask for a release of this model."""
        asked = CHALLENGER.model_copy(update={"model": model})
        return line_up(asked, policy, self.ports, self.folder, detach=detach)

    def ticket(self, model: str = "models:/m/3", **facts: object) -> Ticket:
        """One that waits, and is left to `up` unless it is said otherwise."""
        ticket = replace(self.line_up(model).ticket, **{"waiter": "", "actor": "ada", **facts})
        self.ports.queue.put(ticket)
        return ticket

    def open(self, turn: Turn, stop: object = None):
        """Wait for the turn, and open the release then."""
        stop = stop or threading.Event()
        return in_turn(turn, self.ports, self.home, self.folder, "", stop, self.told.append)

    def running(self, release_id: str = "r1", *, phase: Phase | None = None, **facts: object) -> Release:
        """A release of version 1 that somebody opened; without `phase` it is evaluated."""
        spec = SPEC.model_copy(update={"model": "models:/m/1"})
        facts = {"spec": spec.as_dict(), "spec_digest": spec.digest(), **facts}
        release = Release().record(1000.0, "opened", id=release_id, service="s", **facts)
        release = release.record(1000.0, "resolved", candidate=vars(Candidate("m", 1, "sha256:1")))
        for step in () if phase is None else (*TO_USERS, phase):
            release = release.enter(step, 1000.0)
        self.ports.ledger.create(release)
        return release

    def ends(self, release_id: str) -> None:
        """Whatever it was, it is over."""
        release = self.ports.ledger.load(release_id)
        self.ports.ledger.save(release.enter(Phase.HELD, 1001.0, why="over"), release.version)

    @property
    def waiting(self) -> list[str]:
        """The ids of the tickets."""
        return [ticket.id for ticket in self.ports.queue.tickets()]
