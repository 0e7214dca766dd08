"""What does a process that serves users consist of?"""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

from evals.signals.strata import Stratum
from pipelines.records.settings import GatewaySettings
from pipelines.serving.evidence.attributes import Attributes
from pipelines.serving.evidence.counters import GatewayCounters
from pipelines.serving.evidence.intervals import Intervals
from pipelines.serving.evidence.labels import Labels, answer_of, is_feedback
from pipelines.serving.http1.client import ClientConnection, Clients
from pipelines.serving.http1.limits import Limits, Load
from pipelines.serving.http1.request import Request
from pipelines.serving.http1.served import Served
from pipelines.serving.meter.meter import Meter
from pipelines.serving.requests import figures
from pipelines.serving.requests.assignment import Assignment, draws, rule_of
from pipelines.serving.requests.drain import Leaving
from pipelines.serving.requests.exchanges import ASSIGNMENT, Exchanges
from pipelines.serving.requests.recorder import Recorder
from pipelines.serving.requests.repeats import Repeats
from pipelines.serving.requests.shadow import Shadow
from pipelines.serving.split.keeper import SplitKeeper
from pipelines.serving.split.lease import TICK_S

TICKS_A_ROUND = 10
"""Who waits for a client is asked this seldom."""
BACKLOG = 1024
LIMITS = Limits()
LAST_WORDS_S = 0.2
"""So long the ends of streams are given to reach their clients."""
FAREWELL_S = 0.3
"""So long a gateway that ends says so with each answer, before it closes the connections that nobody uses."""


@dataclass(frozen=True)
class Serving:
    """How users are served. `token` lets smoke tests choose an arm."""

    interval_s: float = 1.0
    settings: GatewaySettings = field(default_factory=GatewaySettings)
    limits: Limits = LIMITS
    token: str = ""
    record: Path | None = None
    """Where the requests are kept that `settings.record` names."""


class DataPlane(SplitKeeper):
    """Serves users by a split and counts what the arms do."""

    def __init__(
        self,
        snapshot: Path | None,
        serving: Serving,
        boot: str = "",
        in_flight: list[int] | memoryview[int] | None = None,
    ) -> None:
        super().__init__(snapshot, boot)
        self.intervals = Intervals(self.boot, serving.interval_s, monotonic(), in_flight)
        load = Load()
        self.counters = GatewayCounters(load)
        settings = serving.settings
        self.labels = Labels(self.intervals, settings.label_s)
        self.recorder = (
            Recorder(serving.record, settings.record, self.counters.kept, rule_of(settings.assign))
            if serving.record and settings.record
            else None
        )
        self.proxy = Exchanges(
            self.store,
            self.intervals,
            self.counters,
            settings.timeout_s,
            Attributes(settings.slices),
            self.labels,
            # Chance must be unpredictable to clients, and independent of what a request holds.
            Assignment(draws().__next__, rule_of(settings.assign), serving.token),
            serving.limits,
            Repeats(settings.idempotent),
            self.recorder,
            names_arms=settings.arm_header,
        )
        if settings.api == "openai":
            self.proxy.meter = Meter(settings.objective, settings.borderline, settings.price, settings.tenant)
        if settings.shadow is not None:
            replicas = self.proxy.replicas
            self.proxy.shadow = Shadow(settings.shadow, replicas, settings.timeout_s, self._count_shadow)
        self.clients = Clients(serving.limits, load, self.serve)
        self._are_figures_public = settings.metrics == "public"
        self._listening: asyncio.Server | None = None
        self._drain_s = settings.drain_s
        self._leaving = Leaving(0.0 if settings.convicted_streams == "cut" else settings.drain_s)

    def _count_shadow(self, outcome: str, agreement: str, took_ms: float) -> None:
        self.intervals.shadowed(outcome, agreement, took_ms)
        self.counters.shadowed(outcome, agreement, took_ms)

    async def open(self, door: socket.socket) -> None:
        """Let users in."""
        loop = asyncio.get_running_loop()
        self._listening = await loop.create_server(self.clients.protocol, sock=door, backlog=BACKLOG)

    def duties(self) -> Sequence[Coroutine[Any, Any, None]]:
        """What goes on all the time; without any of it the process ends."""
        return self.watch(), self.sweep()

    def serve(self, client: ClientConnection, request: Request) -> Served | None:
        """A label, a question to the gateway itself, or one to an arm."""
        if request.method == b"POST" and is_feedback(request):
            return self.take_feedback(client, request)
        if figures.are_asked(request.target):
            return self._of_figures(client, request)
        if self.proxy.meter is not None and request.target.partition(b"?")[0] == ASSIGNMENT:
            self.proxy.tell_assignment(client, request)
            return None
        return self.proxy.serve(client, request)

    def take_feedback(self, client: ClientConnection, request: Request) -> Served | None:
        """A label or a rating of an earlier answer."""
        status, body = answer_of(request.body, self.labels, self.counters)
        client.reply(status, body, request.named.get(b"x-request-id", b""))
        return None

    def _of_figures(self, client: ClientConnection, request: Request) -> Served | None:
        """A request for what is counted here: no arm hears of it."""
        own_id = request.named.get(b"x-request-id", b"")
        if self._are_figures_public and request.method in {b"GET", b"HEAD"}:
            return self.show_figures(client, own_id)
        client.refuse(figures.READ_ONLY if self._are_figures_public else figures.NOT_YOURS, own_id)
        return None

    def show_figures(self, client: ClientConnection, own_id: bytes) -> Served | None:
        """What is counted here."""
        client.reply(200, self.exposition(), own_id, kind=figures.KIND)
        return None

    def tick(self, now_s: float) -> None:
        """What was to be waited for is over."""
        self.intervals.cut(now_s, self.store.split)
        self.labels.expire(now_s)
        self.proxy.users.expire(self.store.split.routes, now_s)

    def changed(self, now_s: float) -> None:
        """No interval holds two splits."""
        self.intervals.cut(now_s, self.store.split)
        self.counters.share = self.store.split.canary_pct / 100
        self._leaving.changed(self.store.split, now_s)
        self._leaving.sweep(tuple(self.proxy.open), now_s)

    def decided_after(self, number: int) -> tuple[Stratum, ...]:
        """The evidence after an interval."""
        self.tick(monotonic())
        return self.intervals.decided_after(number)

    def exposition(self) -> bytes:
        """What Prometheus is told."""
        self.counters.lease_left_s = max(0.0, self.store.lease_left_s(monotonic()) or 0.0)
        return self.counters.text()

    async def sweep(self) -> None:
        """End what has waited too long."""
        for turn in itertools.count():
            await asyncio.sleep(TICK_S)
            self.proxy.sweep(monotonic())
            self._leaving.sweep(tuple(self.proxy.open), monotonic())
            if turn % TICKS_A_ROUND == 0:
                self.clients.sweep(monotonic())
                self.proxy.tidy(monotonic())

    async def farewell(self) -> None:
        """Finish what is in flight. A client that is told so does not send its next request to a closing connection."""
        self.clients.is_ending = True
        if self._listening is not None:
            self._listening.close()
        await asyncio.sleep(FAREWELL_S)
        self.clients.say_goodbye()
        if not await self._are_gone_within(self._drain_s):
            for exchange in tuple(self.proxy.open):
                exchange.withdraw()
            await self._are_gone_within(LAST_WORDS_S)
        self.clients.cut()
        self.proxy.replicas.close()
        if self.recorder is not None:
            self.recorder.close()

    async def _are_gone_within(self, seconds: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.clients.all_gone.wait()
        return self.clients.all_gone.is_set()
