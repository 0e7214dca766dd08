"""One process, one service: every request gets an arm by the current split, and the judge gets honest counts.

The data port serves users on loopback. Whoever may change traffic speaks to the admin socket (mode 0600) instead.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import secrets
import signal
import socket
import sys
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

from pipelines.serving.assignment import Assignment, Rule
from pipelines.serving.attributes import Attributes
from pipelines.serving.chance import Chance
from pipelines.serving.door import given_door
from pipelines.serving.feedback import is_feedback, take_feedback
from pipelines.serving.gateway_admin import Admin
from pipelines.serving.gateway_metrics import GatewayCounters
from pipelines.serving.http1_client import ClientConnection, Clients, Served
from pipelines.serving.http1_request import Request
from pipelines.serving.intervals import Intervals
from pipelines.serving.labels import Labels
from pipelines.serving.limits import Limits, Load, with_files
from pipelines.serving.proxying import Proxy
from pipelines.serving.split import Arm, TrafficSplit
from pipelines.serving.split_store import SplitStore

TICK_S = 0.05
TICKS_A_ROUND = 10
"""Who waits for a client is asked this seldom."""
LABEL_S = 900.0
DRAIN_S = 10.0
FAREWELL_S = 0.3
"""So long a gateway that ends says so with each answer, before it closes the connections that nobody uses."""
EXIT_INPUT, EXIT_PORT_TAKEN = 2, 4
LIMITS = Limits()
ADMIN_LIMITS = Limits(connections=64)


class Gateway:
    """The split, its snapshot, and the evidence of one service."""

    def __init__(
        self,
        snapshot: Path,
        interval_s: float,
        timeout_s: float,
        slices: Sequence[str] = (),
        label_s: float = LABEL_S,
        limits: Limits = LIMITS,
        rule: Rule | None = None,
        token: str = "",
    ) -> None:
        self._snapshot = snapshot
        self.boot = uuid.uuid4().hex[:12]
        self.store = SplitStore(_read_snapshot(snapshot), self.boot)
        self.intervals = Intervals(self.boot, interval_s, monotonic())
        self.counters = GatewayCounters()
        self.labels = Labels(self.intervals, label_s)
        load = Load()
        self.proxy = Proxy(
            lambda: self.store.split,
            self.intervals,
            self.counters,
            timeout_s,
            Attributes(slices),
            self.labels,
            # Chance must be unpredictable to clients, and independent of what a request holds.
            Assignment(Chance().random, rule, token),
            limits,
            load,
        )
        self.clients = Clients(limits, load, self._serve)
        self._write_snapshot(self.store.split)

    def put(self, wanted: TrafficSplit, expected: tuple[int, int]) -> TrafficSplit:
        """Make a split current: on the disk first, then in force. OSError where the disk refuses it.

        The way home is not held up by a full disk: a gateway that restarts comes back all-stable in any case.
        """
        checked = self.store.check(wanted, expected)
        try:
            self._write_snapshot(checked)
        except OSError:
            if not checked.is_home_of(self.store.split):
                raise
        split = self.store.put(wanted, expected, monotonic())
        self._changed()
        return split

    def _serve(self, client: ClientConnection, request: Request) -> Served | None:
        """A label, or a question to an arm."""
        if is_feedback(request):
            take_feedback(client, request, self.labels, self.counters)
            return None
        return self.proxy.serve(client, request)

    async def sweep(self) -> None:
        """End what has waited too long."""
        for turn in itertools.count():
            await asyncio.sleep(TICK_S)
            self.proxy.sweep(monotonic())
            if turn % TICKS_A_ROUND == 0:
                self.clients.sweep(monotonic())
                self.proxy.tidy(monotonic())

    async def farewell(self) -> None:
        """Finish what is in flight. A client that is told so does not send its next request to a closing connection."""
        self.clients.is_ending = True
        await asyncio.sleep(FAREWELL_S)
        self.clients.say_goodbye()
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                await self.clients.all_gone.wait()
        self.clients.cut()
        self.proxy.replicas.close()

    async def watch(self) -> None:
        """Cut intervals, and take traffic home when a lease ends."""
        while True:
            await asyncio.sleep(TICK_S)
            self.intervals.cut(monotonic(), self.store.split)
            self.labels.expire(monotonic())
            self.proxy.users.expire(self.store.split.routes, monotonic())
            # Asked again at the end: a renewal may arrive while stable is looked at.
            is_overdue = self.store.is_overdue(monotonic()) and not await self._home_is_dead()
            if is_overdue and self.store.is_overdue(monotonic()):
                self._expire()

    def _expire(self) -> None:
        split = self.store.expired()
        with suppress(OSError):  # a full disk does not keep users at a canary that nobody watches
            self._write_snapshot(split)
        self.store.adopt(split)
        self._changed()
        print(f"lease expired: all traffic to stable, generation {split.generation}", flush=True)  # noqa: T201

    async def _home_is_dead(self) -> bool:
        """Whether stable cannot be reached while the canary can: traffic never moves to a dead arm."""
        split = self.store.split
        if split.stable is None or split.canary is None or await _is_reachable(split.stable):
            return False
        return await _is_reachable(split.canary)

    def _changed(self) -> None:
        self.intervals.cut(monotonic(), self.store.split)
        self.counters.share = self.store.split.canary_pct / 100

    def _write_snapshot(self, split: TrafficSplit) -> None:
        """Durable before it is acknowledged: written aside, synced, then renamed."""
        temp = self._snapshot.with_suffix(".tmp")
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


def _read_snapshot(path: Path) -> TrafficSplit:
    """The last split; an unreadable snapshot is an empty one: nobody is served until somebody says what is stable."""
    try:
        return TrafficSplit.from_dict(json.loads(path.read_text()))
    except (OSError, ValueError, KeyError, TypeError):
        return TrafficSplit()


async def serve(gateway: Gateway, host: str, port: int, admin_socket: Path) -> None:
    """Serve until SIGTERM; then finish what is in flight."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    door = given_door(os.environ)
    where: dict[str, Any] = {"sock": door} if door else {"host": host, "port": port}
    listening = await loop.create_server(gateway.clients.protocol, backlog=1024, **where)
    controllers = Clients(ADMIN_LIMITS, Load(), Admin(gateway).serve)
    admin = await loop.create_unix_server(controllers.protocol, sock=_private_socket(admin_socket))
    # Without its watch a gateway would leave users at a canary for good: it ends, and comes back all-stable.
    tasks = [loop.create_task(duty()) for duty in (gateway.watch, gateway.sweep)]
    for task in tasks:
        task.add_done_callback(lambda _: stopped.set())
    await stopped.wait()
    broken = next((task.exception() for task in tasks if task.done()), None)
    tasks[0].cancel()
    listening.close()
    await gateway.farewell()
    tasks[1].cancel()
    admin.close()
    controllers.cut()
    if broken is not None:
        raise broken


def _private_socket(path: Path) -> socket.socket:
    """A Unix socket that only its owner may open, from its first moment on."""
    path.unlink(missing_ok=True)
    before = os.umask(0o177)
    try:
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listening.bind(str(path))
    finally:
        os.umask(before)
    return listening


def main(argv: Sequence[str] | None = None) -> None:
    """Be one service's gateway."""
    import uvloop

    options = _parser().parse_args(argv)
    limits = with_files(LIMITS)
    try:
        token = token_in(options.override_token) if options.override_token else ""
    except OSError as error:
        print(f"E_TOKEN: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(EXIT_INPUT)
    gateway = Gateway(
        options.snapshot,
        options.interval_s,
        options.timeout_s,
        options.slices,
        options.label_s,
        limits,
        options.assign,
        token,
    )
    try:
        uvloop.run(serve(gateway, options.host, options.port, options.admin_socket))
    except OSError as error:
        print(f"E_PORT: cannot listen on {options.port}: {error.strerror}", file=sys.stderr)  # noqa: T201
        sys.exit(EXIT_PORT_TAKEN)


def token_in(path: Path) -> str:
    """The token in a file that only its owner may read; a new one where there is none. OSError where others may."""
    with suppress(FileExistsError), os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(secrets.token_hex(16))
    if path.stat().st_mode & 0o077:
        raise PermissionError(f"{path} can be read by others: chmod 600 is expected")
    return path.read_text().strip()


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pipelines.serving.gateway", description=__doc__)
    parser.add_argument("--service", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1", help="never anything else by default")
    parser.add_argument("--admin-socket", type=Path, required=True)
    parser.add_argument("--snapshot", type=Path, required=True, help="where the split outlives this process")
    parser.add_argument("--interval-s", type=float, default=1.0, help="length of an interval of evidence")
    parser.add_argument("--timeout-s", type=float, default=10.0, help="time for an answer")
    parser.add_argument(
        "--slices", type=_names, default=(), help="headers, or body.PATH, by comma: each value is judged"
    )
    parser.add_argument("--label-s", type=float, default=LABEL_S, help="how long an answer may be labelled")
    parser.add_argument("--assign", type=Rule.from_text, help="header:NAME or cookie:NAME: users stay at their arm")
    parser.add_argument(
        "--override-token", type=Path, help="a file whose token lets smoke tests choose an arm; it is made"
    )
    return parser


if __name__ == "__main__":
    main()
