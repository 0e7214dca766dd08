"""A real HAProxy behind the agent, driven and read through its stats socket.

Known limits: HAProxy keeps no latencies that could be counted over a threshold, no classes and no attributes, so its
strata have none; an interval is not cut while four earlier ones still have requests in flight (long streams).
"""

from __future__ import annotations

import csv
import io
import os
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path

from pipelines.adapters.proxies.haproxy_config import Binds, Entry, config_text, named, placed, plan_text, routes_of
from pipelines.adapters.proxies.lanes import ARMS, PLACES, Reading, Readings
from pipelines.adapters.proxies.proxy import ProxyTrouble
from pipelines.adapters.proxies.proxy_process import DRAIN_S, haproxy_program, start_tied, stop
from pipelines.records.split import Arm, Generation, TrafficSplit
from pipelines.serving.probes import UnixConnection
from pipelines.serving.sockets import given_door, private_socket

ANSWER_S = 2.0
START_S = 10.0
AT_ONCE = 40
"""So many commands fit into one line of its command line interface."""

ANSWERED, CUT = ("hrsp_1xx", "hrsp_2xx", "hrsp_3xx", "hrsp_4xx"), "srv_abrt"
COUNTED = (*ANSWERED, CUT)
"""Columns of a server: answers below 500, and those that it broke off."""


class HaProxy:
    """Implements `proxy.Proxy`."""

    def __init__(self, port: int, timeout_s: float, admin_socket: Path) -> None:
        self._timeout_s, self._port = timeout_s, port
        self._stats = admin_socket.with_suffix(".ha")
        self._exporter = admin_socket.with_suffix(".ex")
        self._map = admin_socket.with_suffix(".map")
        self._config = admin_socket.with_suffix(".cfg")
        self._arms = 0
        self._gone: Counter[tuple[str, str]] = Counter()
        """What servers that were deleted had counted, by backend and column: a backend's own counters go on."""
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, split: TrafficSplit) -> None:
        """Start it with this split; ProxyTrouble where it does not answer soon."""
        program = haproxy_program()
        if program is None:
            raise ProxyTrouble("haproxy is not installed: apt-get install haproxy")
        keys = {"plan": plan_text(split, 0, self._arms), **named(split, self._arms)}
        self._map.write_text("".join(f"{key} {value}\n" for key, value in keys.items()))
        door = given_door(os.environ)
        with private_socket(self._stats) as stats, private_socket(self._exporter) as exporter:
            users = f"fd@{door.fileno()}" if door else f"127.0.0.1:{self._port}"
            binds = Binds(users, stats.fileno(), exporter.fileno())
            self._config.write_text(config_text(split, self._map.name, binds, self._timeout_s, DRAIN_S))
            fds = [stats.fileno(), exporter.fileno(), *([door.fileno()] if door else [])]
            self._process = start_tied(
                [program, "-db", "-q", "-C", str(self._config.parent), "-f", self._config.name], fds
            )
        if door:
            door.close()
        self._wait()

    def _wait(self) -> None:
        deadline_s = time.monotonic() + START_S
        while self.is_running():
            try:
                self.shown()
            except ProxyTrouble:
                if time.monotonic() > deadline_s:
                    raise
                time.sleep(0.02)
            else:
                return
        raise ProxyTrouble("haproxy ended while it started")

    def apply(self, split: TrafficSplit, lane: int) -> None:
        """New addresses first, then the one value that requests are routed by; old addresses go later (`prune`)."""
        keys, wanted = self._keys(), named(split, self._arms)
        if {k: v for k, v in keys.items() if k != "plan" and k.split(".")[1] == str(self._arms)} != wanted:
            self._arms += 1
            self._add(split)
            wanted = named(split, self._arms)
            self._do(f"add map {self._map.name} {key} {name}" for key, name in wanted.items())
            if not wanted.items() <= self._keys().items():
                raise ProxyTrouble("haproxy did not take the names of new servers")
        self._do([f"set map {self._map.name} plan {plan_text(split, lane, self._arms)}"])

    def _add(self, split: TrafficSplit) -> None:
        wanted, have = placed(split), self._servers()
        self._do(f"add server {place} {entry.settings}" for place, entry in wanted.items() if place not in have)
        self._do(f"set server {place} state ready" for place in wanted)
        have = self._servers()
        refused = [place for place, entry in wanted.items() if have.get(place) != _state(entry)]
        if refused:
            raise ProxyTrouble(f"haproxy did not take the server {refused[0]}")

    def shown(self) -> tuple[Generation, TrafficSplit]:
        """Read from its map and its servers, nothing remembered."""
        keys, have = self._keys(), self._servers()
        try:
            plan = routes_of(keys)
            found = {
                arm: tuple(_url(have[f"{arm}_{plan.lane}/{name}"]) for name in names)
                for arm, names in plan.names.items()
            }
        except (KeyError, ValueError) as error:
            raise ProxyTrouble(f"haproxy shows no split: {error!r}") from None
        stable, canary = (Arm("", found[arm]) if found[arm] else None for arm in ARMS)
        lease_s = 1.0 if canary else None  # the agent holds it
        pct = plan.canary_pct if canary else 0.0
        return plan.generation, TrafficSplit(plan.generation, stable, canary, pct, lease_s)

    def readings(self) -> Readings:
        """What each arm's first attempts came to, in each lane."""
        rows = self._counters()
        return {place: self._reading(rows, backend) for backend, place in PLACES.items()}

    def prune(self, split: TrafficSplit) -> None:
        """Addresses without a use get no new request, and go once their connections have; so do their names."""
        wanted = placed(split)
        old = {place: is_ready for place, (_, _, is_ready) in self._servers().items() if place not in wanted}
        self._do(f"set server {place} state maint" for place, is_ready in old.items() if is_ready)
        self._delete([place for place, is_ready in old.items() if not is_ready])
        keys = [k for k in self._keys() if k != "plan" and k.split(".")[1] != str(self._arms)]
        self._do(f"del map {self._map.name} {key}" for key in keys)

    def _delete(self, places: Sequence[str]) -> None:
        """Delete servers that got no request since the last time, unless they still have connections."""
        if not places:
            return
        rows = {f"{row['pxname']}/{row['svname']}": row for row in self._counters()}
        idle = {place: rows[place] for place in places if place in rows and rows[place]["scur"] == "0"}
        self._do(f"del server {place}" for place in idle)
        for place in idle.keys() - self._servers().keys():
            row = idle[place]
            if _is_first(row["svname"]):
                self._gone.update({(row["pxname"], column): int(row[column] or 0) for column in COUNTED})

    def _reading(self, rows: Sequence[Mapping[str, str]], backend: str) -> Reading:
        """An arm has failed whatever its first attempts did not answer below 500, or broke off in the middle of."""
        mine = {row["svname"]: row for row in rows if row["pxname"] == backend}
        if "BACKEND" not in mine:
            raise ProxyTrouble("haproxy shows no counters")
        firsts = [row for name, row in mine.items() if _is_first(name)]
        count = {c: self._gone[backend, c] + sum(int(row[c] or 0) for row in firsts) for c in COUNTED}
        over, whole = int(mine["BACKEND"]["req_tot"] or 0), mine["BACKEND"]
        unanswered = over - sum(count[column] for column in ANSWERED)
        return Reading(over, min(over, max(0, unanswered + count[CUT])), int(whole["scur"] or 0))

    def _counters(self) -> list[dict[str, str]]:
        return list(csv.DictReader(io.StringIO(self._ask("show stat -1 6 -1").lstrip("# "))))

    def metrics(self) -> bytes:
        """The page of its own exporter."""
        connection = UnixConnection(self._exporter, ANSWER_S)
        try:
            connection.request("GET", "/metrics")
            return connection.getresponse().read()
        except OSError as error:
            raise ProxyTrouble(f"haproxy's exporter does not answer: {error}") from None
        finally:
            connection.close()

    def is_running(self) -> bool:
        """Whether its process is there."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """SIGUSR1: it takes no new connection, and ends with the last one."""
        stop(self._process, signal.SIGUSR1)

    def _keys(self) -> dict[str, str]:
        lines = (line.split() for line in self._ask(f"show map {self._map.name}").splitlines())
        return {parts[1]: parts[2] for parts in lines if len(parts) == 3}

    def _servers(self) -> dict[str, tuple[str, int, bool]]:
        """Address, weight and whether it takes requests, of every entry that is shown."""
        lines = self._ask("show servers state").splitlines()
        start = next((i for i, line in enumerate(lines) if line.startswith("#")), None)
        if start is None:
            raise ProxyTrouble("haproxy shows no servers")
        names = lines[start].lstrip("# ").split()
        rows = [dict(zip(names, line.split(), strict=False)) for line in lines[start + 1 :] if line.strip()]
        return {
            f"{row['be_name']}/{row['srv_name']}": (
                f"{row['srv_addr']}:{row['srv_port']}",
                int(row["srv_uweight"]),
                row["srv_admin_state"] == "0",
            )
            for row in rows
        }

    def _do(self, commands: Iterable[str]) -> None:
        """Many commands; what became of them is read back, because their answers are for people."""
        waiting = iter(commands)
        while some := list(islice(waiting, AT_ONCE)):
            self._ask("; ".join(some))

    def _ask(self, line: str) -> str:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(ANSWER_S)
                connection.connect(str(self._stats))
                connection.sendall(line.encode() + b"\n")
                return b"".join(iter(lambda: connection.recv(65536), b"")).decode()
        except OSError as error:
            raise ProxyTrouble(f"haproxy's stats socket does not answer: {error}") from None


def _state(entry: Entry) -> tuple[str, int, bool]:
    return entry.address, entry.weight, True


def _url(state: tuple[str, int, bool]) -> str:
    address, _, is_ready = state
    if not is_ready:
        raise ValueError(f"{address} is in maintenance")
    host, _, port = address.rpartition(":")
    return f"http://[{host}]:{port}" if ":" in host else f"http://{address}"


def _is_first(name: str) -> bool:
    """Whether a server answers first attempts."""
    return name.startswith("f")
