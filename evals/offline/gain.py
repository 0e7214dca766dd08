"""What does a variant win over the model that it was made from?

Who passes the same gates is not worse; that alone is no reason to serve other bytes. A variant must be clearly smaller,
or clearly faster as users ask: one text at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from evals.gate import Outcome, Reason

CLEARLY_SMALLER, CLEARLY_FASTER = 0.10, 0.05
"""Fractions of the source's size and median time: less is within what file formats and neighbours on a machine do."""

MOST_TEXTS, LEAST_TEXTS, MOST_S = 60, 9, 20.0
"""So many texts are timed, fewer where that would take longer than this; never fewer than the least."""

Ask = Callable[[Sequence[str]], object]


@dataclass(frozen=True)
class Gain:
    """Sizes in MB, and medians of one text's time in ms, of a source and a variant that were asked in turn.

    No times where they say nothing: another engine than the one that serves runs the source.
    """

    source_mb: float
    variant_mb: float
    source_ms: float | None
    variant_ms: float | None
    n: int

    @property
    def is_smaller(self) -> bool:
        """Clearly."""
        return self.variant_mb <= (1 - CLEARLY_SMALLER) * self.source_mb

    @property
    def is_faster(self) -> bool:
        """Clearly."""
        if self.source_ms is None or self.variant_ms is None:
            return False
        return self.variant_ms <= (1 - CLEARLY_FASTER) * self.source_ms

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data for the ledger."""
        return asdict(self)


def judge_gain(gain: Gain) -> Reason:
    """Is there a reason to serve the variant? PASS where it is clearly smaller or clearly faster."""
    won = [word for word, is_so in (("smaller", gain.is_smaller), ("faster", gain.is_faster)) if is_so]
    what = f"is {' and '.join(won)}" if won else "is neither smaller nor faster"
    figures = f"{gain.variant_mb:.4g} instead of {gain.source_mb:.4g} MB"
    if gain.source_ms is not None:
        figures += f", {gain.variant_ms:.3g} instead of {gain.source_ms:.3g} ms for one text, n={gain.n}"
    asked = f"; {CLEARLY_SMALLER:.0%} smaller or {CLEARLY_FASTER:.0%} faster is required"
    return Reason(Outcome.PASS if won else Outcome.FAIL, "gain", f"it {what} ({figures}{'' if won else asked})")


def measure_gain(
    source: Ask, variant: Ask, texts: Sequence[str], sizes_mb: tuple[float, float], clock: Callable[[], float]
) -> Gain:
    """Both are asked the same texts alone, in turn, so that a neighbour on the machine slows both; medians count.

    `sizes_mb` are the source's and the variant's; `clock` gives monotonic seconds.
    """
    chosen = texts[:: -(-len(texts) // MOST_TEXTS)]
    asks = (source, variant)
    times_ms: tuple[list[float], list[float]] = ([], [])
    for ask in asks:
        ask(chosen[:1])  # warming up is not timed
    began = clock()
    for turn, text in enumerate(chosen):
        for who in (0, 1) if turn % 2 else (1, 0):
            asked = clock()
            asks[who]([text])
            times_ms[who].append((clock() - asked) * 1000)
        if turn + 1 >= LEAST_TEXTS and clock() - began > MOST_S:
            break
    return Gain(*sizes_mb, median(times_ms[0]), median(times_ms[1]), len(times_ms[0]))
