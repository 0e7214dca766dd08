"""Recorded requests without a disk, and answers without a network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from evals.signals.replay import Pair
from pipelines.ports import ReplayQuery

SAME = Pair(1.0, 1.0, agrees=True, is_class=True)


@dataclass
class MemoryReplays:
    """Implements `ports.Replays`. `answer` says what becomes of a request; by default both arms answer alike."""

    kept: dict[str, list[int]] = field(default_factory=dict)
    answer: Callable[[int], Pair] = lambda _: SAME
    asked: list[int] = field(default_factory=list)

    def recorded(self, service: str) -> tuple[int, ...]:
        """What is kept."""
        return tuple(self.kept.get(service, ()))

    def ask(self, query: ReplayQuery) -> tuple[Pair, ...]:
        """The answers."""
        found = [n for n in query.numbers if n in self.kept.get(query.service, ())]
        self.asked += found
        return tuple(self.answer(n) for n in found)
