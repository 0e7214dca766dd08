"""What was measured, how, on what, and how sure is it; or why is it missing?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Measurement:
    """One number about one model on one set of rows.

    `value` is None when the measurement is missing, and then `missing` says why; it is never NaN.
    `interval` is the two-sided confidence interval at `confidence`, where the metric has one.
    """

    metric: str
    value: float | None
    unit: str = ""
    n: int = 0
    slice: str = "all"
    interval: tuple[float, float] | None = None
    confidence: float = 0.95
    missing: str | None = None


@dataclass(frozen=True)
class Comparison:
    """How much worse is the candidate than the champion on the same rows?

    `drop` is positive where the candidate is worse, in the metric's unit; `interval` is the paired interval.
    """

    metric: str
    drop: float | None
    n: int = 0
    slice: str = "all"
    interval: tuple[float, float] | None = None
    confidence: float = 0.95
    method: str = ""
    missing: str | None = None


@dataclass(frozen=True)
class Evidence:
    """Everything that one suite measured about one subject."""

    subject: str
    suite_digest: str
    measurements: tuple[Measurement, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)

    def measurement(self, metric: str, slice_name: str = "all") -> Measurement | None:
        """The measurement of `metric` on a slice, or None if the suite has none."""
        return next((m for m in self.measurements if (m.metric, m.slice) == (metric, slice_name)), None)

    def comparison(self, metric: str, slice_name: str = "all") -> Comparison | None:
        """The paired comparison of `metric` on a slice, or None if the suite has none."""
        return next((c for c in self.comparisons if (c.metric, c.slice) == (metric, slice_name)), None)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data for the ledger."""
        return asdict(self)


MIN_ROWS = 30
"""A slice with fewer rows is reported as missing: too small to say anything, and not silently dropped."""


_TOO_FEW = "too few to judge"


def too_few(n: int, what: str = "rows", least: int = MIN_ROWS) -> str | None:
    """Why can n rows (or batches) not be judged? None where they are enough."""
    return f"{n} {what} are {_TOO_FEW} (at least {least})" if n < least else None


def is_too_few(missing: str | None) -> bool:
    """Whether something is missing for want of rows, and for no worse reason."""
    return missing is not None and _TOO_FEW in missing


_LATER = "only the engine that serves can answer"


def judged_later(rows: int) -> str:
    """Why is something missing of a model on an engine that serves nobody, and judged once it has the one that does?"""
    return f"{rows} rows ask for what {_LATER}: judged there"


def is_judged_later(missing: str | None) -> bool:
    """Whether something is missing for that reason, and for no worse one."""
    return missing is not None and _LATER in missing


def column_of(slice_name: str) -> str | None:
    """The column of a slice's name; None for `all`."""
    return slice_name.partition("=")[0] if "=" in slice_name else None
