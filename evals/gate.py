"""What is required, and does the evidence show it?"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Outcome(StrEnum):
    """The four answers. Their order is declared in `WORST_FIRST`, and nothing but PASS lets a release go on."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    ERROR = "error"


WORST_FIRST = (Outcome.FAIL, Outcome.ERROR, Outcome.INCONCLUSIVE, Outcome.PASS)
"""A proven failure outranks an error, which outranks not knowing: no later step may mask a worse answer."""


@dataclass(frozen=True)
class Gate:
    """One requirement: an absolute bound, a margin relative to the champion, or both.

    `max_drop` is how much worse than the champion the candidate may be, in the metric's unit (for metrics where lower
    is better it is the allowed rise; for latency and size it is a fraction of the champion's value).
    `slices`: None applies to all rows; a column name applies to each value of that column.
    """

    metric: str
    min: float | None = None
    max: float | None = None
    max_drop: float | None = None
    slices: str | None = None


@dataclass(frozen=True)
class Reason:
    """Why one gate said what it said, in one sentence."""

    outcome: Outcome
    gate: str
    sentence: str


@dataclass(frozen=True)
class Verdict:
    """The worst of the reasons' outcomes, and all of the reasons."""

    outcome: Outcome
    reasons: tuple[Reason, ...] = ()

    @classmethod
    def of(cls, reasons: list[Reason]) -> Verdict:
        """The verdict over several reasons; no reason at all is INCONCLUSIVE, never PASS."""
        if not reasons:
            return cls(Outcome.INCONCLUSIVE)
        worst = min((r.outcome for r in reasons), key=WORST_FIRST.index)
        return cls(worst, tuple(reasons))

    def because(self) -> str:
        """The sentences of the reasons that decided, joined."""
        return "; ".join(r.sentence for r in self.reasons if r.outcome is self.outcome) or "nothing was judged"

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data for the ledger."""
        return asdict(self)
