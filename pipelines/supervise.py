"""Which processes must be started, adopted or stopped, so that what runs is what is wanted?

`plan` says it from what is seen; the `Supervisor` does it. Children get a session of their own: they outlive a killed
supervisor, and the next one adopts them by process id and start time.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import psutil

from pipelines.adapters.process_runtime import (
    Observed,
    observed_file,
    read_observed,
    wanted_units,
    write_json,
)
from pipelines.home import Home
from pipelines.ports import Now, Unit

FIRST_BACKOFF_S = 0.5
MAX_BACKOFF_S = 30.0
HEALTHY_AFTER_S = 60.0
DRAIN_S = 12.0


@dataclass(frozen=True)
class Seen:
    """What the supervisor knows of one process."""

    observed: Observed
    alive: bool
    started_mono_s: float
    unit: Unit | None = None
    backoff_s: float = 0.0
    not_before_s: float = 0.0
    stopping_since_s: float | None = None


@dataclass(frozen=True)
class Plan:
    """What to do now, by unit name."""

    start: tuple[Unit, ...] = ()
    stop: tuple[str, ...] = ()
    kill: tuple[str, ...] = ()
    forget: tuple[str, ...] = ()


def plan(wanted: Mapping[str, Unit], seen: Mapping[str, Seen], now: Now) -> Plan:
    """What must be started, stopped, killed or forgotten?"""
    unwanted = [n for n, s in seen.items() if n not in wanted or (s.unit is not None and s.unit != wanted[n])]
    alive = [n for n in unwanted if seen[n].alive]
    start = [u for n, u in wanted.items() if n not in unwanted and _may_start(seen.get(n), now)]
    return Plan(
        start=tuple(start),
        stop=tuple(n for n in alive if seen[n].stopping_since_s is None),
        kill=tuple(n for n in alive if _is_overdue(seen[n], now)),
        forget=tuple(n for n in unwanted if not seen[n].alive),
    )


def _may_start(seen: Seen | None, now: Now) -> bool:
    return seen is None or (not seen.alive and now.mono_s >= seen.not_before_s)


def _is_overdue(seen: Seen, now: Now) -> bool:
    return seen.stopping_since_s is not None and now.mono_s - seen.stopping_since_s > DRAIN_S


def unit_command(home: Home, unit: Unit) -> list[str]:
    """The command line of a unit's process."""
    if unit.kind == "gateway":
        module = "pipelines.serving.gateway"
        snapshot = home.folder("run") / f"{unit.service}.split"
        options = {
            "--service": unit.service,
            "--admin-socket": home.admin_socket(unit.service),
            "--snapshot": snapshot,
            "--timeout-s": unit.timeout_s,
        }
    else:
        module = "pipelines.serving.server"
        options = {
            "--bundle": unit.bundle,
            "--digest": unit.digest,
            "--model-name": unit.service,
            "--model-version": unit.version,
        }
    named = [str(part) for pair in options.items() for part in pair]
    return [sys.executable, "-m", module, "--port", str(unit.port), *named]


@dataclass
class Supervisor:
    """Keeps the wanted units of a home running. `step` is called again and again."""

    home: Home
    command_for: Callable[[Home, Unit], Sequence[str]] = unit_command
    _seen: dict[str, Seen] = field(default_factory=dict)
    _children: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)

    def step(self, now: Now) -> None:
        """Look once, and do what `plan` says."""
        self._look(now)
        todo = plan({u.name: u for u in wanted_units(self.home)}, self._seen, now)
        for name in todo.forget:
            self._forget(name)
        for name in todo.stop:
            self._stop(name, now)
        for name in todo.kill:
            _signal(self._seen[name].observed.pid, signal.SIGKILL)
        for unit in todo.start:
            self._start(unit, now)

    def stop_all(self) -> None:
        """Stop every child, drained; what does not end in time is killed."""
        alive = [s.observed for s in self._seen.values() if s.observed.is_alive()]
        for observed in alive:
            _signal(observed.pid, signal.SIGTERM)
        processes = [p for o in alive if (p := _process(o.pid)) is not None]
        _, left = psutil.wait_procs(processes, timeout=DRAIN_S)
        for process in left:
            _signal(process.pid, signal.SIGKILL)
        for name in list(self._seen):
            self._forget(name)

    def _look(self, now: Now) -> None:
        """Reap what ended, adopt what an earlier supervisor left running."""
        for child in list(self._children.values()):
            if child.poll() is not None:
                del self._children[child.pid]
        for path in self.home.folder("run").glob("*.json"):
            if path.stem not in self._seen and (observed := read_observed(self.home, path.stem)) is not None:
                self._seen[path.stem] = Seen(observed, observed.is_alive(), now.mono_s)
        for name, seen in self._seen.items():
            alive = seen.observed.is_alive()
            if seen.alive and not alive:
                self._seen[name] = self._died(name, seen, now)
            elif alive and seen.backoff_s and now.mono_s - seen.started_mono_s > HEALTHY_AFTER_S:
                self._seen[name] = replace(seen, backoff_s=0.0)

    def _died(self, name: str, seen: Seen, now: Now) -> Seen:
        """A process that ended: say why, and when it may start again (the first time at once)."""
        reason = _last_line(self._log(name)) or "it ended"
        observed = replace(seen.observed, reason=reason)
        if seen.stopping_since_s is None:
            write_json(observed_file(self.home, name), asdict(observed))
        backoff_s = min(MAX_BACKOFF_S, seen.backoff_s * 2 or FIRST_BACKOFF_S)
        wait_s = seen.backoff_s
        return replace(seen, observed=observed, alive=False, backoff_s=backoff_s, not_before_s=now.mono_s + wait_s)

    def _start(self, unit: Unit, now: Now) -> None:
        before = self._seen.get(unit.name)
        with self._log(unit.name).open("ab") as log:
            child = subprocess.Popen(
                list(self.command_for(self.home, unit)),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._children[child.pid] = child
        process = _process(child.pid)
        created = process.create_time() if process else now.wall_s
        restarts = before.observed.restarts + 1 if before else 0
        observed = Observed(child.pid, created, restarts, before.observed.reason if before else "")
        write_json(observed_file(self.home, unit.name), asdict(observed))
        self._seen[unit.name] = Seen(observed, True, now.mono_s, unit, before.backoff_s if before else 0.0)

    def _stop(self, name: str, now: Now) -> None:
        seen = self._seen[name]
        _signal(seen.observed.pid, signal.SIGTERM)
        self._seen[name] = replace(seen, stopping_since_s=now.mono_s)

    def _forget(self, name: str) -> None:
        self._seen.pop(name, None)
        observed_file(self.home, name).unlink(missing_ok=True)

    def _log(self, name: str) -> Path:
        return self.home.folder("logs") / f"{name}.log"


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _process(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except psutil.Error:
        return None


def _last_line(path: Path) -> str:
    """The last thing that a process said."""
    with suppress(OSError):
        lines = path.read_text(errors="replace").splitlines()
        return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "")
    return ""
