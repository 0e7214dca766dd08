"""How good are these answers? Plain numpy over logits and true classes; each metric says which way is better."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Logits = npt.NDArray[np.floating]
Classes = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]

ECE_BINS = 15


@dataclass(frozen=True)
class QualityMetric:
    """A metric over rows: `of` gets probabilities [n, k] and true classes [n]."""

    of: Callable[[Values, Classes], float]
    higher_is_better: bool


def probabilities(logits: Logits) -> Values:
    """Softmax by row, in double precision; shape [n, k]."""
    wide = np.asarray(logits, dtype=np.float64)
    shifted = np.exp(wide - wide.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def accuracy(probs: Values, truth: Classes) -> float:
    """The share of rows whose likeliest class is the true one."""
    return float(np.mean(probs.argmax(axis=1) == truth))


def macro_f1(probs: Values, truth: Classes) -> float:
    """F1 averaged over the classes that occur in truth or prediction, each with the same weight."""
    predicted = probs.argmax(axis=1)
    return float(np.mean(f1_by_class(predicted, truth, probs.shape[1])))


def f1_by_class(predicted: Classes, truth: Classes, classes: int) -> Values:
    """F1 of each class that occurs: 2·hits / (predicted + true)."""
    hits = np.bincount(truth[predicted == truth], minlength=classes)
    total = np.bincount(predicted, minlength=classes) + np.bincount(truth, minlength=classes)
    occurs = total > 0
    return np.asarray(2 * hits[occurs] / total[occurs])


def ece(probs: Values, truth: Classes) -> float:
    """Expected calibration error of the likeliest class over 15 bins of equal width.

    Source: Naeini, Cooper & Hauskrecht, AAAI 2015; Guo et al., ICML 2017, section 2.
    """
    confidence = probs.max(axis=1)
    correct = probs.argmax(axis=1) == truth
    bins = np.minimum((confidence * ECE_BINS).astype(np.int64), ECE_BINS - 1)
    gap = np.bincount(bins, weights=confidence - correct, minlength=ECE_BINS)
    return float(np.abs(gap).sum() / len(truth))


def wilson(share: float, n: int, confidence: float) -> tuple[float, float]:
    """Where does the true share lie, after `share` of n rows? Source: Wilson, JASA 22 (1927)."""
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    centre, scale = share * n + z * z / 2, n + z * z
    half = z * float(np.sqrt(share * (1 - share) * n + z * z / 4))
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


QUALITY: Mapping[str, QualityMetric] = {
    "accuracy": QualityMetric(accuracy, higher_is_better=True),
    "macro_f1": QualityMetric(macro_f1, higher_is_better=True),
    "ece": QualityMetric(ece, higher_is_better=False),
}

LATENCY: Mapping[str, float] = {"latency_p50_ms": 0.50, "latency_p95_ms": 0.95}
"""Latency metrics: quantiles of the time of one row in its batch."""

SIZE = "size_mb"
