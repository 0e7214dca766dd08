"""Who keeps the split of a service? On the disk before it is in force, and for no longer than its lease."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path
from time import monotonic

from pipelines.records.split import Generation, TrafficSplit
from pipelines.serving.split.lease import TICK_S, ended_lease
from pipelines.serving.split.snapshot import SplitSnapshot
from pipelines.serving.split.store import Refused, SplitStore


class SplitKeeper:
    """The split of one service, its snapshot and its lease. `tick` and `changed` are for those who act on it."""

    def __init__(self, snapshot: Path | None, boot: str = "") -> None:
        self.snapshot = SplitSnapshot(snapshot)
        self.boot = boot or uuid.uuid4().hex[:12]
        self.store = SplitStore(self.snapshot.read(), self.boot)
        self.changing = asyncio.Lock()
        self.snapshot.write(self.store.split)

    def tick(self, now_s: float) -> None:
        """Some time has passed."""

    def changed(self, now_s: float) -> None:
        """Another split is in force."""

    def put(self, wanted: TrafficSplit, expected: Generation) -> TrafficSplit:
        """Make a split current: on the disk first, then in force. OSError where the disk refuses it."""
        self.prepare(wanted, expected)
        return self._enforce(wanted, expected)

    def _enforce(self, wanted: TrafficSplit, expected: Generation) -> TrafficSplit:
        split = self.store.put(wanted, expected, monotonic())
        self.changed(monotonic())
        return split

    def prepare(self, wanted: TrafficSplit, expected: Generation) -> TrafficSplit:
        """Write a split down that is about to be current. OSError where the disk refuses it."""
        checked = self.store.check(wanted, expected)
        self.snapshot.replace(self.store.split, checked)
        return checked

    async def change(self, wanted: TrafficSplit, expected: Generation) -> TrafficSplit:
        """What the controller asks for, once everybody who serves has it. Users do not wait for the disk meanwhile."""
        async with self.changing:
            await asyncio.to_thread(self.prepare, wanted, expected)
            try:
                return self._enforce(wanted, expected)
            except Refused:
                self.snapshot.write(self.store.split)  # its lease ended meanwhile
                raise

    async def watch(self) -> None:
        """Let time pass, and take traffic home when a lease ends."""
        while True:
            await asyncio.sleep(TICK_S)
            self.tick(monotonic())
            home = await ended_lease(self.store)
            if home is not None:
                self._go_home(home)

    def _go_home(self, home: TrafficSplit) -> None:
        self.snapshot.replace(self.store.split, home)
        self.store.adopt(home)
        self.changed(monotonic())
        print(f"lease expired: all traffic to stable, generation {home.generation}", flush=True)  # noqa: T201
