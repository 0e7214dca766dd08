"""Which accelerators has this machine, and which of them are linked closely? Asked of NVIDIA's own tool."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping

from pipelines.tasks.memory import Device

ASK_S = 20.0
FIELDS = "index,uuid,memory.total,memory.free"
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_LINK = re.compile(r"NV\d+")


def devices_here() -> tuple[Device, ...]:
    """Those that a process which is started here sees; none where there is no driver."""
    listed = _said("--query-gpu=" + FIELDS, "--format=csv,noheader,nounits")
    return devices_of(listed, _said("topo", "-m") if listed else "", os.environ.get("CUDA_VISIBLE_DEVICES"))


def devices_of(listed: str, links: str, visible: str | None = None) -> tuple[Device, ...]:
    """The devices of a list (a line each, MiB) and of a matrix of links, as nvidia-smi writes them.

    `visible` names some of them, by number or by the beginning of a UUID; None names all.
    """
    near, found = links_of(links), {}
    for line in listed.splitlines():
        number, uuid, total, free = (part.strip() for part in line.split(","))
        if visible is None or any(_is_named(name.strip(), number, uuid) for name in visible.split(",")):
            found[int(number)] = (int(total) << 20, int(free) << 20)
    return tuple(Device(*sizes, near.get(number, frozenset()) & {*found}) for number, sizes in found.items())


def links_of(matrix: str) -> Mapping[int, frozenset[int]]:
    """Which devices each one is joined to by NVLink."""
    rows = [_COLOUR.sub("", line).split("\t") for line in matrix.splitlines()]
    columns = next(([cell.strip() for cell in row] for row in rows if "GPU0" in (cell.strip() for cell in row[1:])), [])
    found = {}
    for row in rows:
        name = re.fullmatch(r"GPU(\d+)", row[0].strip())
        if name is not None:
            pairs = zip(columns, row, strict=False)
            joined = (column for column, cell in pairs if column.startswith("GPU") and _LINK.fullmatch(cell.strip()))
            found[int(name[1])] = frozenset(int(column[3:]) for column in joined if column[3:].isdigit())
    return found


def _is_named(name: str, number: str, uuid: str) -> bool:
    return name == number or (name.startswith("GPU-") and uuid.startswith(name))


def _said(*arguments: str) -> str:
    """What the tool answers; "" where it is not there, or fails."""
    command = ["nvidia-smi", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ASK_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout
