"""What is required, and does the evidence show it?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from statistics import NormalDist
from typing import Any

from evals.evidence import Comparison, Evidence, Measurement, column_of, is_judged_later, is_too_few


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
    """One requirement, in the words that hold on the evaluation's rows, on the canary and in the bake alike.

    `min` and `max` bound the value itself. `tolerance` and `margin` compare with the champion, in the metric's unit
    (for metrics where lower is better it is the rise; for latency and size a fraction of the champion's value): a loss
    within `tolerance` accuses nobody, and one of `margin` must be disproven before the release goes on. On the same
    rows that is asked once, by paired intervals (`judge`); on live traffic at every look, by e-processes
    (`CanaryPlan.of`).
    `slices`: None applies to all rows; a column name applies to each value of that column.
    """

    metric: str
    min: float | None = None
    max: float | None = None
    margin: float | None = None
    slices: str | None = None
    tolerance: float = 0.0
    quantiles: tuple[float, ...] = ()
    """Where the metric is a latency on live traffic: the quantiles of stable's that it is held against."""


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

    - An absolute bound is held against the measured value.
    - A margin to the champion on all rows is a non-inferiority test: PASS where the whole paired interval lies within
      the margin, FAIL where the loss is beyond the margin and proven (the interval lies above the tolerance).
    - A margin on slices is a guard: FAIL where a slice's loss is beyond the margin and proven even after looking at
      all of its sisters (Bonferroni), INCONCLUSIVE where only a look at this slice alone would prove it, else PASS.
      A strict test on every small slice would hold back good models; the gate on all rows is the strict one.
    - Too few rows are INCONCLUSIVE; of several slices the small ones are named and stop nobody.
    - What only the engine that serves can answer stops nobody before it does: every model that is to serve is judged
      on it. Any other missing evidence is an ERROR. Without a champion margins are not judged.
    """
    return Verdict.of([reason for gate in gates for reason in _judge_gate(gate, evidence, has_champion)])


def _judge_gate(gate: Gate, evidence: Evidence, has_champion: bool) -> list[Reason]:
    reasons: list[Reason] = []
    if gate.min is not None or gate.max is not None:
        reasons += _bounds(gate, [m for m in evidence.measurements if _concerns(gate, m)])
    if gate.margin is not None and has_champion:
        reasons += _margins(gate, gate.margin, [c for c in evidence.comparisons if _concerns(gate, c)])
    if gate.margin is not None and not has_champion:
        reasons.append(Reason(Outcome.PASS, gate.metric, f"{gate.metric}: no champion yet, the margin is not judged"))
    return reasons or [Reason(Outcome.ERROR, gate.metric, f"the gate on {gate.metric} requires nothing")]


def _concerns(gate: Gate, found: Measurement | Comparison) -> bool:
    return found.metric == gate.metric and column_of(found.slice) == gate.slices


def _bounds(gate: Gate, measured: Sequence[Measurement]) -> list[Reason]:
    known = [_bound(gate, m, m.value) for m in measured if m.value is not None]
    missing = [_missing(m, m.missing, alone=not known) for m in measured if m.value is None]
    return known + missing or [_unmeasured(gate, "measured")]


def _margins(gate: Gate, allowed: float, compared: Sequence[Comparison]) -> list[Reason]:
    found = [(c, c.drop, c.interval) for c in compared if c.drop is not None and c.interval is not None]
    known = [_margin(gate, c, drop, interval, allowed, len(found)) for c, drop, interval in found]
    missing = [_missing(c, c.missing, alone=not known) for c in compared if c.drop is None or c.interval is None]
    return known + missing or [_unmeasured(gate, "compared with the champion")]


def _bound(gate: Gate, measured: Measurement, value: float) -> Reason:
    bounds = [
        f"at least {gate.min:g}" if gate.min is not None else "",
        f"at most {gate.max:g}" if gate.max is not None else "",
    ]
    required = " and ".join(filter(None, bounds))
    holds = (gate.min is None or value >= gate.min) and (gate.max is None or value <= gate.max)
    name = _name(measured)
    sentence = f"{name} is {value:.4g} (n={measured.n}); {required} is required"
    return Reason(Outcome.PASS if holds else Outcome.FAIL, name, sentence)


def _margin(
    gate: Gate, compared: Comparison, drop: float, interval: tuple[float, float], allowed: float, of_slices: int
) -> Reason:
    low, high = interval
    name, said = _name(compared), _said(compared, drop, interval, allowed)
    is_slice = column_of(compared.slice) is not None
    if high <= allowed or (is_slice and drop <= allowed):
        return Reason(Outcome.PASS, name, said)
    if is_slice and low <= gate.tolerance:
        return Reason(Outcome.PASS, name, f"{said}: so few rows do not prove a loss")
    if drop > allowed and drop - (drop - low) * _bonferroni(compared.confidence, of_slices) > gate.tolerance:
        return Reason(Outcome.FAIL, name, said)
    return Reason(Outcome.INCONCLUSIVE, name, f"{said}: these rows cannot tell")


def _bonferroni(confidence: float, looks: int) -> float:
    """How much wider is a normal interval that holds for all of several looks at once?"""
    tail, normal = (1 - confidence) / 2, NormalDist()
    return normal.inv_cdf(1 - tail / looks) / normal.inv_cdf(1 - tail)


def _said(compared: Comparison, drop: float, interval: tuple[float, float], allowed: float) -> str:
    way = f"worse than the champion by {drop:.3g}" if drop > 0 else f"not worse than the champion (by {drop:.3g})"
    low, high = interval
    sure = f"{100 * compared.confidence:g} % interval {low:.3g} to {high:.3g}, n={compared.n}"
    return f"{_name(compared)} is {way} ({sure}); at most {allowed:g} is allowed"


def _missing(found: Measurement | Comparison, why: str | None, *, alone: bool) -> Reason:
    """Too few rows cannot tell, and stop nobody where other slices could; anything else that is missing is an error.

    But for what only the engine that serves can answer: that is asked there, by the same gates.
    """
    name = _name(found)
    sentence = f"{name}: {why or 'nothing was measured'}"
    if is_judged_later(why):
        return Reason(Outcome.PASS, name, sentence)
    if not is_too_few(why):
        return Reason(Outcome.ERROR, name, sentence)
    return Reason(Outcome.INCONCLUSIVE if alone else Outcome.PASS, name, sentence)


def _unmeasured(gate: Gate, what: str) -> Reason:
    name = gate.metric if gate.slices is None else f"{gate.metric} on each {gate.slices}"
    return Reason(Outcome.ERROR, name, f"{name}: nothing was {what}")


def _name(found: Measurement | Comparison) -> str:
    return found.metric if found.slice == "all" else f"{found.metric} on {found.slice}"
