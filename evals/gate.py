"""What is required, and does the evidence show it?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from evals.evidence import Comparison, Evidence, Measurement
from evals.slices import MIN_ROWS, column_of


class Outcome(StrEnum):
    """The four answers. Their order is declared in `WORST_FIRST`, and nothing but PASS lets a release go on."""

    PASS = "pass"  # noqa: S105  a verdict, not a password
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


def judge(gates: Sequence[Gate], evidence: Evidence, *, has_champion: bool) -> Verdict:
    """Does the evidence show what every gate requires?

    An absolute bound is held against the measured value. A margin to the champion is a non-inferiority test on the
    same rows: it passes where the whole paired interval lies within the margin, and fails where the loss is beyond
    the margin and proven (the interval lies above 0). Everything between is INCONCLUSIVE: these rows cannot tell.
    Missing evidence is an ERROR. Without a champion margins are not judged.
    """
    return Verdict.of([reason for gate in gates for reason in _judge_gate(gate, evidence, has_champion)])


def _judge_gate(gate: Gate, evidence: Evidence, has_champion: bool) -> list[Reason]:
    reasons: list[Reason] = []
    if gate.min is not None or gate.max is not None:
        measured = [m for m in evidence.measurements if _concerns(gate, m.metric, m.slice)]
        reasons += [_bound(gate, m) for m in measured]
    if gate.max_drop is not None and has_champion:
        compared = [c for c in evidence.comparisons if _concerns(gate, c.metric, c.slice)]
        reasons += [_margin(gate.max_drop, c) for c in compared]
    if gate.max_drop is not None and not has_champion:
        reasons.append(Reason(Outcome.PASS, gate.metric, f"{gate.metric}: no champion yet, the margin is not judged"))
    return reasons or [Reason(Outcome.ERROR, gate.metric, f"{gate.metric}: nothing was measured")]


def _concerns(gate: Gate, metric: str, slice_name: str) -> bool:
    return metric == gate.metric and column_of(slice_name) == gate.slices


def _bound(gate: Gate, measured: Measurement) -> Reason:
    name = _name(measured.metric, measured.slice)
    if measured.value is None:
        return _missing(name, measured.n, measured.missing)
    bounds = [
        f"at least {gate.min:g}" if gate.min is not None else "",
        f"at most {gate.max:g}" if gate.max is not None else "",
    ]
    required = " and ".join(filter(None, bounds))
    holds = (gate.min is None or measured.value >= gate.min) and (gate.max is None or measured.value <= gate.max)
    sentence = f"{name} is {measured.value:.4g} (n={measured.n}); {required} is required"
    return Reason(Outcome.PASS if holds else Outcome.FAIL, name, sentence)


def _margin(allowed: float, compared: Comparison) -> Reason:
    name = _name(compared.metric, compared.slice)
    if compared.drop is None or compared.interval is None:
        return _missing(name, compared.n, compared.missing)
    low, high = compared.interval
    way = "is worse than the champion by" if compared.drop > 0 else "is not worse than the champion: by"
    sentence = (
        f"{name} {way} {compared.drop:.3g} ({compared.confidence:.0%} interval {low:.3g} to {high:.3g}, "
        f"n={compared.n}); {allowed:g} is allowed"
    )
    if high <= allowed:
        return Reason(Outcome.PASS, name, sentence)
    if compared.drop > allowed and low > 0:
        return Reason(Outcome.FAIL, name, sentence)
    return Reason(Outcome.INCONCLUSIVE, name, f"{sentence}: these rows cannot tell")


def _missing(name: str, n: int, why: str | None) -> Reason:
    """A slice that is too small says so and stops nobody; anything else that is missing is an error."""
    small = 0 < n < MIN_ROWS and "=" in name
    return Reason(Outcome.PASS if small else Outcome.ERROR, name, f"{name}: {why or 'nothing was measured'}")


def _name(metric: str, slice_name: str) -> str:
    return metric if slice_name == "all" else f"{metric} on {slice_name}"
