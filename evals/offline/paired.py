"""How much worse is one model than another on the same rows, and how sure is that?

Both models answer the same rows, so the difference is taken row by row: what both get right or wrong cancels out.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from evals.offline.clusters import Draws
from evals.offline.metrics import wilson

RESAMPLES = 2000
SEED = 20240229
METHOD = f"paired bootstrap, {RESAMPLES} resamples"
SCORE = "paired score interval (Tango 1998)"

Values = npt.NDArray[np.float64]
Interval = tuple[float, float]


def mean_difference(a: Values, b: Values, confidence: float) -> tuple[float, Interval]:
    """Mean of a − b with the score interval for paired proportions, for 0/1 outcomes of the same rows.

    Source: Tango, Statistics in Medicine 17 (1998), 891–908: the score test inverted, which keeps its level at small n
    and where no pair differs.
    """
    plus, minus = float(np.sum(a > b)), float(np.sum(a < b))
    return (plus - minus) / len(a), score_interval(plus, minus, len(a), confidence)


def proportion_difference(a: Values, b: Values, confidence: float, draws: Draws) -> tuple[float, Interval, str]:
    """The same with its method; of rows in clusters by a bootstrap of these.

    Clusters of which none differs from another have no spread to draw from: then it is the score interval of as many
    pairs as there are clusters.
    """
    if not draws.of_clusters:
        return *mean_difference(a, b, confidence), SCORE
    differences = a - b
    point, (low, high) = bootstrap_difference(draws, lambda draw: float(differences[draw].mean()), confidence)
    if low < high:
        return point, (low, high), f"{METHOD} of {draws.what}"
    plus, minus = (float(np.mean(where)) * draws.count for where in (a > b, a < b))
    return point, score_interval(plus, minus, draws.count, confidence), f"{SCORE} of {draws.what}, which are all alike"


def mean_interval(values: Values, confidence: float, draws: Draws, *, is_share: bool) -> Interval:
    """Where does the true mean lie? Wilson's interval for shares, else a bootstrap; of clusters where there are any."""
    share = float(values.mean())
    if is_share and not draws.of_clusters:
        return wilson(share, draws.count, confidence)
    _, (low, high) = bootstrap_difference(draws, lambda draw: float(values[draw].mean()), confidence)
    return wilson(share, draws.count, confidence) if is_share and not low < high else (low, high)


def score_interval(plus: float, minus: float, n: int, confidence: float) -> Interval:
    """Of so many of n pairs, of which `plus` are bad in the first model only and `minus` in the second only."""
    point = (plus - minus) / n
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    low = _invert(lambda d: _tango(plus, minus, n, d) - z, -1.0, point)
    return low, _invert(lambda d: _tango(plus, minus, n, d) + z, point, 1.0)


def _tango(plus: float, minus: float, n: int, delta: float) -> float:
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
    draws: Draws, difference: Callable[[npt.NDArray[np.int64]], float], confidence: float
) -> tuple[float, Interval]:
    """A difference of any two statistics of the same rows, with the percentile interval of a paired bootstrap.

    `difference` gets row numbers, drawn with replacement and with a fixed seed: rows, or all rows of each cluster.
    """
    rng = np.random.default_rng(SEED)
    point = difference(np.arange(draws.rows))
    drawn = [difference(draws.drawn(rng)) for _ in range(RESAMPLES)]
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return point, (float(low), float(high))
