"""How much worse is one model than another on the same rows, and how sure is that?

Both models answer the same rows, so the difference is taken row by row: what both get right or wrong cancels out.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

RESAMPLES = 2000
SEED = 20240229
METHOD = f"paired bootstrap, {RESAMPLES} resamples"

Values = npt.NDArray[np.float64]
Interval = tuple[float, float]


def mean_difference(a: Values, b: Values, confidence: float) -> tuple[float, Interval]:
    """Mean of a − b with the score interval for paired proportions, for 0/1 outcomes of the same rows.

    Source: Tango, Statistics in Medicine 17 (1998), 891–908: the score test inverted, which keeps its level at small n
    and where no pair differs.
    """
    n = len(a)
    plus, minus = int(np.sum(a > b)), int(np.sum(a < b))
    point = (plus - minus) / n
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    low = _invert(lambda d: _tango(plus, minus, n, d) - z, -1.0, point)
    high = _invert(lambda d: _tango(plus, minus, n, d) + z, point, 1.0)
    return point, (low, high)


def _tango(plus: int, minus: int, n: int, delta: float) -> float:
    """Tango's score statistic of "the difference is delta"; decreasing in delta."""
    a = 2.0 * n
    b = -plus - minus + (2.0 * n - plus + minus) * delta
    c = -minus * delta * (1.0 - delta)
    q = (np.sqrt(max(b * b - 4.0 * a * c, 0.0)) - b) / (2.0 * a)
    variance = n * (2.0 * q + delta * (1.0 - delta))
    numerator = plus - minus - n * delta
    if variance <= 0:
        return 0.0 if numerator == 0 else float(np.copysign(np.inf, numerator))
    return float(numerator / np.sqrt(variance))


def _invert(f: Callable[[float], float], low: float, high: float) -> float:
    """The root of a decreasing function in [low, high], by bisection."""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if f(middle) > 0 else (low, middle)
    return (low + high) / 2


def bootstrap_difference(
    n: int, difference: Callable[[npt.NDArray[np.int64]], float], confidence: float
) -> tuple[float, Interval]:
    """A difference of any two statistics of the same n rows, with the percentile interval of a paired bootstrap.

    `difference` gets row numbers, drawn with replacement and with a fixed seed.
    """
    rng = np.random.default_rng(SEED)
    point = difference(np.arange(n))
    draws = [difference(rng.integers(0, n, n)) for _ in range(RESAMPLES)]
    tail = (1 - confidence) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return point, (float(low), float(high))
