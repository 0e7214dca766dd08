"""Which processes must be started, adopted or stopped, so that what runs is what is wanted?

`plan` says it from what is seen; the `Supervisor` does it. Children get a session of their own: they outlive a killed
supervisor, and the next one adopts them by process id and start time.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil

from pipelines.adapters.processes.doors import Doors
from pipelines.adapters.processes.runtime import is_port_taken
from pipelines.adapters.processes.unit_files import (
    Observed,
    boot_id,
    hand_settings,
    names_in,
    observed_file,
    read_observed,
    read_unit,
    since_boot_s,
    take_settings_back,
    write_observed,
)
from pipelines.adapters.processes.unit_process import (
    child_environment,
    find_by_command,
    has_outgrown,
    how_it_ended,
    kill,
    remove_container,
    say_outgrown,
    spawn,
    terminate,
    unit_command,
)
from pipelines.adapters.processes.upkeep import (
    HEALTHY_AFTER_S,
    Seen,
    next_backoff_s,
    patience_s,
    plan,
    restarts_after,
    shares_door,
)
from pipelines.errors import DependencyDown, ShipwayError
from pipelines.home import Home
from pipelines.ports import Now
from pipelines.records.unit import Unit

log = logging.getLogger("shipway.supervise")

REMOVAL_S = 12.0
"""So long the removal of a container is waited for at an end."""


@dataclass
class Supervisor:
    """Keeps the wanted units of a home running. `step` is called again and again, and survives what it meets."""

    home: Home
    command_for: Callable[[Home, Unit], Sequence[str]] = unit_command
    environ: Mapping[str, str] = field(default_factory=lambda: child_environment(os.environ))
    _seen: dict[str, Seen] = field(default_factory=dict)
    _children: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)
    _doors: Doors = field(default_factory=Doors)
    _unwritten: set[str] = field(default_factory=set)
    _unclean: set[str] = field(default_factory=set)
    """Units whose process ended otherwise than by draining: a container may have outlived its shim."""
    _removals: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _has_adopted: bool = False

    def step(self, now: Now) -> None:
        """Look once, and do what `plan` says."""
        wanted = self._wanted()
        if not self._has_adopted:
            self._adopt(wanted, now)
            self._has_adopted = True
        self._look(now)
        todo = plan(wanted, self._seen, now, self._doors.names)
        for name in todo.forget:
            self._forget(name, wanted.get(name))
        for name in todo.relieve:
            self._relieve(name, now)
            self._start(wanted[name], now)
        for name in todo.stop:
            terminate(self._seen[name].observed)
            self._seen[name] = replace(self._seen[name], stopping_since_s=now.mono_s)
        for name in todo.kill:
            kill(self._seen[name].observed)
        for unit in todo.start:
            self._start(unit, now)
        self._write()

    def stop_all(self) -> None:
        """Stop every process, drained, gateways first; what does not end in time is killed."""
        self._doors.close_all()
        alive = [s.observed for s in self._seen.values() if s.observed.is_alive()]
        self._end([o for o in alive if o.unit.kind == "gateway"])
        self._end([o for o in alive if o.unit.kind != "gateway"])
        for name in list(self._seen):
            self._forget(name)
        for removal in self._removals.values():
            with suppress(subprocess.TimeoutExpired):
                removal.wait(REMOVAL_S)

    def _end(self, running: Sequence[Observed]) -> None:
        """Drain these, and kill what is left when the time is over."""
        processes = []
        for observed in running:
            with suppress(psutil.NoSuchProcess):
                processes.append(psutil.Process(observed.pid))
            terminate(observed)
        gone, left = psutil.wait_procs(processes, timeout=max((patience_s(o.unit) for o in running), default=0.0))
        for observed in running:
            kill(observed)
        psutil.wait_procs(left, timeout=1.0)
        clean = {process.pid for process in gone if getattr(process, "returncode", None) == 0}
        self._unclean.update(observed.unit.name for observed in running if observed.pid not in clean)

    def _wanted(self) -> dict[str, Unit]:
        """The wanted units. A file that cannot be read changes nothing about what runs."""
        wanted = {}
        for name in names_in(self.home.folder("units")):
            try:
                unit = read_unit(self.home, name)
            except ShipwayError as error:
                log.warning("unit %s: %s", name, error)
                unit = self._seen[name].observed.unit if name in self._seen else None
            if unit is not None and unit.kind != "external":  # which runs without us
                wanted[name] = unit
        return wanted

    def _adopt(self, wanted: Mapping[str, Unit], now: Now) -> None:
        """Take over what an earlier supervisor left running, written down or not."""
        for name in names_in(self.home.folder("run")):
            observed = read_observed(self.home, name)
            if observed is None:
                continue
            if observed.boot not in {"", boot_id()}:
                observed = replace(observed, pid=None, state="failed", reason="the machine was restarted")
            self._seen[name] = Seen(observed, observed.is_alive(), now.mono_s)
        for name, unit in wanted.items():
            if name not in self._seen or not self._seen[name].is_alive:
                self._adopt_stray(unit, now)

    def _adopt_stray(self, unit: Unit, now: Now) -> None:
        """A process that was started and never written down is ours all the same."""
        with suppress(ShipwayError, psutil.Error):
            process = find_by_command(self.command_for(self.home, unit))
            if process is not None:
                self._note(Seen(_observe(unit, process, now), True, now.mono_s))

    def _look(self, now: Now) -> None:
        """Reap what ended, and end what outgrew its memory."""
        for seen in list(self._seen.values()):
            child = self._children.get(seen.observed.pid or 0)
            alive = child.poll() is None if child is not None else seen.observed.is_alive()
            if seen.is_alive and not alive:
                self._note(self._died(seen, now))
            elif alive and has_outgrown(seen.observed):
                say_outgrown(seen.observed, self._log(seen.observed.unit))
                kill(seen.observed)

    def _died(self, seen: Seen, now: Now) -> Seen:
        """A process that ended: why, and when it may start again (at once after it ran well or was asked to end)."""
        child = self._children.pop(seen.observed.pid or 0, None)
        was_asked = child is not None and child.returncode == 0
        if not was_asked:
            self._unclean.add(seen.observed.unit.name)
        waited_s = 0.0 if was_asked or now.mono_s - seen.started_s > HEALTHY_AFTER_S else seen.backoff_s
        reason = how_it_ended(child.returncode if child else None, self._log(seen.observed.unit), seen.log_from)
        return replace(
            seen,
            observed=replace(seen.observed, state="failed", reason=reason),
            is_alive=False,
            backoff_s=next_backoff_s(waited_s),
            not_before_s=now.mono_s + waited_s,
        )

    def _start(self, unit: Unit, now: Now) -> None:
        before = self._seen.get(unit.name)
        if unit.name in self._removals and self._removals[unit.name].poll() is None:
            return
        try:
            door = self._door(unit)
        except OSError:
            self._failed_to_start(unit, before, f"E_PORT: port {unit.port} is taken by another process", now)
            return
        path = self._log(unit)
        log_from = path.stat().st_size if path.exists() else 0
        try:
            hand_settings(self.home, unit)
            child = spawn(self.command_for(self.home, unit), self.environ, self.home.root, path, door)
        except (OSError, ShipwayError) as error:
            self._failed_to_start(unit, before, f"E_START: {error}", now)
            return
        self._children[child.pid] = child
        restarts = restarts_after(before)
        observed = _observe(unit, psutil.Process(child.pid), now, restarts)
        self._note(Seen(observed, True, now.mono_s, before.backoff_s if before else 0.0, log_from=log_from))

    def _door(self, unit: Unit) -> socket.socket | None:
        """The gateway's open door; a server opens its own port. OSError where the port is somebody else's.

        A container that lost its shim still has its port; the engine refuses one that is somebody else's.
        """
        if unit.kind == "gateway":
            return self._doors.open(unit)
        if not unit.image and is_port_taken(unit.port):
            raise OSError(errno.EADDRINUSE, "taken")
        return None

    def _failed_to_start(self, unit: Unit, before: Seen | None, reason: str, now: Now) -> None:
        """Nothing was started; try again later."""
        backoff_s = next_backoff_s(before.backoff_s if before else 0.0)
        observed = Observed(unit, restarts=restarts_after(before), state="failed", reason=reason)
        self._note(Seen(observed, False, now.mono_s, backoff_s, now.mono_s + backoff_s))

    def _note(self, seen: Seen) -> None:
        name = seen.observed.unit.name
        self._seen[name] = seen
        self._unwritten.add(name)

    def _write(self) -> None:
        """Write down what changed; what a full disk refuses is tried again at the next step."""
        for name in list(self._unwritten):
            try:
                write_observed(self.home, self._seen[name].observed)
            except DependencyDown as error:
                log.warning("unit %s: %s", name, error)
                return
            self._unwritten.discard(name)

    def _relieve(self, name: str, now: Now) -> None:
        """A gateway drains under another name, so that its successor may have its own."""
        seen = self._seen.pop(name)
        terminate(seen.observed)
        unit = replace(seen.observed.unit, name=f"{name}~{seen.observed.pid}")
        self._note(replace(seen, observed=replace(seen.observed, unit=unit), stopping_since_s=now.mono_s))

    def _forget(self, name: str, successor: Unit | None = None) -> None:
        seen = self._seen.pop(name, None)
        if seen is None or not shares_door(successor, seen.observed.unit):
            self._doors.close(name)
        if seen is not None and seen.observed.unit.image and name in self._unclean:
            self._removals[name] = remove_container(self.home, seen.observed.unit, self.environ)
        self._unclean.discard(name)
        self._unwritten.discard(name)
        with suppress(OSError):
            observed_file(self.home, name).unlink(missing_ok=True)
            take_settings_back(self.home, name)

    def _log(self, unit: Unit) -> Path:
        return self.home.folder("logs") / f"{unit.name}.log"


def _observe(unit: Unit, process: psutil.Process, now: Now, restarts: int = 0) -> Observed:
    return Observed(unit, process.pid, since_boot_s(process), now.wall_s, restarts, boot=boot_id())
