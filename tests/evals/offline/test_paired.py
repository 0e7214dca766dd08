"""Do the paired intervals hold the truth as often as they say?"""

from __future__ import annotations

import math
from collections import Counter
from functools import partial
from statistics import NormalDist

import numpy as np
import pytest

from evals.offline import paired
from evals.offline.clusters import Draws
from evals.offline.metrics import wilson
from evals.offline.paired import SCORE, bootstrap_difference, mean_difference, mean_interval, proportion_difference

Z = NormalDist().inv_cdf(0.975)


def pairs(plus, minus, n):
    """Outcomes of n rows of which `plus` are bad in the first model only, `minus` in the second only."""
    a = np.array([1.0] * plus + [0.0] * (n - plus))
    b = np.array([0.0] * plus + [1.0] * minus + [0.0] * (n - plus - minus))
    return a, b


@pytest.mark.parametrize("n", [30, 412, 1500])
def test_no_discordant_pair_is_not_certainty(n):
    """Two models that agree on all rows may still differ by z²/(n + z²), the closed form of the score interval."""
    point, (low, high) = mean_difference(*pairs(0, 0, n), 0.95)
    assert point == 0
    assert high == pytest.approx(Z * Z / (n + Z * Z))
    assert low == pytest.approx(-high)


@pytest.mark.parametrize(("plus", "minus", "n"), [(5, 2, 40), (31, 12, 200), (0, 9, 60), (40, 0, 40), (7, 7, 90)])
def test_the_ends_are_where_the_score_test_turns(plus, minus, n):
    """At both ends the score statistic, with its variance restricted by an independent maximisation, is ±z."""
    point, (low, high) = mean_difference(*pairs(plus, minus, n), 0.95)
    assert point == pytest.approx((plus - minus) / n)
    assert -1 <= low <= point <= high <= 1
    for end, sign in ((low, 1), (high, -1)):
        if abs(end) < 1 - 1e-9:
            assert score(plus, minus, n, end) == pytest.approx(sign * Z, rel=1e-3)


def score(plus, minus, n, delta):
    """(p10 − p01 − δ) over its standard error at the likeliest p01 given δ, found by search."""
    q = np.linspace(max(0.0, -delta), (1 - delta) / 2, 400_001)[1:-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        likelihood = plus * np.log(q + delta) + minus * np.log(q) + (n - plus - minus) * np.log(1 - 2 * q - delta)
    best = float(q[np.nanargmax(likelihood)])
    return (plus - minus - n * delta) / math.sqrt(n * (2 * best + delta * (1 - delta)))


def test_rows_of_one_cluster_are_one_draw():
    """60 rows, each 10 times: by its document the interval is that of 60 rows, and without 3 times too narrow."""
    rng = np.random.default_rng(3)
    a, b = (rng.random(60) < share for share in (0.4, 0.2))
    tenfold, documents = [np.repeat(one, 10).astype(float) for one in (a, b)], [str(n) for n in np.arange(600) // 10]

    def width(values, draws):
        low, high = proportion_difference(*values, 0.95, draws)[1]
        return high - low

    once = width([a.astype(float), b.astype(float)], Draws(60, documents[::10], "document"))
    assert width(tenfold, Draws(600, documents, "document")) == pytest.approx(once, rel=1e-9)
    assert width(tenfold, Draws(600)) < once / 2.5
    few, many = (
        mean_interval(values, 0.95, draws, is_share=False)
        for values, draws in ((b * 1.0, Draws(60)), (tenfold[1], Draws(600, documents)))
    )
    assert many[1] - many[0] == pytest.approx(few[1] - few[0], rel=0.1)


def test_clusters_of_one_row_are_rows():
    """Nearly as the score interval has it, which is no bootstrap."""
    a, b = pairs(31, 12, 200)
    of_rows = proportion_difference(a, b, 0.95, Draws(200))
    of_clusters = proportion_difference(a, b, 0.95, Draws(200, [str(n) for n in range(200)], "document"))
    assert of_clusters[1] == pytest.approx(of_rows[1], abs=0.01)
    assert (of_rows[2], of_clusters[2].split(" of ")[-1]) == (SCORE, "clusters (document)")


def test_clusters_that_are_all_alike_are_not_certainty():
    """As many pairs as there are clusters, of which none differs."""
    same, draws = np.ones(600), Draws(600, [str(n % 60) for n in range(600)])
    point, (low, high), method = proportion_difference(same, same, 0.95, draws)
    assert (point, high, -low) == (0, *[pytest.approx(Z * Z / (60 + Z * Z))] * 2)
    assert "all alike" in method
    assert mean_interval(same, 0.95, draws, is_share=True) == wilson(1, 60, 0.95)


def test_whole_clusters_are_drawn():
    """All rows of as many clusters as there are, some of them several times; of different sizes, in any order."""
    labels = ["b", "a", "b", "c", "b", "a"]
    draws, rng = Draws(6, labels, "document"), np.random.default_rng(1)
    assert (draws.count, draws.among(np.array([1, 3, 5])).count) == (3, 2)
    sizes = set()
    for _ in range(50):
        rows = draws.drawn(rng)
        taken = Counter(labels[row] for row in rows)
        assert sum(taken[name] / labels.count(name) for name in "abc") == 3
        assert all(Counter(rows.tolist())[row] == taken[labels[row]] / labels.count(labels[row]) for row in range(6))
        sizes.add(len(rows))
    assert len(sizes) > 3


def test_the_cluster_interval_covers(monkeypatch):
    """Where rows of a document are nearly alike; 40 documents, 95 % intervals of 200 resamples, 120 times."""
    monkeypatch.setattr(paired, "RESAMPLES", 200)
    rng, labels, held = np.random.default_rng(2), [str(n // 8) for n in range(320)], 0
    for _ in range(120):
        of_documents = np.repeat(rng.normal(0.1, 1, 40), 8) + rng.normal(0, 0.3, 320)
        low, high = mean_interval(of_documents, 0.95, Draws(320, labels), is_share=False)
        held += low <= 0.1 <= high
    assert held >= 108


@pytest.mark.parametrize(("p_plus", "p_minus", "n"), [(0.1, 0.05, 60), (0.02, 0.02, 100), (0.3, 0.05, 40)])
def test_the_score_interval_covers(p_plus, p_minus, n):
    """Over 2,000 draws the 95 % interval holds the true difference in at least 93 %."""
    rng = np.random.default_rng(1)
    interval = partial(mean_difference, confidence=0.95)
    held = 0
    for plus, minus, _ in rng.multinomial(n, [p_plus, p_minus, 1 - p_plus - p_minus], 2000):
        low, high = interval(*pairs(plus, minus, n))[1]
        held += low <= p_plus - p_minus <= high
    assert held / 2000 >= 0.93


def test_swapped_models_mirror_the_interval():
    """Worse by x one way is better by x the other way."""
    a, b = pairs(9, 3, 80)
    point, (low, high) = mean_difference(a, b, 0.95)
    mirrored, (mirrored_low, mirrored_high) = mean_difference(b, a, 0.95)
    assert (mirrored, mirrored_low, mirrored_high) == pytest.approx((-point, -high, -low))


def test_the_bootstrap_agrees_with_the_normal_interval():
    """For a mean of many rows it is point ± z standard errors, and it is the same at every call."""
    values = np.random.default_rng(2).normal(0.3, 1.0, 2000)
    point, (low, high) = bootstrap_difference(Draws(2000), lambda rows: float(values[rows].mean()), 0.95)
    error = values.std() / math.sqrt(2000)
    assert point == pytest.approx(values.mean())
    assert (low, high) == pytest.approx((point - Z * error, point + Z * error), abs=0.1 * error)
    assert bootstrap_difference(Draws(2000), lambda rows: float(values[rows].mean()), 0.95) == (point, (low, high))


def test_more_confidence_is_a_wider_interval():
    """99 % encloses 80 %, in both methods."""
    a, b = pairs(9, 3, 80)
    for interval in (
        lambda c: mean_difference(a, b, c)[1],
        lambda c: bootstrap_difference(Draws(80), lambda rows: float((a - b)[rows].mean()), c)[1],
    ):
        assert interval(0.99)[0] < interval(0.8)[0] < interval(0.8)[1] < interval(0.99)[1]
