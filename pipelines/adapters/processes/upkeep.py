"""What must be started, stopped, killed or forgotten, and when?

Pure: the `Supervisor` looks, asks `plan`, and does what it says.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from pipelines.adapters.processes.unit_files import Observed
from pipelines.ports import Now
from pipelines.records.settings import ServerSettings
from pipelines.records.unit import Unit

FIRST_BACKOFF_S = 0.5
MAX_BACKOFF_S = 30.0
HEALTHY_AFTER_S = 60.0
END_S = 2.0
"""So long a process has to end, when it has drained."""

ENGINE_END_S = 12.0
"""So much longer, where an engine of its own ends first: vLLM takes 8 s with nothing to do."""


@dataclass(frozen=True)
class Seen:
    """What the supervisor knows of one unit's process. Times are monotonic seconds of this supervisor."""

    observed: Observed
    is_alive: bool
    started_s: float
    backoff_s: float = 0.0
    not_before_s: float = 0.0
    stopping_since_s: float | None = None
    log_from: int = 0


@dataclass(frozen=True)
class Plan:
    """What to do now, by unit name."""

    start: tuple[Unit, ...] = ()
    relieve: tuple[str, ...] = ()
    """These drain beside their successors, which are started at once."""
    stop: tuple[str, ...] = ()
    kill: tuple[str, ...] = ()
    forget: tuple[str, ...] = ()


def plan(wanted: Mapping[str, Unit], seen: Mapping[str, Seen], now: Now, doors: Collection[str] = ()) -> Plan:
    """What must be started, stopped, killed or forgotten?

    A unit whose content changed is stopped and started anew; one that is stopping goes all the way. A gateway drains
    before the servers behind it are asked to go; where its door is among ours (`doors`), its successor does not wait.
    """
    going = {n: s for n, s in seen.items() if s.stopping_since_s is not None or wanted.get(n) != s.observed.unit}
    alive = {n: s for n, s in going.items() if s.is_alive}
    draining = {s.observed.unit.service for s in alive.values() if s.observed.unit.kind == "gateway"}
    asked = {n: s for n, s in alive.items() if s.stopping_since_s is None}
    relieved = tuple(n for n, s in asked.items() if n in doors and may_overlap(wanted.get(n), s.observed.unit))
    return Plan(
        relieve=relieved,
        start=tuple(u for n, u in wanted.items() if n not in going and _may_start(seen.get(n), now)),
        stop=tuple(n for n, s in asked.items() if n not in relieved and _may_stop(s, draining)),
        kill=tuple(n for n, s in alive.items() if _is_overdue(s, now)),
        forget=tuple(n for n in going if n not in alive),
    )


def shares_door(unit: Unit | None, before: Unit) -> bool:
    """Whether a unit is a gateway that can be lent the open door of the one before it."""
    if unit is None or not unit.kind == before.kind == "gateway":
        return False
    # Beside Envoy's own sockets a door of another kind is needed.
    return unit.port == before.port and (unit.router == "envoy") == (before.router == "envoy")


def may_overlap(unit: Unit | None, before: Unit) -> bool:
    """Whether both can run at one time: Shipway's own gateways, at one door."""
    return unit is not None and shares_door(unit, before) and unit.router == before.router == "shipway"


def _may_start(seen: Seen | None, now: Now) -> bool:
    return seen is None or (not seen.is_alive and now.mono_s >= seen.not_before_s)


def _may_stop(seen: Seen, draining: set[str]) -> bool:
    return seen.observed.unit.kind == "gateway" or seen.observed.unit.service not in draining


def _is_overdue(seen: Seen, now: Now) -> bool:
    return seen.stopping_since_s is not None and now.mono_s - seen.stopping_since_s > patience_s(seen.observed.unit)


def patience_s(unit: Unit) -> float:
    """How long is a unit waited for that was asked to end?"""
    is_brought = isinstance(unit.settings, ServerSettings) and unit.settings.engine_at
    return unit.settings.drain_s + END_S + (ENGINE_END_S if is_brought else 0.0)


def next_backoff_s(backoff_s: float) -> float:
    """How long does the start after the next one wait?"""
    return min(MAX_BACKOFF_S, backoff_s * 2 or FIRST_BACKOFF_S)


def restarts_after(before: Seen | None) -> int:
    """How many restarts does a start after this make? A start that never made a process is not a restart."""
    if before is None:
        return 0
    return before.observed.restarts + (1 if before.observed.pid is not None else 0)
