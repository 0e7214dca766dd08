"""Where does a split outlive the process that holds it?"""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

from pipelines.records.split import TrafficSplit


class SplitSnapshot:
    """The file of one service's split; without a path nothing outlives the process. Threads may share it."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._writing = threading.Lock()

    def read(self) -> TrafficSplit:
        """The last split; one that cannot be read is an empty one: nobody is served until somebody says by whom."""
        if self._path is None:
            return TrafficSplit()
        try:
            return TrafficSplit.from_dict(json.loads(self._path.read_text()))
        except (OSError, ValueError, KeyError, TypeError):
            return TrafficSplit()

    def write(self, split: TrafficSplit) -> None:
        """Durable when this returns: written aside, synced, then renamed. OSError where the disk refuses it."""
        if self._path is None:
            return
        temp = self._path.with_suffix(".tmp")
        with self._writing:
            with temp.open("w") as out:
                json.dump(split.as_dict(), out)
                out.flush()
                os.fsync(out.fileno())
            temp.replace(self._path)

    def replace(self, before: TrafficSplit, after: TrafficSplit) -> None:
        """Write down what is about to be in force instead of `before`. OSError where the disk refuses it.

        The way home is not held up by a full disk: a gateway that restarts comes back all-stable in any case.
        """
        try:
            self.write(after)
        except OSError:
            if not after.is_home_of(before):
                raise
