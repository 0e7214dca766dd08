"""How do several processes serve users as if they were one?

The keeper holds the split, its snapshot, its lease and the admin socket. A larger share counts once every worker has
confirmed it; a smaller one is told to all at once. A worker that does not confirm is killed and replaced: no process
serves by a split that its keeper does not know.
"""

from __future__ import annotations

import asyncio
import itertools
import mmap
import os
import signal
import socket
import sys
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

import orjson

from evals.signals.strata import Stratum
from pipelines.records.split import TrafficSplit
from pipelines.serving.evidence.counters import GatewayCounters
from pipelines.serving.gateway.meetings import LATE_S, Meeting, Met
from pipelines.serving.gateway.merging import Merging
from pipelines.serving.gateway.worker import MEMORY_BYTES, MOST_LINE_BYTES, SETTINGS, VARIABLE
from pipelines.serving.requests.data_plane import FAREWELL_S, LAST_WORDS_S, Serving
from pipelines.serving.settings_file import settings_text
from pipelines.serving.split.keeper import SplitKeeper
from pipelines.serving.split.lease import TICK_S
from pipelines.serving.split.store import Refused, Unconfirmed

CONFIRM_S = 1.0
START_S = 30.0


class Hand:
    """One worker, as its keeper knows it."""

    def __init__(self, number: int, process: asyncio.subprocess.Process, memory: mmap.mmap) -> None:
        self.number, self.process, self._memory = number, process, memory
        self.counters: dict[str, Any] | None = None
        self.is_ready = asyncio.Event()
        self.writer: asyncio.StreamWriter | None = None
        self._asked: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._ids = itertools.count()

    @property
    def in_flight(self) -> tuple[int, int]:
        """The requests of stable and of the canary that it has not decided."""
        stable, canary = memoryview(self._memory).cast("q")
        return stable, canary

    def say(self, **message: Any) -> None:
        """Tell it something. A worker that died a moment ago hears nothing: uvloop's socket to it is closed already."""
        if self.writer is not None and not self.writer.is_closing():
            with suppress(RuntimeError):
                self.writer.write(orjson.dumps(message) + b"\n")

    async def ask(self, **message: Any) -> dict[str, Any] | None:
        """What it answers; None where it does not in time."""
        number = next(self._ids)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        self.say(n=number, **message)
        try:
            async with asyncio.timeout(CONFIRM_S):
                return await answer
        except TimeoutError:
            return None
        finally:
            del self._asked[number]

    def answered(self, message: dict[str, Any]) -> None:
        """It answered a question, perhaps too late."""
        answer = self._asked.get(message["done"])
        if answer is not None and not answer.done():
            answer.set_result(message)

    def kill(self) -> None:
        """End it now; its requests in flight are lost, and counted."""
        with suppress(ProcessLookupError):
            self.process.kill()


class Crew(SplitKeeper):
    """Keeps the split of a service that several processes serve. `argv` are the options of each of them."""

    def __init__(self, snapshot: Path, serving: Serving, argv: Sequence[str]) -> None:
        super().__init__(snapshot)
        self._argv, self._wanted = list(argv), serving.settings.workers
        self._settings = settings_text(serving.settings)
        self._merging = Merging(self.boot, serving.interval_s, monotonic())
        self._users = Met(self._merging)
        self._told = self.store.split
        self._hands: dict[int, Hand] = {}
        self._ids = itertools.count()
        self._gone = GatewayCounters()
        self._heard_of: dict[int, Hand] = {}
        """Whose counts are not among those of who is gone: one that is ended may still have said something."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._door: socket.socket | None = None
        self._is_ending = False
        self._drain_s = serving.settings.drain_s

    # What the gateway asks of whoever serves.

    async def open(self, door: socket.socket) -> None:
        """Let users in: the first worker is there."""
        self._door = door
        await self._hire()

    def duties(self) -> Sequence[Coroutine[Any, Any, None]]:
        """Keeping the split, and the crew complete."""
        return self.watch(), self._staff()

    def decided_after(self, number: int) -> tuple[Stratum, ...]:
        """The evidence of all workers after an interval."""
        self.tick(monotonic())
        return self._merging.decided_after(number)

    def exposition(self) -> bytes:
        """The sums over all workers, those that are gone included."""
        total = GatewayCounters()
        for plain in (self._gone.plain(), *(hand.counters for hand in self._heard_of.values())):
            if plain is not None:
                total.add(plain)
        total.share = self.store.split.canary_pct / 100
        total.lease_left_s = max(0.0, self.store.lease_left_s(monotonic()) or 0.0)
        return total.text()

    async def farewell(self) -> None:
        """Everybody finishes what is in flight."""
        self._is_ending = True
        hands = list(self._hands.values())
        for hand in hands:
            with suppress(ProcessLookupError):
                hand.process.send_signal(signal.SIGTERM)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._drain_s + FAREWELL_S + LAST_WORDS_S + 1.0):
                await asyncio.gather(*(hand.process.wait() for hand in hands))
        for hand in hands:
            hand.kill()

    # The split.

    def tick(self, now_s: float) -> None:
        """Intervals end in all workers alike, and users count once over all of them."""
        self._users.expire(self._told.routes, now_s - LATE_S)
        if self._merging.cut(now_s, self._told):
            for hand in self._hands.values():
                hand.say(do="cut", interval=self._merging.number)

    def changed(self, now_s: float) -> None:  # noqa: ARG002  the lease has ended, and its keeper's clock said so
        """The lease has ended: everybody is told at once, and who does not confirm is replaced."""
        self._later(self._lower(self.store.split))

    async def _lower(self, split: TrafficSplit) -> None:
        await self._tell(split, None)

    async def change(self, wanted: TrafficSplit, expected: tuple[int, int]) -> TrafficSplit:
        """Make a split current. Held where it is a larger share that not every worker confirmed."""
        async with self.changing:
            before = self.store.split
            checked = await asyncio.to_thread(self.prepare, wanted, expected)
            if checked == before:
                return before
            try:
                self.store.check(wanted, expected)  # the lease may have ended while it was written
                await self._raise_or_lower(before, checked)
                return self.store.put(wanted, expected, monotonic())
            except (Unconfirmed, Refused):
                self.snapshot.write(self.store.split)
                await self._tell(self.store.split, self.store.lease_left_s(monotonic()))
                raise

    async def _raise_or_lower(self, before: TrafficSplit, checked: TrafficSplit) -> None:
        """Tell everybody. Held where a larger share is not confirmed; a smaller one goes on without who is mute."""
        unconfirmed = await self._tell(checked, checked.lease_s)
        if unconfirmed and not _is_no_raise(before, checked):
            raise Unconfirmed(f"{unconfirmed} of {self._wanted} workers did not confirm and are replaced")

    async def _tell(self, split: TrafficSplit, lease_left_s: float | None) -> int:
        """Tell everybody, and end who does not confirm: how many that are."""
        is_step, self._told = split.routes != self._told.routes, split
        self._merging.cut(monotonic(), split)
        if is_step:
            self._users.step(split.routes, self._merging.number)
        hands = list(self._hands.values())
        answers = await asyncio.gather(*(self._give(hand, split, lease_left_s) for hand in hands))
        silent = [hand for hand, is_confirmed in zip(hands, answers, strict=True) if not is_confirmed]
        for hand in silent:
            hand.kill()
            self._lose(hand)
        return len(silent)

    async def _give(self, hand: Hand, split: TrafficSplit, lease_left_s: float | None) -> bool:
        number = self._merging.number
        said = await hand.ask(do="split", split=split.as_dict(), lease_left_s=lease_left_s, interval=number)
        return said is not None

    # The workers.

    async def _staff(self) -> None:
        """Replace who is gone."""
        while True:
            await asyncio.sleep(TICK_S)
            if len(self._hands) < self._wanted and not self._is_ending:
                await self._hire()

    async def _hire(self) -> None:
        """Start a worker; it serves once it has the split."""
        assert self._door is not None  # noqa: S101  the door was opened first
        hand, reader = await self._started(self._door)
        self._later(self._listen(hand, reader))
        try:
            async with asyncio.timeout(START_S):
                await hand.is_ready.wait()
        except TimeoutError:
            hand.kill()
            return
        async with self.changing:
            # Before it confirms: an interval that ends meanwhile ends for it, too, and is awaited from it.
            self._hands[hand.number] = hand
            self._merging.joins(hand.number)
            if not await self._give(hand, self._told, self.store.lease_left_s(monotonic())):
                hand.kill()
                self._lose(hand)

    async def _started(self, door: socket.socket) -> tuple[Hand, asyncio.StreamReader]:
        ours, theirs = socket.socketpair()
        memory_fd = os.memfd_create("shipway-worker")
        os.ftruncate(memory_fd, MEMORY_BYTES)
        memory = mmap.mmap(memory_fd, MEMORY_BYTES)
        given = (theirs.fileno(), memory_fd, door.fileno())
        safe = ["-P"] if sys.flags.safe_path else []
        process = await asyncio.create_subprocess_exec(
            *[sys.executable, *safe, "-m", "pipelines.serving.worker", *self._argv],
            env={**os.environ, VARIABLE: ",".join([*map(str, given), self.boot]), SETTINGS: self._settings},
            pass_fds=given,
        )
        theirs.close()
        os.close(memory_fd)
        hand = Hand(next(self._ids), process, memory)
        reader, hand.writer = await asyncio.open_connection(sock=ours, limit=MOST_LINE_BYTES)
        return hand, reader

    async def _listen(self, hand: Hand, reader: asyncio.StreamReader) -> None:
        """What a worker says, until it is gone."""
        self._heard_of[hand.number] = hand
        with suppress(ConnectionError):
            while line := await reader.readline():
                self._heard(hand, orjson.loads(line))
        await hand.process.wait()
        hand.is_ready.set()
        self._lose(hand)
        del self._heard_of[hand.number]
        if hand.counters is not None:
            self._gone.add(hand.counters)

    def _lose(self, hand: Hand) -> None:
        """It serves no more, and what it had in flight is lost."""
        if self._hands.pop(hand.number, None) is not None:
            stable, canary = hand.in_flight
            self._merging.leaves(hand.number, (stable, canary))
            self._gone.count_lost({"stable": stable, "canary": canary})

    def _heard(self, hand: Hand, said: dict[str, Any]) -> None:
        if "ready" in said:
            hand.is_ready.set()
        elif "done" in said:
            hand.answered(said)
        elif "stratum" in said:
            self._merging.said(hand.number, Stratum.from_dict(said["stratum"]))
        elif "met" in said:
            self._users.heard([Meeting(**met) for met in said["met"]], self._told.routes)
        elif "counters" in said:
            hand.counters = said["counters"]
        elif "label" in said:
            self._later(self._pass_label(hand, said))
        elif "figures" in said:
            hand.say(do="figures", id=said["id"], body=self.exposition().decode())

    async def _pass_label(self, hand: Hand, said: dict[str, Any]) -> None:
        """Ask the others whose answer that was."""
        others = [other for other in self._hands.values() if other is not hand]
        answers = await asyncio.gather(*(other.ask(do="label", label=said["label"]) for other in others))
        found = next(
            (a for a in answers if a is not None and a["status"] != 404), {"status": 404, "body": said["body"]}
        )
        hand.say(do="labelled", id=said["id"], status=found["status"], body=found["body"])

    def _later(self, what: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(what)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _is_no_raise(before: TrafficSplit, after: TrafficSplit) -> bool:
    """Whether nobody meets what he did not meet before: the way home, a smaller share, or a renewal."""
    is_same = (after.stable, after.canary) == (before.stable, before.canary)
    return after.is_home_of(before) or (is_same and after.canary_pct <= before.canary_pct)
