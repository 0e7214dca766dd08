"""What does the agent cost: HAProxy through the adapter beside HAProxy that was configured by hand.

    python -m benchmarks.routers [--rounds 5] [--seconds 3] [--json]

All split the same traffic 75 : 25 over the same two trivial upstreams (another HAProxy that answers by itself), retry
and redispatch alike, and are loaded by wrk in turns, there and back, on one machine, in the same run. `by_hand` gives
answers the same headers as the adapter (request id, arm), `bare` gives none. CPU is the proxy's own, its agent
included. Needs `haproxy` and `wrk`.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import psutil

from pipelines.adapters.proxies.proxy_process import haproxy_program
from pipelines.records.split import Arm
from tests.pipelines.adapters.proxies.proxy_bench import ProxyBench, free_port, until

_COMMON = """
global
    maxconn 4096
defaults
    mode http
    timeout connect 2s
    timeout client 60s
    timeout server 10s
"""
_UPSTREAM = """
frontend f{port}
    bind 127.0.0.1:{port}
    http-request return status 200 content-type application/json string '{{"ok": true}}'
"""
_BY_HAND = """
frontend users
    bind 127.0.0.1:{port}
    {request_id}
    default_backend arms
backend arms
    balance roundrobin
    {arm}
    retries 3
    option redispatch 1
    retry-on conn-failure empty-response junk-response
    server stable 127.0.0.1:{stable} weight 75
    server canary 127.0.0.1:{canary} weight 25
"""

_REQUEST_ID = """
    http-request set-header x-request-id %[uuid()] unless { req.hdr(x-request-id) -m found }
    http-request set-var(txn.id) req.hdr(x-request-id)
    http-after-response set-header x-request-id %[var(txn.id)]
"""
_ARM = "http-response set-header x-shipway-arm %[srv_name]"


def start(folder: Path, name: str, text: str) -> subprocess.Popen[bytes]:
    """A HAProxy with this configuration."""
    file = folder / f"{name}.cfg"
    file.write_text(_COMMON + text)
    return subprocess.Popen([str(haproxy_program()), "-db", "-q", "-f", str(file)])


def cpu_s(pid: int) -> float:
    """Seconds of processor time of a process and its children."""
    process = psutil.Process(pid)
    return sum(sum(p.cpu_times()[:2]) for p in (process, *process.children()))


def load(port: int, pid: int, seconds: int) -> tuple[float, float]:
    """Requests per second, and microseconds of the proxy's CPU for each, at 32 connections."""
    before_s, began_s = cpu_s(pid), time.monotonic()
    command = ["wrk", "-t1", "-c32", f"-d{seconds}s", f"http://127.0.0.1:{port}/"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    requests = int(re.search(r"(\d+) requests in", said)[1])
    assert "Non-2xx" not in said, said
    return requests / (time.monotonic() - began_s), (cpu_s(pid) - before_s) / requests * 1e6


def measure(folder: Path, rounds: int, seconds: int) -> dict[str, dict[str, list[float]]]:
    """Every round's figures."""
    stable, canary, port, bare_port = (free_port() for _ in range(4))
    named = {"stable": stable, "canary": canary}
    upstream = start(folder, "upstream", _UPSTREAM.format(port=stable) + _UPSTREAM.format(port=canary))
    by_hand = start(folder, "by-hand", _BY_HAND.format(port=port, request_id=_REQUEST_ID, arm=_ARM, **named))
    bare = start(folder, "bare", _BY_HAND.format(port=bare_port, request_id="", arm="", **named))
    bench = ProxyBench("haproxy", folder, interval_s=1.0)
    try:
        arms = [Arm(f"sha256:{p}", (f"http://127.0.0.1:{p}",)) for p in (stable, canary)]
        bench.put(arms[0], arms[1], 25, 3600)
        until(lambda: all(bench.router.read("s").canary_pct == 25 for _ in range(2)))
        found: dict[str, dict[str, list[float]]] = {"rps": {}, "cpu_us": {}}
        targets = [
            ("bare", bare_port, bare.pid),
            ("by_hand", port, by_hand.pid),
            ("adapter", bench.port, bench.agent.pid),
        ]
        for turn in range(rounds):
            for name, at, pid in targets if turn % 2 else reversed(targets):
                rps, cpu_us = load(at, pid, seconds)
                found["rps"].setdefault(name, []).append(rps)
                found["cpu_us"].setdefault(name, []).append(cpu_us)
        pairs = zip(found["rps"]["adapter"], found["rps"]["by_hand"], strict=True)
        return {**found, "ratio": {"adapter": [adapted / by_hand for adapted, by_hand in pairs]}}
    finally:
        bench.end()
        for process in (bare, by_hand, upstream):
            process.kill()
            process.wait()


def main() -> None:
    """Measure, and print medians with the spread."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), options.rounds, options.seconds)
    medians = {what: {k: statistics.median(v) for k, v in by_name.items()} for what, by_name in found.items()}
    if options.json:
        print(json.dumps({**medians, "rounds": found}))
        return
    for what, by_name in found.items():
        for name, values in by_name.items():
            spread = f"{min(values):.3f} – {max(values):.3f}"
            print(f"{what:<7} {name:<8} {medians[what][name]:12.3f}  {spread}  n={len(values)}")


if __name__ == "__main__":
    main()
