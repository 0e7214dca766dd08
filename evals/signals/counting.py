"""In which steps is counted what a source of evidence sees? Light: a gateway needs this, and no judge."""

from __future__ import annotations

import math

GRID = 1000
"""Scores are counted by thousandths."""

MOST_SLICES = 50
"""Values of declared attributes that are judged; later ones are not, and the source may gather them under one name."""

COST, PAID = "cost", "paid"
"""What answers cost stands among what is timed, in billionths of money: without, and with, what a cache saved."""

NANO = 1e9

THOUSAND, MOST_VALUE = 1000, 1e100


def step_of_value(value: float) -> int:
    """At which step is a predicted number counted? Thousandths up to ±1, then by one percent. ValueError for none."""
    if not math.isfinite(value):
        raise ValueError(f"{value!r} is no number that can be predicted")
    if abs(value) <= 1:
        return round(value * THOUSAND)
    return int(math.copysign(THOUSAND + math.ceil(math.log(min(abs(value), MOST_VALUE)) / math.log(1.01)), value))
