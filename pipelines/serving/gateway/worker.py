"""One of several processes that serve users: it does what the keeper of the split says, and tells it what it saw.

It was given a listening socket, a socket to its keeper, and the memory of two numbers, its undecided requests, which
its keeper reads when it is gone. Without its keeper it goes home, finishes what is in flight, and ends.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import mmap
import os
import signal
import socket
import sys
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from time import monotonic
from typing import Any

import orjson

from pipelines.errors import BadInput
from pipelines.records.settings import GatewaySettings
from pipelines.records.split import TrafficSplit
from pipelines.serving.evidence.labels import answer_of, label_of
from pipelines.serving.gateway.meetings import Meetings
from pipelines.serving.http1.answer import JSON, Refusal
from pipelines.serving.http1.client import ClientConnection
from pipelines.serving.http1.request import Request
from pipelines.serving.http1.served import Served, Waiting
from pipelines.serving.requests import figures
from pipelines.serving.requests.data_plane import DataPlane, Serving
from pipelines.serving.settings_file import settings_in

VARIABLE = "SHIPWAY_WORKER"
"""Names what this process was given: the descriptors of its keeper, its memory and its door, and the keeper's boot."""

SETTINGS = "SHIPWAY_WORKER_SETTINGS"
"""Holds the very settings of its keeper, whose file may be another one by now."""

REPORT_S = 0.05
"""What was decided and counted since the last time is said this often: so much of it a kill takes along."""
GRACE_S = 1.0
"""So much later than its keeper a worker ends a lease by itself."""

MEMORY_BYTES = 16
MOST_LINE_BYTES = 64 * 2**20


ASKED_S = 5.0
UNHEARD = Refusal(503, "E_BUSY", "the gateway's other workers have not answered in time")
"""What another one may know, and does not say: whose answer a label is of, or what all of them have counted."""


@dataclass(frozen=True)
class AskedOfOthers:
    """Who waits for what the other workers say, and which kind of text that is."""

    client: ClientConnection
    own_id: bytes
    until_s: float
    kind: bytes


class Worker(DataPlane):
    """Serves users by a split that somebody else keeps."""

    def __init__(self, serving: Serving, boot: str, in_flight: memoryview) -> None:
        super().__init__(None, replace(serving, interval_s=math.inf), boot, in_flight)
        self.proxy.users = self.meetings = Meetings(self.intervals)
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._ids = itertools.count()
        self._asked: dict[int, AskedOfOthers] = {}
        self._told = -1
        self._counted = b""

    async def obey(self, keeper: socket.socket, door: socket.socket) -> None:
        """Say that it is ready, and do what is said; it ends with its keeper."""
        self._reader, self._writer = await asyncio.open_connection(sock=keeper, limit=MOST_LINE_BYTES)
        self._say({"ready": os.getpid()})
        while line := await self._reader.readline():
            said = orjson.loads(line)
            match said["do"]:
                case "split":
                    await self._take(said, door)
                case "cut":
                    self.intervals.begin(said["interval"], monotonic(), self.store.split)
                case "label":
                    status, body = answer_of(orjson.dumps(said["label"]), self.labels, self.counters)
                    self._say({"done": said["n"], "status": status, "body": body.decode()})
                case "labelled":
                    self._answer_asked(said["id"], said["status"], said["body"].encode())
                case "figures":
                    self._answer_asked(said["id"], 200, said["body"].encode())
        fence, n = self.store.split.generation
        self.store.adopt(self.store.split.home((fence, n), "the gateway's keeper is gone"))

    async def _take(self, said: dict[str, Any], door: socket.socket) -> None:
        """Another split, or another lease; the first one opens the door."""
        split, left_s = TrafficSplit.from_dict(said["split"]), said["lease_left_s"]
        if self.intervals.current.number < said["interval"]:
            self.intervals.begin(said["interval"], monotonic(), split)
        if split.routes != self.store.split.routes:
            self.meetings.begin(split.routes)
        self.store.adopt(split, monotonic() + left_s + GRACE_S if left_s is not None else None)
        self.changed(monotonic())
        if self._listening is None:
            await self.open(door)
        self._say({"done": said["n"]})

    def take_feedback(self, client: ClientConnection, request: Request) -> Served | None:
        """A label of an answer that another worker may have given."""
        status, body = answer_of(request.body, self.labels, self.counters)
        own_id = request.named.get(b"x-request-id", b"")
        if status != 404:
            client.reply(status, body, own_id)
            return None
        # What was checked is passed on, and nothing else that a client has written.
        request_id, score, version = label_of(orjson.loads(request.body))
        label = {"request_id": request_id, "score": score, "model_version": version}
        return self._ask(client, own_id, JSON, label=label, body=body.decode())

    def show_figures(self, client: ClientConnection, own_id: bytes) -> Served | None:
        """What all workers have counted, as their keeper knows it."""
        return self._ask(client, own_id, figures.KIND, figures=True)

    def _ask(self, client: ClientConnection, own_id: bytes, kind: bytes, **what: Any) -> Served:
        """Ask the keeper something that a client waits for."""
        number = next(self._ids)
        self._say({**what, "id": number})
        self._asked[number] = AskedOfOthers(client, own_id, monotonic() + ASKED_S, kind)
        return Waiting(partial(self._forget_asked, number))

    def _forget_asked(self, number: int) -> None:
        self._asked.pop(number, None)

    def _answer_asked(self, number: int, status: int, body: bytes) -> None:
        """To who still waits for it."""
        waiting = self._asked.pop(number, None)
        if waiting is not None:
            waiting.client.reply(status, body, waiting.own_id, kind=waiting.kind)

    def duties(self) -> Sequence[Coroutine[Any, Any, None]]:
        """Serving, and telling what was seen."""
        return *super().duties(), self._report()

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(REPORT_S)
            self.report()
            self.end_asked(monotonic())

    def end_asked(self, now_s: float) -> None:
        """Tell those who wait that the others have not answered in time."""
        for number in [number for number, waiting in self._asked.items() if waiting.until_s < now_s]:
            waiting = self._asked.pop(number)
            waiting.client.refuse(UNHEARD, waiting.own_id)

    def report(self) -> None:
        """Say what is decided and counted since the last time."""
        for stratum in self.intervals.decided_after(self._told):
            self._told = stratum.interval
            self._say({"stratum": stratum.as_dict()})
        if met := self.meetings.news():
            self._say({"met": [meeting.as_dict() for meeting in met]})
        counted = orjson.dumps({"counters": self.counters.plain()})
        if counted != self._counted:
            self._counted = counted
            self._write(counted)

    def _say(self, message: dict[str, Any]) -> None:
        self._write(orjson.dumps(message))

    def _write(self, line: bytes) -> None:
        if self._writer is not None:
            with suppress(RuntimeError):  # uvloop says so where the keeper is gone, which `obey` sees, too
                self._writer.write(line + b"\n")


async def work(worker: Worker, keeper: socket.socket, door: socket.socket) -> None:
    """Serve until the keeper is gone or says that it is enough; then finish what is in flight."""
    stopped, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    duties = [loop.create_task(duty) for duty in (worker.obey(keeper, door), *worker.duties())]
    for duty in duties:
        duty.add_done_callback(lambda _: stopped.set())
    await stopped.wait()
    await worker.farewell()
    worker.report()
    broken = [duty.exception() for duty in duties if duty.done() and duty.exception()]
    for duty in duties:
        duty.cancel()
    if broken and broken[0] is not None:
        raise broken[0]


def main(argv: Sequence[str]) -> None:
    """Be one worker."""
    import uvloop

    from pipelines.serving.gateway.options import EXIT_INPUT, options_of, serving_of, settings_of

    keeper_fd, memory_fd, door_fd, boot = os.environ[VARIABLE].split(",")
    memory = memoryview(mmap.mmap(int(memory_fd), MEMORY_BYTES)).cast("q")
    options, told = options_of(argv), os.environ.get(SETTINGS)
    try:
        serving = serving_of(options, settings_in(told, GatewaySettings, SETTINGS) if told else settings_of(options))
    except BadInput as error:
        print(error, file=sys.stderr)  # noqa: T201  the process's log
        sys.exit(EXIT_INPUT)
    worker = Worker(serving, boot, memory)
    sockets = [socket.socket(fileno=int(number)) for number in (keeper_fd, door_fd)]
    uvloop.run(work(worker, *sockets))
