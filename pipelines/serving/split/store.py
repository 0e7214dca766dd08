"""Which split holds now? Fencing, leases and restarts, as a state machine without clock, socket or disk."""

from __future__ import annotations

from dataclasses import replace

from pipelines.records.split import Generation, TrafficSplit


class Refused(Exception):  # what happened, not a programming error
    """A write that a fence or a newer split forbids; `current` is what holds."""

    def __init__(self, reason: str, current: TrafficSplit) -> None:
        super().__init__(reason)
        self.current = current


class Unconfirmed(Exception):  # what happened, not a programming error
    """A larger share that not everybody who serves has confirmed: the old split holds."""


class SplitStore:
    """The split of one service. Times are seconds on this process's monotonic clock."""

    def __init__(self, split: TrafficSplit, boot: str) -> None:
        """A gateway that begins (again) sends everything to stable: a share is only ever given by a living writer."""
        if split.canary is not None:
            fence, n = split.generation
            split = split.home((fence, n + 1), "restarted")
        self.split = replace(split, boot=boot)
        """What holds now; only this store changes it."""
        self._lease_ends_s: float | None = None

    def check(self, wanted: TrafficSplit, expected: Generation) -> TrafficSplit:
        """The split that `put` would make current. Refused where the writer is stale; saying it twice is fine."""
        current = self.split
        wanted = replace(wanted, boot=current.boot)
        if wanted == current:
            return current
        if wanted.generation <= current.generation:
            raise Refused(f"generation {wanted.generation} is not after {current.generation}", current)
        if expected != current.generation:
            raise Refused(f"generation {expected} was expected, {current.generation} holds", current)
        return wanted

    def put(self, wanted: TrafficSplit, expected: Generation, now_s: float) -> TrafficSplit:
        """Make a split current; its lease runs from now."""
        split = self.check(wanted, expected)
        if split != self.split:
            self.split = split
            self._lease_ends_s = now_s + split.lease_s if split.lease_s is not None else None
        return split

    def is_overdue(self, now_s: float) -> bool:
        """Whether the canary's lease has ended."""
        return self._lease_ends_s is not None and now_s >= self._lease_ends_s

    def lease_left_s(self, now_s: float) -> float | None:
        """For how long the canary keeps its share if nobody renews it; None without a canary."""
        return self._lease_ends_s - now_s if self._lease_ends_s is not None else None

    def expired(self) -> TrafficSplit:
        """The split after the end of the lease: everything at stable."""
        fence, n = self.split.generation
        return self.split.home((fence, n + 1), "lease_expired")

    def adopt(self, split: TrafficSplit, lease_ends_s: float | None = None) -> None:
        """Make the gateway's own decision current, or in a worker that of its keeper."""
        self.split = split
        self._lease_ends_s = lease_ends_s
