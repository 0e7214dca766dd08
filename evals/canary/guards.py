"""Can this comparison be believed?

Beside each canary the same tests run where the answer is known. Stable is split in two at random: a metric that tells
stable from itself is *unreliable*, and cannot send a canary home alone. The router's shares are counted against what
was ordered: where they are not what they should be, *nothing* of the comparison is valid. And labels must not come
more often for one arm than for the other, or what is known of its quality is a choice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from evals.maths.e_processes import Bank, Ints, OddsRatio, Values, absorb, log_mean
from evals.signals.latency import EXCEEDANCE, slower_than
from evals.signals.strata import ArmCounts, Stratum

ERRORS_APART = OddsRatio()
LABELS_APART = OddsRatio(ratios=(1.0, 1.25, 1.6, 2.5, 5.0), prior=(0.2,) * 5)


@dataclass(frozen=True)
class RoutedShare:
    """Null: each request goes to the canary with probability `share`. Counts: canary, stable.

    Source: sample-ratio mismatch, Lindon & Malek 2022.
    """

    share: float
    odds: tuple[float, ...] = (0.5, 0.8, 0.92, 1.0, 1.08, 1.25, 2.0)
    columns: int = 2

    @property
    def log_prior(self) -> Values:
        """Log weights of the odds."""
        return np.full(len(self.odds), -math.log(len(self.odds)))

    def log_factors(self, past: Ints, counts: Ints) -> Values:  # noqa: ARG002  the share is ordered, not estimated
        """Log e of every odds for a stratum of every row."""
        odds = np.asarray(self.odds) * self.share / (1 - self.share)
        found = odds / (1 + odds)
        at_stable = np.log1p(-found) - math.log1p(-self.share)
        return np.asarray(counts[:, :1] * np.log(found / self.share) + counts[:, 1:] * at_stable)


@dataclass(frozen=True)
class Guards:
    """Evidence against the comparison itself; a row in each direction, of each quantile where it is latency."""

    errors: Bank = field(default_factory=lambda: Bank.of(ERRORS_APART, 2))
    latency: Bank = field(default_factory=lambda: Bank.of(EXCEEDANCE, 0))
    share: Bank = field(default_factory=lambda: Bank.of(RoutedShare(0.5)))
    labels: Bank = field(default_factory=lambda: Bank.of(LABELS_APART, 2))
    labels_pct: float = 0.0
    """The share at which the last labelled requests were routed."""

    @property
    def logs(self) -> dict[str, float]:
        """Log evidence against the comparison of each metric, and against the shares themselves."""
        apart = {"errors": self.errors, "latency": self.latency, "quality": self.labels, "share": self.share}
        return {
            name: log_mean(bank.log_e, np.full(bank.rows, 1 / max(bank.rows, 1))) if bank.rows else 0.0
            for name, bank in apart.items()
        }

    def cut(self) -> Guards:
        """The guards without the counts that wait; labels are of earlier requests, which know their own share."""
        return replace(self, errors=self.errors.cut(), latency=self.latency.cut(), share=self.share.cut())

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {**{name: getattr(self, name).as_dict() for name in _BANKS}, "labels_pct": self.labels_pct}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Guards:
        """The guards of `as_dict`."""
        return cls(**{name: Bank.from_dict(raw[name]) for name in _BANKS}, labels_pct=float(raw["labels_pct"]))


_BANKS = ("errors", "latency", "share", "labels")


def absorb_guards(guards: Guards, stratum: Stratum, steps: Sequence[int], shift: int) -> Guards:
    """The guards after one stratum; `steps` and `shift` are the latency test's thresholds and tolerance."""
    guards = _absorb_labels(_absorb_control(guards, stratum, steps, shift), stratum)
    return replace(guards, share=_absorb_share(guards.share, stratum))


def _absorb_share(bank: Bank, stratum: Stratum) -> Bank:
    if not 0 < stratum.canary_pct < 100:
        return bank
    routed = np.array([[stratum.canary.routed, stratum.stable.routed]])
    return absorb(RoutedShare(stratum.canary_pct / 100), bank, routed)


def _absorb_labels(guards: Guards, stratum: Stratum) -> Guards:
    """Cohort by cohort: only those that were routed at one share are merged."""
    for cohort in stratum.cohorts:
        labels = guards.labels if cohort.canary_pct == guards.labels_pct else guards.labels.cut()
        canary, stable = (cohort.canary, cohort.canary_labelled), (cohort.stable, cohort.stable_labelled)
        labels = absorb(LABELS_APART, labels, np.array([(*canary, *stable), (*stable, *canary)]))
        guards = replace(guards, labels=labels, labels_pct=cohort.canary_pct)
    return guards


def _absorb_control(guards: Guards, stratum: Stratum, steps: Sequence[int], shift: int) -> Guards:
    half = stratum.control
    if half is None:
        return guards
    other = without(stratum.stable, half)
    pairs = ((half, other), (other, half))
    errors = np.array([(a.routed, a.errors, b.routed, b.errors) for a, b in pairs])
    latency = guards.latency
    if steps:
        counts = np.array([slower_than(a, b, step, shift) for step in steps for a, b in pairs])
        latency = absorb(EXCEEDANCE, latency.grown(EXCEEDANCE, len(counts)), counts)
    return replace(guards, errors=absorb(ERRORS_APART, guards.errors, errors), latency=latency)


def without(all_of_it: ArmCounts, part: ArmCounts) -> ArmCounts:
    """What the other requests did."""
    steps = {*all_of_it.over, *part.over}
    return ArmCounts(
        all_of_it.routed - part.routed,
        all_of_it.errors - part.errors,
        all_of_it.timeouts - part.timeouts,
        {step: all_of_it.exceeding(step) - part.exceeding(step) for step in steps},
        memo_hits=all_of_it.memo_hits - part.memo_hits,
        left=all_of_it.left - part.left,
    )
