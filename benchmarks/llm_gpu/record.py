"""How is each result kept, however the run ends? One JSON line each, in a file at once, and most on the screen."""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

NAMED = ("torch", "transformers", "uvloop", "httptools")

IN_FILE = ("pass", "release")
"""What stands in the file only: the screen has the sums of it."""


class Record:
    """One run: `versions` stand in every line of its file."""

    def __init__(self, file: Path, versions: Mapping[str, str]) -> None:
        self._file, self._versions, self._began_s = file, versions, time.monotonic()
        file.parent.mkdir(parents=True, exist_ok=True)

    def say(self, part: str, **said: Any) -> None:
        """Keep one result."""
        line = {"part": part, "t_s": round(self.spent_s, 1), **said}
        with self._file.open("a") as out:
            out.write(json.dumps({**line, "versions": dict(self._versions)}) + "\n")
        if said.get("what") not in IN_FILE:
            print(json.dumps({name: _short(value) for name, value in line.items()}, ensure_ascii=False), flush=True)

    @property
    def spent_s(self) -> float:
        """Since the run began."""
        return time.monotonic() - self._began_s


def _short(value: Any) -> Any:
    """A spread as people write it."""
    if isinstance(value, Mapping) and "median" in value:
        return f"{value['median']:g} ({value['min']:g} – {value['max']:g}, n = {value['n']})"
    return {name: _short(one) for name, one in value.items()} if isinstance(value, Mapping) else value


def versions_here() -> dict[str, str]:
    """Of what this process uses; what is not there is not named."""
    found = {"python": platform.python_version()}
    for name in NAMED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def spread(values: Sequence[float], digits: int = 3) -> dict[str, float]:
    """Median, smallest, largest and n."""
    if not values:
        return {"n": 0}
    ends = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {**{name: round(value, digits) for name, value in ends.items()}, "n": len(values)}


def quantile(values: Sequence[float], at: float) -> float:
    """The value below which that part of them lies; NaN of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * at))] if ordered else float("nan")
