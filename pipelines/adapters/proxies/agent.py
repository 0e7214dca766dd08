"""One process for each proxy that is not Shipway's own: it starts it, tells it the split, and holds the lease.

    python -m pipelines.adapters.proxy_keeper --router haproxy --port P --admin-socket S --snapshot F

It is a service's gateway unit and speaks the gateway's admin socket, so a controller sees no difference. What is read
is what the proxy itself says, compared with what was ordered. Where Shipway is silent for as long as the lease lasts,
the agent takes everything to stable. Neither lives without the other: a proxy whose agent is killed ends with it, a
agent whose proxy ends goes too, and whoever supervises them starts both again, all-stable.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import threading
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from time import monotonic

from evals.signals.strata import Stratum
from pipelines.adapters.proxies.admin import serve_admin
from pipelines.adapters.proxies.lanes import LaneIntervals
from pipelines.adapters.proxies.proxy import Proxy, ProxyTrouble
from pipelines.errors import BadInput
from pipelines.records.settings import GatewaySettings
from pipelines.records.split import Generation, TrafficSplit
from pipelines.serving.settings_file import read_settings
from pipelines.serving.split.lease import TICK_S, ended_lease
from pipelines.serving.split.snapshot import SplitSnapshot
from pipelines.serving.split.store import SplitStore

COUNT_S = 0.2
INTERVAL_S = 1.0
PRUNE_S = 1.0
TROUBLE_S = 10.0
"""A proxy that serves, and does not answer its agent for a moment on a busy machine, is not ended for it."""

EXIT_INPUT, EXIT_CANNOT_START, EXIT_PROXY_ENDED = 2, 3, 5


class Agent:
    """The split of one service, its lease, and what its proxy counted. Thread-safe: one thing happens at a time."""

    def __init__(self, proxy: Proxy, snapshot: Path, timeout_s: float, interval_s: float = INTERVAL_S) -> None:
        self._proxy, self._snapshot, self._interval_s = proxy, SplitSnapshot(snapshot), interval_s
        self._lock = threading.Lock()
        self.boot = uuid.uuid4().hex[:12]
        self._store = SplitStore(self._snapshot.read(), self.boot)
        split = self._store.split
        self._snapshot.write(split)
        proxy.start(split)
        self._intervals = LaneIntervals(self.boot, split, interval_s, timeout_s, monotonic())
        self._count_at_s, self._prune_at_s = 0.0, monotonic() + PRUNE_S
        self.is_lost = False
        """Whether the proxy could not be told to go home: then it must end."""

    def read(self) -> TrafficSplit:
        """The split as the proxy has it now. ProxyTrouble where that is not what was ordered."""
        with self._lock:
            return self._read_back(self._store.split)

    def put(self, wanted: TrafficSplit, expected: Generation) -> TrafficSplit:
        """Make a split current. Refused for a stale writer; ProxyTrouble where the proxy does not take it.

        Then everything goes to stable, if the proxy can be told anything at all. OSError where the disk is full; the
        way home is not held up by that.
        """
        with self._lock:
            before = self._store.split
            checked = self._store.check(wanted, expected)
            if checked == before:
                return self._read_back(before)
            self._snapshot.replace(before, checked)
            try:
                self._route(checked)
                self._read_back(checked)
            except ProxyTrouble:
                self._take_home(before.home((before.generation[0], before.generation[1] + 1), "not_applied"))
                raise
            return self._store.put(wanted, expected, monotonic())

    def decided_after(self, number: int) -> tuple[Stratum, ...]:
        """The evidence after an interval."""
        with self._lock:
            return self._intervals.decided_after(number)

    def metrics(self) -> bytes:
        """The proxy's own Prometheus page."""
        return self._proxy.metrics()

    async def expire(self) -> None:
        """Take traffic home when the lease has ended, unless stable is dead. ProxyTrouble where that fails."""
        if await ended_lease(self._store) is not None:
            await asyncio.to_thread(self._expire)

    def _expire(self) -> None:
        with self._lock:
            if self._store.is_overdue(monotonic()):  # nobody renewed it while this waited for its turn
                self._take_home(self._store.expired())
                print(f"lease expired: all traffic to stable, {self._store.split.generation}", flush=True)  # noqa: T201

    def count(self) -> None:
        """Read the counters now and then, and cut intervals. ProxyTrouble where it does not answer."""
        now_s = monotonic()
        if now_s < self._count_at_s:
            return
        self._count_at_s = now_s + min(COUNT_S, self._interval_s / 4)
        with self._lock:
            self._intervals.seen(self._proxy.readings(), now_s)
            lane = self._intervals.free_lane()
            if lane is not None and self._intervals.is_over(now_s):
                self._proxy.apply(self._store.split, lane)
                self._intervals.cut(lane, self._store.split, monotonic())
            if now_s >= self._prune_at_s:
                self._proxy.prune(self._store.split)
                self._prune_at_s = now_s + PRUNE_S

    def _route(self, split: TrafficSplit) -> None:
        """The proxy obeys a split; other shares or arms get a lane of their own."""
        if split.routes == self._store.split.routes:
            self._proxy.apply(split, self._intervals.lane)
            return
        self._intervals.seen(self._proxy.readings(), monotonic())
        free = self._intervals.free_lane()
        lane = self._intervals.lane if free is None else free
        self._proxy.apply(split, lane)
        self._intervals.cut(lane, split, monotonic())
        self._prune_at_s = monotonic() + PRUNE_S

    def _take_home(self, home: TrafficSplit) -> None:
        """The agent's own decision. Where the proxy does not take it, both end: that is a way home, too."""
        self._snapshot.replace(self._store.split, home)
        try:
            self._route(home)
        except ProxyTrouble:
            self.is_lost = True
            raise
        self._store.adopt(home)

    def _read_back(self, ordered: TrafficSplit) -> TrafficSplit:
        generation, shown = self._proxy.shown()
        if generation != ordered.generation or _addresses(shown) != _addresses(ordered):
            found = f"generation {generation}, {_addresses(shown)}"
            raise ProxyTrouble(f"the proxy shows {found}; {ordered.generation}, {_addresses(ordered)} was ordered")
        return replace(ordered, canary_pct=shown.canary_pct) if ordered.canary else ordered


def _addresses(split: TrafficSplit) -> tuple[frozenset[str], frozenset[str], float]:
    stable, canary = (frozenset(arm.urls) if arm else frozenset() for arm in (split.stable, split.canary))
    return stable, canary, round(split.canary_pct, 3)


async def keep(agent: Agent, proxy: Proxy, admin_socket: Path) -> int:
    """Until SIGTERM, or until the proxy ends or cannot be told to go home; then it is stopped."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    admin = await serve_admin(agent, admin_socket)
    code = 0
    try:
        answered_s = monotonic()
        while not stopped.is_set() and code == 0:
            trouble = await _turn(agent)
            answered_s = answered_s if trouble else monotonic()
            if agent.is_lost or not proxy.is_running() or monotonic() - answered_s > TROUBLE_S:
                print(f"E_ROUTER: {trouble or 'the proxy ended'}", flush=True)  # noqa: T201  the reason that is shown
                code = EXIT_PROXY_ENDED
            with suppress(TimeoutError):
                await asyncio.wait_for(stopped.wait(), TICK_S)
    finally:
        await admin.cleanup()
        await asyncio.to_thread(proxy.stop)
    return code


async def _turn(agent: Agent) -> str:
    """The lease first, then the counters; what went wrong, or ""."""
    try:
        await agent.expire()
        await asyncio.to_thread(agent.count)
    except ProxyTrouble as error:
        return str(error)
    return ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Be one service's gateway, with a proxy that others made."""
    options = _parser().parse_args(arguments)
    try:
        told = read_settings(options.settings, GatewaySettings) if options.settings else GatewaySettings()
    except BadInput as error:
        print(error, flush=True)  # noqa: T201
        return EXIT_INPUT
    proxy = _proxy(options.router, options.port, told.timeout_s, options.admin_socket)
    try:
        agent = Agent(proxy, options.snapshot, told.timeout_s, options.interval_s)
    except (ProxyTrouble, OSError) as error:
        print(f"E_START: {error}", flush=True)  # noqa: T201
        proxy.stop()
        return EXIT_CANNOT_START
    return asyncio.run(keep(agent, proxy, options.admin_socket))


def _proxy(router: str, port: int, timeout_s: float, admin_socket: Path) -> Proxy:
    """The program that was asked for; the other one is not imported."""
    if router == "haproxy":
        from pipelines.adapters.proxies.haproxy import HaProxy

        return HaProxy(port, timeout_s, admin_socket)
    from pipelines.adapters.proxies.envoy import EnvoyProxy

    return EnvoyProxy(port, timeout_s, admin_socket)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pipelines.adapters.proxy_keeper", description=__doc__)
    parser.add_argument("--router", choices=("haproxy", "envoy"), required=True)
    parser.add_argument("--service", default="")
    parser.add_argument("--port", type=int, required=True, help="on loopback")
    parser.add_argument("--admin-socket", type=Path, required=True)
    parser.add_argument("--snapshot", type=Path, required=True, help="where the split outlives this process")
    parser.add_argument("--settings", type=Path, help="a file of mode 0600: how it behaves")
    parser.add_argument("--interval-s", type=float, default=INTERVAL_S, help="length of an interval of evidence")
    return parser
