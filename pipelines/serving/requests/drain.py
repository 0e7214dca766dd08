"""What becomes of the streams of a canary that has no users any more?

They go on as long as is declared, or are ended at once. One that is ended says so to its client; nobody is accused.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from pipelines.records.split import Arm, TrafficSplit


class Stream(Protocol):
    """An answer that may go on for long."""

    @property
    def digest(self) -> str:
        """Whose answer it is."""

    def withdraw(self) -> None:
        """End it, if it is a stream that has begun."""


class Leaving:
    """Which canaries were sent home, and since when. Times are monotonic seconds.

    A stable arm whose place was taken stays warm for a way back, and so its streams are left alone.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._canary: Arm | None = None
        self._since_s: dict[str, float] = {}

    def changed(self, split: TrafficSplit, now_s: float) -> None:
        """Another split is in force."""
        before, self._canary = self._canary, split.canary
        if before is not None:
            self._since_s.setdefault(before.digest, now_s)
        for arm in (split.stable, split.canary):
            if arm is not None:
                self._since_s.pop(arm.digest, None)

    def sweep(self, streams: Iterable[Stream], now_s: float) -> None:
        """End the streams of those that had long enough."""
        if not self._since_s:
            return
        owed = [stream for stream in streams if stream.digest in self._since_s]
        for stream in owed:
            if now_s - self._since_s[stream.digest] >= self._patience_s:
                stream.withdraw()
        still = {stream.digest for stream in owed}
        self._since_s = {digest: since_s for digest, since_s in self._since_s.items() if digest in still}
