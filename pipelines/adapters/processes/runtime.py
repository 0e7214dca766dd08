"""Units as processes on loopback, by durable desired state.

`ensure` writes what is wanted as a file; the supervisor of `shipway up` starts it and writes what it observed. So what
a CI job asked for outlives the job, and whoever asks sees the same.
"""

from __future__ import annotations

import socket
import zlib
from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace

import psutil

from pipelines.adapters.processes.unit_files import Observed, names_in, read_observed, read_unit, unit_file, write_unit
from pipelines.errors import DependencyDown, LedgerBroken
from pipelines.home import Home
from pipelines.records.unit import Unit, UnitStatus
from pipelines.serving.probes import is_endpoint_ready, is_gateway_ready, is_server_ready

PORTS = range(20_000, 32_000)
"""Below the ports that Linux hands to outgoing connections, which could otherwise take one while its unit is down."""


class ProcessRuntime:
    """Implements `ports.Runtime`."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def ensure(self, unit: Unit) -> None:
        """From now on this unit must be running; its port stays the same."""
        try:
            existing = read_unit(self._home, unit.name)
        except LedgerBroken:
            existing = None  # a damaged file is replaced by what is wanted now
        if unit.kind == "external":
            write_unit(self._home, unit)
            return
        port = unit.port or (existing.port if existing else 0) or self._free_port(unit.name)
        wanted = replace(unit, port=port)
        if wanted != existing:
            write_unit(self._home, wanted)

    def status(self, name: str) -> UnitStatus:
        """What is seen of the unit: is its process alive, and does it answer that it is ready?"""
        unit = read_unit(self._home, name)
        if unit is None:
            return UnitStatus()
        if unit.kind == "external":
            answers = is_endpoint_ready(unit.url, unit.probe, unit.ca_file)
            return UnitStatus(
                "ready" if answers else "failed", unit.url, reason="" if answers else "it does not answer"
            )
        url, observed = f"http://127.0.0.1:{unit.port}", read_observed(self._home, name)
        if observed is None or observed.unit != unit:
            return UnitStatus("starting", url, reason="no process yet")
        if not observed.is_alive():
            return UnitStatus("failed", url, restarts=observed.restarts, reason=observed.reason or "it ended")
        return self._status_of_running(observed, url)

    def remove(self, name: str) -> None:
        """It is no longer wanted; the supervisor stops it."""
        unit_file(self._home, name).unlink(missing_ok=True)

    def units(self, service: str) -> tuple[Unit, ...]:
        """Which units are wanted for this service?"""
        return tuple(u for u in self._wanted() if u.service == service)

    def _status_of_running(self, observed: Observed, url: str) -> UnitStatus:
        unit, pid = observed.unit, observed.pid or 0
        is_gateway = unit.kind == "gateway"
        ready = is_gateway_ready(self._home.admin_socket(unit.service)) if is_gateway else is_server_ready(unit.port)
        state, reason = ("ready", "") if ready else ("starting", "not ready yet")
        return UnitStatus(state, url, pid, observed.restarts, None if unit.image else rss_mb(pid), reason)

    def _wanted(self) -> tuple[Unit, ...]:
        """All wanted units whose file can be read."""
        found = []
        for name in names_in(self._home.folder("units")):
            with suppress(LedgerBroken):
                found.append(read_unit(self._home, name))
        return tuple(unit for unit in found if unit is not None)

    def _free_port(self, name: str) -> int:
        """A port that nobody listens on and no unit of this home is promised, from a start that the name gives."""
        taken = {unit.port for unit in self._wanted()}
        start = zlib.crc32(f"{self._home.root}/{name}".encode()) % len(PORTS)
        found: int | None = next((p for p in (*PORTS[start:], *PORTS[:start]) if _is_free(p, taken)), None)
        if found is None:
            raise DependencyDown("no port is free on loopback", code="E_PORT", field=name)
        return found


def _is_free(port: int, taken: Collection[int]) -> bool:
    return port not in taken and not is_port_taken(port)


def is_port_taken(port: int) -> bool:
    """Whether somebody listens on this port of loopback."""
    with socket.socket() as probe:
        # A server that just ended leaves connections in TIME_WAIT, which do not stop the next one.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def rss_mb(pid: int) -> float | None:
    """Resident memory of a process in MB; None where it is gone."""
    try:
        return float(round(psutil.Process(pid).memory_info().rss / 1e6, 1))
    except psutil.Error:
        return None
