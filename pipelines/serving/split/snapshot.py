"""Where does a split outlive the process that holds it?"""

from __future__ import annotations

import json
import os
from pathlib import Path

from pipelines.records.split import TrafficSplit


def read_snapshot(path: Path) -> TrafficSplit:
    """The last split; an unreadable snapshot is an empty one: nobody is served until somebody says what is stable."""
    try:
        return TrafficSplit.from_dict(json.loads(path.read_text()))
    except (OSError, ValueError, KeyError, TypeError):
        return TrafficSplit()


def write_snapshot(path: Path, split: TrafficSplit) -> None:
    """Durable when this returns: written aside, synced, then renamed. OSError where the disk refuses it."""
    temp = path.with_suffix(".tmp")
    with temp.open("w") as out:
        json.dump(split.as_dict(), out)
        out.flush()
        os.fsync(out.fileno())
    temp.replace(path)
