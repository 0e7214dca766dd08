"""How long did it take, in buckets as Prometheus has them?"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import accumulate

from prometheus_client.core import HistogramMetricFamily
from prometheus_client.utils import floatToGoString


class Times:
    """How many took so long, by the upper bounds of buckets in seconds, and all of them together."""

    __slots__ = ("_bounds_s", "buckets", "seconds")

    def __init__(self, bounds_s: Sequence[float]) -> None:
        self._bounds_s = bounds_s
        self.buckets = [0] * (len(bounds_s) + 1)
        self.seconds = 0.0

    def count(self, seconds: float) -> None:
        """One more."""
        self.buckets[bisect_left(self._bounds_s, seconds)] += 1
        self.seconds += seconds

    def add(self, buckets: Sequence[int], seconds: float) -> None:
        """What another process has counted."""
        self.buckets = [a + b for a, b in zip(self.buckets, buckets, strict=True)]
        self.seconds += seconds

    def tell(self, family: HistogramMetricFamily, arm: str) -> None:
        """Become one arm's part of an exposition."""
        bounds = [*map(floatToGoString, self._bounds_s), "+Inf"]
        family.add_metric([arm], list(zip(bounds, accumulate(self.buckets), strict=True)), self.seconds)


def histogram(name: str, about: str, by_arm: Mapping[str, Times]) -> HistogramMetricFamily:
    """The exposition of the times at each arm."""
    family = HistogramMetricFamily(name, about, labels=["arm"])
    for arm, times in sorted(by_arm.items()):
        times.tell(family, arm)
    return family
