"""A agent and its real proxy between real upstreams; its admin socket is a gateway's."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import pytest

from pipelines.adapters.gateway import GatewayMetrics, GatewayRouter
from pipelines.adapters.proxies.proxy_process import envoy_program, haproxy_program
from pipelines.errors import DependencyDown
from pipelines.records.settings import GatewaySettings
from pipelines.records.split import Arm, TrafficSplit
from pipelines.serving.settings_file import write_settings
from tests.pipelines.serving import upstream
from tests.ports import free_port
from tests.waiting import HANG_S, until

UPSTREAM = Path(upstream.__file__)
PROGRAMS = {"haproxy": haproxy_program, "envoy": envoy_program}
TIMEOUT_S = 2.0


def need(router: str) -> None:
    """Skip with the reason where the program is missing; CI installs it, and fails without it."""
    if PROGRAMS[router]() is None:
        reason = f"{router} is not installed"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)


@dataclass
class ProxyBench:
    """One service `s` behind a real proxy."""

    router_name: str
    folder: Path
    interval_s: float = 0.2
    port: int = field(default_factory=free_port)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    generation: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        self.router = GatewayRouter(lambda _: self.socket)
        self.metrics = GatewayMetrics(lambda _: self.socket)
        try:
            self.agent = self.start_agent()
        except BaseException:
            self.end()
            raise

    @property
    def socket(self) -> Path:
        """The admin socket."""
        return self.folder / "g.sock"

    def start_agent(self) -> subprocess.Popen[bytes]:
        """Start it, and wait until it answers."""
        options = ["--router", self.router_name, "--port", self.port, "--admin-socket", self.socket]
        options += ["--snapshot", self.folder / "split", "--interval-s", self.interval_s]
        options += ["--settings", self.folder / "settings"]
        write_settings(self.folder / "settings", GatewaySettings(timeout_s=TIMEOUT_S))
        process = self.start("-m", "pipelines.adapters.proxy_keeper", *map(str, options))
        until(lambda: process.poll() is not None or self._is_up())
        assert process.poll() is None
        self.generation = self.router.read("s").generation
        return process

    def _is_up(self) -> bool:
        try:
            self.router.read("s")
        except DependencyDown:
            return False
        return True

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a Python process."""
        self.processes.append(subprocess.Popen([sys.executable, *arguments], stderr=subprocess.DEVNULL))
        return self.processes[-1]

    @property
    def proxy(self) -> psutil.Process:
        """The proxy's own process."""
        (child,) = psutil.Process(self.agent.pid).children()
        return child

    def upstream(self, version: str, *status: str) -> tuple[Arm, subprocess.Popen[bytes]]:
        """Start an upstream and wait until it listens."""
        port = free_port()
        process = self.start(str(UPSTREAM), str(port), version, *status)

        def listens() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        until(listens)
        return Arm(f"sha256:{version}", (f"http://127.0.0.1:{port}",)), process

    def put(self, stable: Arm, canary: Arm | None = None, pct: float = 0.0, lease_s: float | None = None) -> None:
        """Write a split."""
        fence, n = self.generation
        split = TrafficSplit((max(1, fence), n + 1), stable, canary, pct, lease_s)
        self.generation = self.router.write("s", split, self.generation).generation

    def get(self, path: str = "/", **named: object) -> httpx.Response:
        """One request on a connection of its own."""
        return httpx.get(f"http://127.0.0.1:{self.port}{path}", trust_env=False, timeout=HANG_S, **named)

    def send(self, n: int, path: str = "/") -> Counter[str]:
        """Send requests one after another; answers by status, version and arm."""
        answers: Counter[str] = Counter()
        # Each on a connection of its own: the upstream and a kept one wait for each other's packets.
        with httpx.Client(trust_env=False, timeout=HANG_S, headers={"connection": "close"}) as client:
            for _ in range(n):
                got = client.get(f"http://127.0.0.1:{self.port}{path}").headers
                answers[f"{got.get('x-shipway-model-version', '-')} {got.get('x-shipway-arm', '-')}"] += 1
        return answers

    def counted(self, generation: tuple[int, int]) -> dict[str, tuple[int, int]]:
        """Requests and errors of each arm in the strata of one generation."""
        from pipelines.ports import Now, StrataQuery

        strata = [s for s in self.metrics.measure(StrataQuery("s"), Now(0, 0)) if s.generation == generation]
        return {
            arm: (sum(getattr(s, arm).routed for s in strata), sum(getattr(s, arm).errors for s in strata))
            for arm in ("stable", "canary")
        }

    def end(self) -> None:
        """Stop what was started."""
        for process in self.processes:
            process.kill()
            process.wait()


@contextmanager
def proxy_bench(router: str, folder: Path) -> Iterator[ProxyBench]:
    """A bench while the block runs."""
    need(router)
    bench = ProxyBench(router, folder)
    try:
        yield bench
    finally:
        bench.agent.send_signal(signal.SIGTERM)
        bench.end()
