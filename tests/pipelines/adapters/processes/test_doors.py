"""Is anybody refused while a gateway is started again?"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from pipelines.adapters.processes.doors import Doors
from pipelines.adapters.processes.runtime import ProcessRuntime
from pipelines.adapters.processes.supervisor import Supervisor
from pipelines.home import Home
from pipelines.records.settings import GatewaySettings
from pipelines.records.unit import Unit
from pipelines.services.units import gateway_name
from tests.pipelines.adapters.processes.tiny_server import now, until
from tests.pipelines.adapters.proxies.proxy_bench import need

KILLS = 4
CALLERS = 3
ENDS = {"shipway": 1, "haproxy": 1, "envoy": 2}
"""Processes that end one after the other: who waited at Envoy's door talks through its agent from then on."""


def call(url: str, found: Counter[str], stopped: threading.Event, *, is_kept: bool) -> None:
    """Ask again and again, over one connection while it lasts, or each time over a new one."""
    with httpx.Client(trust_env=False, timeout=20, headers={} if is_kept else {"connection": "close"}) as client:
        while not stopped.is_set():
            try:
                found[str(client.get(url).status_code)] += 1
            except httpx.HTTPError as error:
                found["refused" if "refused" in str(error) else type(error).__name__] += 1


@pytest.mark.integration
@pytest.mark.parametrize("router", ["shipway", "haproxy", "envoy"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, None])
def test_a_gateway_that_starts_again_refuses_nobody(tmp_path: Path, router: str, number: signal.Signals | None):
    """Callers wait for the next process: a kill loses at most the answers in flight, at each process that it ends.

    An orderly end loses none, and neither does a change of what it is told (None).
    """
    if router != "shipway":
        need(router)
    home = Home.open(tmp_path / "home")
    runtime, supervisor = ProcessRuntime(home), Supervisor(home)
    unit = Unit(gateway_name("s"), "gateway", "s", settings=GatewaySettings(router=router))
    runtime.ensure(unit)

    def is_ready(pids: set[int | None]) -> bool:
        status = runtime.status(unit.name)
        return status.state == "ready" and status.pid not in pids

    found, stopped, pids = Counter(), threading.Event(), set()
    try:
        assert until(lambda: is_ready(pids), lambda: supervisor.step(now()))
        url = runtime.status(unit.name).url
        callers = [
            threading.Thread(target=call, args=(url, found, stopped), kwargs={"is_kept": n == 0})
            for n in range(CALLERS)
        ]
        for caller in callers:
            caller.start()
        for turn in range(KILLS):
            before = found["503"]
            assert until(lambda before=before: found["503"] > before + 5, lambda: supervisor.step(now()))
            pids.add(runtime.status(unit.name).pid)
            if number is None:
                runtime.ensure(replace(unit, settings=replace(unit.settings, timeout_s=20.0 + turn)))
            else:
                os.kill(runtime.status(unit.name).pid, number)
            assert until(lambda: is_ready(pids), lambda: supervisor.step(now()))
        stopped.set()
        for caller in callers:
            caller.join()
    finally:
        stopped.set()
        supervisor.stop_all()
    assert found["refused"] == 0, found
    assert found["ConnectError"] == 0 or ENDS[router] > 1, found  # whose end may reset a connection that is being made
    may_be_lost = KILLS * CALLERS * ENDS[router] if number == signal.SIGKILL else 0
    assert found.total() - found["503"] <= may_be_lost, found


def test_a_closed_door_refuses():
    """Nothing is kept open for a unit that is no longer wanted."""
    doors = Doors()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    unit = Unit("s-gateway", "gateway", "s", port=port, settings=GatewaySettings())
    assert doors.open(unit) is doors.open(unit)
    socket.create_connection(("127.0.0.1", port), timeout=1).close()
    doors.close_all()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1)
