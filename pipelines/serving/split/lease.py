"""Who keeps the split: on the disk before it is in force, for as long as its lease, and never with a dead home?"""

from __future__ import annotations

import asyncio
import json
import os
import threading
import uuid
from contextlib import suppress
from pathlib import Path
from time import monotonic
from urllib.parse import urlsplit

from pipelines.records.split import Arm, TrafficSplit
from pipelines.serving.split.store import Refused, SplitStore

TICK_S = 0.05


class SplitKeeper:
    """The split of one service, its snapshot and its lease. `tick` and `changed` are for those who act on it."""

    def __init__(self, snapshot: Path | None, boot: str = "") -> None:
        self._snapshot = snapshot
        self.boot = boot or uuid.uuid4().hex[:12]
        self.store = SplitStore(_read_snapshot(snapshot), self.boot)
        self.changing = asyncio.Lock()
        self._writing = threading.Lock()
        self._write_snapshot(self.store.split)

    def tick(self, now_s: float) -> None:
        """Some time has passed."""

    def changed(self, now_s: float) -> None:
        """Another split is in force."""

    def put(self, wanted: TrafficSplit, expected: tuple[int, int]) -> TrafficSplit:
        """Make a split current: on the disk first, then in force. OSError where the disk refuses it."""
        self.prepare(wanted, expected)
        return self._enforce(wanted, expected)

    def _enforce(self, wanted: TrafficSplit, expected: tuple[int, int]) -> TrafficSplit:
        split = self.store.put(wanted, expected, monotonic())
        self.changed(monotonic())
        return split

    def prepare(self, wanted: TrafficSplit, expected: tuple[int, int]) -> TrafficSplit:
        """Write a split down that is about to be current.

        The way home is not held up by a full disk: a gateway that restarts comes back all-stable in any case.
        """
        checked = self.store.check(wanted, expected)
        try:
            self._write_snapshot(checked)
        except OSError:
            if not checked.is_home_of(self.store.split):
                raise
        return checked

    async def change(self, wanted: TrafficSplit, expected: tuple[int, int]) -> TrafficSplit:
        """What the controller asks for, once everybody who serves has it. Users do not wait for the disk meanwhile."""
        async with self.changing:
            await asyncio.to_thread(self.prepare, wanted, expected)
            try:
                return self._enforce(wanted, expected)
            except Refused:
                self._write_snapshot(self.store.split)  # its lease ended meanwhile
                raise

    async def watch(self) -> None:
        """Let time pass, and take traffic home when a lease ends."""
        while True:
            await asyncio.sleep(TICK_S)
            self.tick(monotonic())
            # Asked again at the end: a renewal may arrive while stable is looked at.
            is_overdue = self.store.is_overdue(monotonic()) and not await self._home_is_dead()
            if is_overdue and self.store.is_overdue(monotonic()):
                self._expire()

    def _expire(self) -> None:
        split = self.store.expired()
        with suppress(OSError):  # a full disk does not keep users at a canary that nobody watches
            self._write_snapshot(split)
        self.store.adopt(split)
        self.changed(monotonic())
        print(f"lease expired: all traffic to stable, generation {split.generation}", flush=True)  # noqa: T201

    async def _home_is_dead(self) -> bool:
        """Whether stable cannot be reached while the canary can: traffic never moves to a dead arm."""
        split = self.store.split
        if split.stable is None or split.canary is None or await _is_reachable(split.stable):
            return False
        return await _is_reachable(split.canary)

    def _write_snapshot(self, split: TrafficSplit) -> None:
        """Durable before it is acknowledged: written aside, synced, then renamed."""
        if self._snapshot is None:
            return
        temp = self._snapshot.with_suffix(".tmp")
        with self._writing:
            with temp.open("w") as out:
                json.dump(split.as_dict(), out)
                out.flush()
                os.fsync(out.fileno())
            temp.replace(self._snapshot)


async def _is_reachable(arm: Arm) -> bool:
    """Whether some replica of an arm accepts connections."""
    for url in arm.urls:
        parts = urlsplit(url)
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(1.0):
                _, writer = await asyncio.open_connection(parts.hostname, parts.port)
            writer.close()
            return True
    return False


def _read_snapshot(path: Path | None) -> TrafficSplit:
    """The last split; an unreadable snapshot is an empty one: nobody is served until somebody says what is stable."""
    try:
        return TrafficSplit.from_dict(json.loads(path.read_text())) if path is not None else TrafficSplit()
    except (OSError, ValueError, KeyError, TypeError):
        return TrafficSplit()
