"""What is wanted of a unit, and what was observed of it: two small files per unit, in the home.

Who wants something writes `units/<name>.json`; who supervises writes `run/<name>.json`. Both are replaced whole, so a
reader sees the old or the new one, never half of it. What a process is told stands beside, in `run/`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import psutil

from pipelines.errors import DependencyDown, LedgerBroken
from pipelines.home import Home
from pipelines.records.private_file import replace_whole
from pipelines.records.unit import Unit
from pipelines.serving.settings_file import settings_text, write_settings

SAME_START_S = 1.5
"""Linux gives the boot time in whole seconds, and it may differ by one between two reads."""


@dataclass(frozen=True)
class Observed:
    """What the supervisor last saw of a unit.

    `started_s` is seconds since boot: with the process id it names one process, whatever the wall clock does.
    `state` is running or failed; `unit` is what the process was started for; `started_at_s` is UTC.
    """

    unit: Unit
    pid: int | None = None
    started_s: float = 0.0
    started_at_s: float = 0.0
    restarts: int = 0
    state: str = "running"
    reason: str = ""
    boot: str = ""
    """The machine's boot that this was seen in: after another one no process of it is left, and none has failed."""

    def is_alive(self) -> bool:
        """Whether that very process still runs."""
        try:
            return self.pid is not None and _is_running(psutil.Process(self.pid), self.started_s)
        except psutil.Error:
            return False


def boot_id() -> str:
    """Which boot of the machine is this? "" where Linux does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def since_boot_s(process: psutil.Process) -> float:
    """When did this process start, in seconds since boot? Unlike `create_time` it survives a step of the wall clock."""
    return float(process.create_time() - psutil.boot_time())


def _is_running(process: psutil.Process, started_s: float) -> bool:
    is_same = abs(since_boot_s(process) - started_s) < SAME_START_S
    return is_same and process.status() not in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}


def unit_file(home: Home, name: str) -> Path:
    """Where a wanted unit is written."""
    return home.folder("units") / f"{name}.json"


def observed_file(home: Home, name: str) -> Path:
    """Where what was observed of a unit is written."""
    return home.folder("run") / f"{name}.json"


def settings_file(home: Home, unit: Unit) -> Path:
    """What a unit's process is told. Other settings are another file: a process is known by its command line."""
    digest = hashlib.sha256(settings_text(unit.settings).encode()).hexdigest()
    return home.folder("run") / f"{unit.name}~{digest[:12]}.settings"


def names_in(folder: Path) -> tuple[str, ...]:
    """The unit names of a folder."""
    return tuple(sorted(path.stem for path in folder.glob("*.json")))


def read_unit(home: Home, name: str) -> Unit | None:
    """A wanted unit, or None. LedgerBroken where its file is not one."""
    raw = _read(unit_file(home, name))
    return None if raw is None else _unit(raw, name)


def read_observed(home: Home, name: str) -> Observed | None:
    """What was last observed of a unit, or None where nothing useful was."""
    try:
        raw = _read(observed_file(home, name))
        return None if raw is None else Observed(**{**_known(raw), "unit": _unit(raw["unit"], name)})
    except (LedgerBroken, KeyError, TypeError):
        return None


def write_unit(home: Home, unit: Unit) -> None:
    """Keep what is wanted. DependencyDown where the disk does not take it."""
    _write(unit_file(home, unit.name), unit.as_dict())


def write_observed(home: Home, observed: Observed) -> None:
    """Keep what was seen. DependencyDown where the disk does not take it."""
    _write(observed_file(home, observed.unit.name), {**asdict(observed), "unit": observed.unit.as_dict()})


def hand_settings(home: Home, unit: Unit) -> None:
    """Write what the unit's process is told, instead of what the one before was. OSError where the disk refuses it."""
    path = settings_file(home, unit)
    write_settings(path, unit.settings)
    take_settings_back(home, unit.name, path)


def take_settings_back(home: Home, name: str, kept: Path | None = None) -> None:
    """Nobody is told any more how a unit of this name behaves, except what is kept."""
    for path in home.folder("run").glob(f"{name}~*.settings"):
        if path != kept:
            path.unlink(missing_ok=True)


def _unit(raw: Mapping[str, Any], name: str) -> Unit:
    try:
        return Unit.from_dict(raw)
    except (TypeError, AttributeError):
        raise LedgerBroken(f"the file of unit {name} is not one", code="E_UNIT", field=name) from None


def _known(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Fields that a newer Shipway added are not ours to judge."""
    names = {f.name for f in fields(Observed)}
    return {key: value for key, value in raw.items() if key in names}


def _read(path: Path) -> dict[str, Any] | None:
    try:
        raw: dict[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DependencyDown(f"{path} cannot be read: {error.strerror}", code="E_UNIT_IO") from None
    except ValueError:
        raise LedgerBroken(f"{path} is not JSON", code="E_UNIT", field=path.stem) from None
    return raw


def _write(path: Path, value: Mapping[str, Any]) -> None:
    try:
        replace_whole(path, json.dumps(value))
    except OSError as error:
        raise DependencyDown(f"{path} cannot be written: {error.strerror}", code="E_UNIT_IO") from None
