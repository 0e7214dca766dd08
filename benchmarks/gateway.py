"""What does the gateway cost beside the proxies that people use?

    python -m benchmarks.gateway [--json] [--rounds N] [--seconds S]

Needs `wrk` and `nginx`; `haproxy` and `envoy` are measured where they are found. All proxies are started at once, with
one worker each, in front of the same upstream (nginx with a constant answer), split nine to one between a stable arm
and a canary there, and are measured in turns, so that a noisy neighbour meets all of them. CPU is that of the proxy's
own processes.
"""

from __future__ import annotations

import argparse
import json
import re
import socket
import statistics
import subprocess
import tempfile
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks import proxies

CONNECTIONS = 32
UNITS_US = {"us": 1.0, "ms": 1000.0, "s": 1_000_000.0}


@dataclass(frozen=True)
class Load:
    """What wrk saw of one target."""

    rps: float
    requests: int
    p50_us: float
    failed: int


def free_port() -> int:
    """A port that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def load(port: int, connections: int, seconds: float) -> Load:
    """Ask a target as fast as it answers."""
    command = [
        "wrk",
        "-t1",
        f"-c{connections}",
        f"-d{max(1, round(seconds))}s",
        "--latency",
        f"http://127.0.0.1:{port}/",
    ]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    p50, unit = re.findall(r"50%\s+([\d.]+)(us|ms|s)", said)[0]
    failed = sum(int(n) for n in re.findall(r"(?:connect|read|write|timeout|Non-2xx or 3xx responses:?) (\d+)", said))
    requests, rps = (
        int(re.findall(r"(\d+) requests in", said)[0]),
        float(re.findall(r"Requests/sec:\s+([\d.]+)", said)[0]),
    )
    return Load(rps, requests, float(p50) * UNITS_US[unit], failed)


def family(process: psutil.Process) -> list[psutil.Process]:
    """A proxy with its workers."""
    return [process, *process.children(recursive=True)]


def cpu_s(process: psutil.Process) -> float:
    """CPU seconds of a proxy so far."""
    times = [one.cpu_times() for one in family(process)]
    return sum(one.user + one.system for one in times)


def rss_mb(process: psutil.Process) -> float:
    """Resident memory of a proxy."""
    return sum(one.memory_info().rss for one in family(process)) / 1e6


def measure(rounds: int, seconds: float) -> dict[str, dict[str, list[float]]]:
    """Each figure of each target, one value a round."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder, direct = Path(name), free_port()
        folder.chmod(0o755)  # nginx' worker is another user
        stack.enter_context(proxies.started(proxies.upstream(folder, direct), direct, folder / "upstream.out"))
        running = {}
        for peer, command in proxies.PEERS.items():
            if proxies.is_here(peer):
                port = free_port()
                log = folder / f"{peer}.out"
                running[peer] = (port, stack.enter_context(proxies.started(command(folder, port, direct), port, log)))
        proxies.give_arms(folder, direct)
        for _ in range(rounds):
            alone = load(direct, 1, seconds / 2).p50_us
            found["rps"]["direct"].append(load(direct, CONNECTIONS, seconds).rps)
            for peer, (port, process) in running.items():
                _measure(found, peer, port, process, alone, seconds)
    if "envoy" in found["rps"]:
        pairs = zip(found["rps"]["shipway"], found["rps"]["envoy"], strict=True)
        found["rps_of_envoys"]["shipway"] = [ours / envoys for ours, envoys in pairs]
    return found


def _measure(found, peer, port, process, alone_us, seconds) -> None:
    before_s = cpu_s(process)
    busy = load(port, CONNECTIONS, seconds)
    found["cpu_us"][peer].append((cpu_s(process) - before_s) * 1e6 / busy.requests)
    found["rps"][peer].append(busy.rps)
    found["failed"][peer].append(busy.failed)
    found["added_p50_us_c1"][peer].append(load(port, 1, seconds / 2).p50_us - alone_us)
    found["rss_mb"][peer].append(rss_mb(process))


def said(found: dict[str, dict[str, list[float]]]) -> None:
    """A table: median (smallest – largest)."""
    for figure, by_peer in found.items():
        for peer, values in by_peer.items():
            low, high = min(values), max(values)
            print(f"{figure:16} {peer:8} {statistics.median(values):10.2f} ({low:.2f} – {high:.2f}, n = {len(values)})")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    options = parser.parse_args()
    found = measure(options.rounds, options.seconds)
    if options.json:
        medians = {name: {peer: statistics.median(v) for peer, v in by.items()} for name, by in found.items()}
        print(json.dumps({**medians, "n": options.rounds, "all": found}))
    else:
        said(found)


if __name__ == "__main__":
    main()
