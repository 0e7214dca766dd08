"""Is a request lost while shares change, canaries are killed and the gateway is replaced, all under full load?

    python -m benchmarks.gateway_storm [--changes N] [--kills N] [--handovers N]

wrk asks as fast as the gateway answers, until so many shares were written, as fast as they are confirmed. Meanwhile
the canary's server is killed and started again, and the gateway is told to end while another one begins at the same
listening socket, as `shipway up` does. Lost is what wrk saw that is not a good answer.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import re
import signal
import subprocess
import tempfile
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from benchmarks import proxies
from benchmarks.gateway import free_port
from pipelines.adapters.gateway import GatewayMetrics, GatewayRouter
from pipelines.adapters.processes.doors import BACKLOG, lent
from pipelines.errors import DependencyDown
from pipelines.ports import Now, StrataQuery
from pipelines.records.split import Arm, TrafficSplit

CONNECTIONS = 32
STRATA_EVERY = 200
LONGEST_S = 3600


@dataclass
class Storm:
    """One gateway, two servers, and what was done to them."""

    folder: Path
    door: object
    stable: int
    canary: int
    changes: int = 0
    routed: dict[tuple[str, int], tuple[int, int, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.router = GatewayRouter(lambda _: self.folder / "g.sock")
        self.metrics = GatewayMetrics(lambda _: self.folder / "g.sock")
        self.gateway = self.start_gateway()
        self.server = self.start_canary()

    def start_gateway(self) -> subprocess.Popen[bytes]:
        """At the door that stays open."""
        command = [*proxies.shipway(self.folder, self.door.getsockname()[1], 0), "--interval-s", "0.5"]
        started = subprocess.Popen(command, env={**os.environ, **lent(self.door)}, pass_fds=(self.door.fileno(),))
        while True:
            with suppress(DependencyDown):
                self.generation = self.router.read("s").generation
                self.admin = httpx.Client(transport=httpx.HTTPTransport(uds=str(self.folder / "g.sock")))
                return started
            time.sleep(0.02)

    def start_canary(self) -> subprocess.Popen[bytes]:
        """A server of its own."""
        config = proxies.server(self.folder / "canary", self.canary)
        return subprocess.Popen(config, start_new_session=True)

    def kill_canary(self) -> None:
        """With all its processes, in the middle of whatever they do."""
        os.killpg(self.server.pid, signal.SIGKILL)
        self.server.wait()
        self.server = self.start_canary()

    def hand_over(self) -> None:
        """The old gateway finishes what it has, while a new one begins all-stable."""
        self.learn()
        leaving = self.gateway
        leaving.terminate()
        self.gateway = self.start_gateway()
        leaving.wait(30)

    def change(self) -> None:
        """Another share, or the way home."""
        arms = [Arm(f"sha256:{n}", (f"http://127.0.0.1:{port}",)) for n, port in ((1, self.stable), (2, self.canary))]
        pct = random.choice((0.0, 1.0, 5.0, 25.0, 50.0, 95.0))
        shares = (arms[1], pct, 60.0) if pct else (None, 0.0, None)
        fence, n = self.generation
        body = {**TrafficSplit((max(1, fence), n + 1), arms[0], *shares).as_dict(), "expected": [fence, n]}
        answer = self.admin.put("http://gateway/split", json=body)
        self.generation = tuple(answer.raise_for_status().json()["generation"])
        self.changes += 1
        if self.changes % STRATA_EVERY == 0:
            self.learn()

    def learn(self) -> None:
        """What was routed where."""
        with suppress(DependencyDown):
            for one in self.metrics.measure(StrataQuery("s"), Now(0, 0)):
                both = one.canary.routed + one.stable.routed
                self.routed[one.boot, one.interval] = one.canary.routed, both, one.canary_pct / 100

    def deviation(self) -> float:
        """Of the canary's requests from its shares, in standard deviations."""
        shown = sum(canary - n * p for canary, n, p in self.routed.values())
        return shown / math.sqrt(sum(n * p * (1 - p) for _, n, p in self.routed.values()) or 1.0)


def run(changes: int, kills: int, handovers: int) -> dict[str, object]:
    """The storm, and what became of the requests."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder, stable = Path(name), free_port()
        folder.chmod(0o755)
        stack.enter_context(proxies.started(proxies.upstream(folder, stable), stable, folder / "stable.out"))
        door = stack.enter_context(proxies.door(BACKLOG))
        storm, began = Storm(folder, door, stable, free_port()), time.monotonic()
        storm.change()
        said = _stormed(storm, door.getsockname()[1], changes, kills, handovers)
        storm.learn()
        storm.gateway.terminate()
        os.killpg(storm.server.pid, signal.SIGKILL)
        storm.gateway.wait()
    lost = {
        what: int(n) for what, n in re.findall(r"(connect|read|write|timeout|Non-2xx or 3xx responses:?) (\d+)", said)
    }
    requests, took_s = int(re.findall(r"(\d+) requests in", said)[0]), round(time.monotonic() - began)
    shares = {"judged": sum(n for _, n, _ in storm.routed.values()), "deviation_sd": round(storm.deviation(), 2)}
    return {"seconds": took_s, "requests": requests, "lost": lost, "changes": storm.changes, **shares}


def _stormed(storm: Storm, port: int, changes: int, kills: int, handovers: int) -> str:
    """What wrk says in the end."""
    asking = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{LONGEST_S}s", "--timeout", "15s", f"http://127.0.0.1:{port}/"]
    load = subprocess.Popen(asking, stdout=subprocess.PIPE, text=True)
    killed = handed = 0
    while storm.changes < changes:
        storm.change()
        done = storm.changes / changes
        if killed < kills * done:
            storm.kill_canary()
            killed += 1
        if handed < handovers * done - 0.5:
            storm.hand_over()
            handed += 1
    load.send_signal(signal.SIGINT)
    return load.communicate()[0]


def main() -> None:
    """Storm and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--changes", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--handovers", type=int, default=10)
    print(run(**vars(parser.parse_args())))


if __name__ == "__main__":
    main()
