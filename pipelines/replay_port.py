"""What does a replay need from the outside world? A port like those of `ports.py`, where it is wired."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from evals.signals.replay import Pair
from pipelines.records.split import Arm


@dataclass(frozen=True)
class ReplayQuery:
    """Which recorded requests shall be asked of both arms, directly, at most `concurrency` pairs at one time?

    The order of the numbers is the order of the pairs, and arms take turns in being asked first.
    """

    service: str
    numbers: Sequence[int]
    stable: Arm
    canary: Arm
    timeout_s: float = 10.0
    concurrency: int = 1


class Replays(Protocol):
    """What a service's clients asked before, and how two versions answer it."""

    def recorded(self, service: str) -> tuple[int, ...]:
        """The numbers of the requests that are kept, oldest first. DependencyDown where they cannot be read."""
        ...

    def ask(self, query: ReplayQuery) -> tuple[Pair, ...]:
        """A pair for each of the numbers that is still kept, in their order."""
        ...


class NoReplays:
    """Implements `Replays` where nothing is ever recorded."""

    def recorded(self, service: str) -> tuple[int, ...]:  # noqa: ARG002  the same for every service
        """Nothing."""
        return ()

    def ask(self, query: ReplayQuery) -> tuple[Pair, ...]:  # noqa: ARG002
        """Nothing."""
        return ()
