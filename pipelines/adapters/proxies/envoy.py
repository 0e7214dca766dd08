"""A real Envoy behind the agent, told by files that are replaced whole, and read through its admin socket.

Known limits: its histograms of latency are in whole milliseconds and in steps of up to ten percent, too coarse for the
judge's thresholds, so its strata have none, and neither classes nor attributes. An interval is not cut while four
earlier ones still have requests in flight.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any

from pipelines.adapters.processes.shared_door import SETTLE_S, let_in, send_to_door, send_to_proxy
from pipelines.adapters.proxies.envoy_config import (
    MILLION,
    USERS,
    bootstrap,
    endpoints_file,
    generation_of,
    routes_file,
    urls_of,
    version_text,
)
from pipelines.adapters.proxies.lanes import LANES, PLACES, Reading, Readings
from pipelines.adapters.proxies.proxy import ProxyTrouble
from pipelines.adapters.proxies.proxy_process import DRAIN_S, envoy_program, start_tied, stop
from pipelines.records.split import Arm, Generation, TrafficSplit
from pipelines.serving.probes import UnixConnection
from pipelines.serving.sockets import given_door

ANSWER_S, APPLY_S, START_S = 2.0, 2.0, 30.0
ASK_AGAIN_S = 0.01
FAREWELL_S = 1.0
"""So long it says with each answer that the connection ends, before it closes those that nobody uses."""

_COUNTER = re.compile(r"cluster\.(\w+)\.(\w+): (\d+)")
_NAMES = "rq_(total|retry|retry_success|[234]xx|active|pending_.*|cancelled)|cx_destroy_remote_with_active_rq"
_WANTED = rf"^cluster\.(stable|canary)_\d\.upstream_({_NAMES})$"


class EnvoyProxy:
    """Implements `proxy.Proxy`."""

    def __init__(self, port: int, timeout_s: float, admin_socket: Path) -> None:
        self._port, self._timeout_s = port, timeout_s
        self._admin = admin_socket.with_suffix(".ev")
        # JSON is YAML, too, and files in this folder that end in .json are of units.
        self._files = {name: admin_socket.with_suffix(f".{name}.yaml") for name in ("start", "routes", *PLACES)}
        self._serial = 0
        self._lanes = [TrafficSplit()] * LANES
        """Whose addresses the clusters of each lane have."""
        self._process: subprocess.Popen[bytes] | None = None
        self._door = given_door(os.environ)
        self._are_in = threading.Event()

    def start(self, split: TrafficSplit) -> None:
        """Start it with this split; ProxyTrouble where it does not answer soon."""
        program = envoy_program()
        if program is None:
            raise ProxyTrouble("envoy is not installed: pip install 'shipway[envoy]'")
        self._admin.unlink(missing_ok=True)
        is_shared = self._door is not None
        self._write("start", bootstrap(self._admin, self._files, self._port, is_shared=is_shared))
        for lane in range(LANES):
            self._write_endpoints(split, lane)
        self._write_routes(split, 0)
        workers = os.cpu_count() or 1
        options = ["--disable-hot-restart", "--log-level", "warning", "--concurrency", str(workers)]
        self._process = start_tied([program, "-c", str(self._files["start"]), *options])
        self._until(lambda: self._ask("/ready").startswith(b"LIVE") and self._has_routes(split), START_S)
        if self._door is not None:
            send_to_proxy(self._door, workers)
            self._are_in = let_in(self._door, self._port)

    def apply(self, split: TrafficSplit, lane: int) -> None:
        """The endpoints of this lane first, then the routes; another lane's stay until it is used again."""
        if (split.stable, split.canary) != (self._lanes[lane].stable, self._lanes[lane].canary):
            self._write_endpoints(split, lane)
            self._until(lambda: self._has_endpoints(lane, split), APPLY_S)
        version = self._write_routes(split, lane)
        self._until(lambda: self._route()["name"] == version, APPLY_S)

    def shown(self) -> tuple[Generation, TrafficSplit]:
        """Read from its configuration dump, nothing remembered."""
        route = self._route()
        endpoints = self._endpoints()
        weights = route.get("route", {}).get("weighted_clusters", {}).get("clusters", ())
        arms: dict[str, tuple[Arm, float]] = {}
        try:
            generation = generation_of(route["name"])
            for part in weights:
                arm = Arm("", endpoints[part["name"]])
                arms[PLACES[part["name"]][1]] = arm, part.get("weight", 0) * 100 / MILLION
            stable, (canary, pct) = arms.get("stable"), arms.get("canary", (None, 0.0))
            lease_s = 1.0 if canary else None  # the agent holds it
            return generation, TrafficSplit(generation, stable[0] if stable else None, canary, pct, lease_s)
        except (KeyError, ValueError, TypeError) as error:
            raise ProxyTrouble(f"envoy shows no split: {error!r}") from None

    def readings(self) -> Readings:
        """What each arm's first attempts came to, in each lane."""
        found: dict[str, dict[str, int]] = defaultdict(dict)
        for cluster, name, count in _COUNTER.findall(self._ask(f"/stats?filter={_WANTED}").decode()):
            found[cluster][name] = int(count)
        return {place: _reading(found[cluster]) for cluster, place in PLACES.items()}

    def prune(self, split: TrafficSplit) -> None:
        """Nothing: a lane that is not used has old addresses, and no request."""

    def metrics(self) -> bytes:
        """Its own Prometheus page."""
        return self._ask("/stats/prometheus")

    def is_running(self) -> bool:
        """Whether its process is there."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """It tells its callers that their connections end, takes no new one, and ends with the last request."""
        if self.is_running():
            try:
                self._ask("/healthcheck/fail", "POST")
                if self._door is not None:
                    self._are_in.wait(APPLY_S)
                    send_to_door(self._door)
                    time.sleep(SETTLE_S)
                self._ask("/drain_listeners", "POST")
                if self._door is not None:
                    self._door.close()
                with suppress(ProxyTrouble):
                    self._until(lambda: self._has_none_of("downstream_cx_active"), FAREWELL_S)
                self._until(lambda: self._has_none_of("downstream_rq_active"), DRAIN_S)
            except ProxyTrouble:
                pass
        stop(self._process, signal.SIGTERM)

    def _has_none_of(self, gauge: str) -> bool:
        return self._ask(f"/stats?filter=http.{USERS}.{gauge}").endswith(b": 0\n")

    def _write_endpoints(self, split: TrafficSplit, lane: int) -> None:
        self._lanes[lane] = split
        for name in (name for name, (of, _) in PLACES.items() if of == lane):
            self._write(name, endpoints_file(name, split, f"e{self._next()}"))

    def _write_routes(self, split: TrafficSplit, lane: int) -> str:
        version = version_text(split.generation, self._next())
        self._write("routes", routes_file(split, lane, version, self._timeout_s))
        return version

    def _next(self) -> int:
        self._serial += 1
        return self._serial

    def _write(self, name: str, content: Mapping[str, Any]) -> None:
        temp = self._files[name].with_suffix(".tmp")
        temp.write_text(json.dumps(content))
        temp.replace(self._files[name])

    def _has_routes(self, split: TrafficSplit) -> bool:
        return generation_of(self._route()["name"]) == split.generation

    def _route(self) -> dict[str, Any]:
        """The one route that is in force."""
        try:
            found = self._dump("dynamic_route_configs")[0]["route_config"]["virtual_hosts"][0]["routes"][0]
        except (KeyError, IndexError):
            raise ProxyTrouble("envoy shows no route") from None
        return dict(found)

    def _has_endpoints(self, lane: int, split: TrafficSplit) -> bool:
        """Whether both clusters of a lane have a split's addresses."""
        found = self._endpoints()
        return all(found.get(name) == urls_of(split, arm) for name, (of, arm) in PLACES.items() if of == lane)

    def _endpoints(self) -> dict[str, tuple[str, ...]]:
        """The addresses that each cluster tries first."""
        found = [entry["endpoint_config"] for entry in self._dump("static_endpoint_configs&include_eds")]
        return {assignment["cluster_name"]: _first_choice(assignment) for assignment in found}

    def _dump(self, resource: str) -> list[dict[str, Any]]:
        try:
            return list(json.loads(self._ask(f"/config_dump?resource={resource}")).get("configs", ()))
        except ValueError:
            raise ProxyTrouble("envoy's configuration dump cannot be read") from None

    def _until(self, holds: Callable[[], bool], timeout_s: float) -> None:
        deadline_s = time.monotonic() + timeout_s
        trouble = ProxyTrouble("envoy did not take what it was told in time")
        while self.is_running() and time.monotonic() < deadline_s:
            try:
                if holds():
                    return
            except ProxyTrouble as error:
                trouble = error
            time.sleep(ASK_AGAIN_S)
        raise trouble if self.is_running() else ProxyTrouble("envoy ended")

    def _ask(self, path: str, method: str = "GET") -> bytes:
        connection = UnixConnection(self._admin, ANSWER_S)
        try:
            connection.request(method, path)
            return connection.getresponse().read()
        except (OSError, HTTPException) as error:
            raise ProxyTrouble(f"envoy's admin socket does not answer: {error}") from None
        finally:
            connection.close()


def _first_choice(assignment: Mapping[str, Any]) -> tuple[str, ...]:
    """The addresses that a cluster tries first."""
    groups = assignment.get("endpoints", ())
    endpoints = [e["endpoint"] for g in groups if not g.get("priority") for e in g.get("lb_endpoints", ())]
    places = [e["address"]["socket_address"] for e in endpoints]
    hosts = [(f"[{p['address']}]" if ":" in p["address"] else p["address"], p["port_value"]) for p in places]
    return tuple(f"http://{host}:{port}" for host, port in hosts)


def _reading(counts: Mapping[str, int]) -> Reading:
    """An arm has failed whatever its first attempts did not answer below 500, or broke off in the middle of.

    Envoy counts attempts: those that reached a server, those whose connection failed, and those whose client left
    before. All but the retries are first ones.
    """
    count = defaultdict(int, {name.removeprefix("upstream_"): n for name, n in counts.items()})
    unreached = count["rq_pending_failure_eject"]
    in_flight = count["rq_active"] + count["rq_pending_active"]
    begun = count["rq_total"] + unreached + count["rq_cancelled"] + count["rq_pending_active"] - count["rq_retry"]
    over = max(0, begun - in_flight)
    answered = count["rq_2xx"] + count["rq_3xx"] + count["rq_4xx"] - count["rq_retry_success"]
    cut = max(0, count["cx_destroy_remote_with_active_rq"] - max(0, count["rq_retry"] - unreached))
    return Reading(over, min(over, max(0, over - answered + cut)), in_flight)
