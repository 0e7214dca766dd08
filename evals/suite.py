"""What does a model answer to these rows, and how good is that, beside another model's answers?

A suite takes a `predict` callable, so that the same suite questions a folder, a staged server or an image.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evals.evidence import Comparison, Evidence, Measurement
from evals.metrics import LATENCY, QUALITY, SIZE, probabilities
from evals.paired import bootstrap_difference, mean_difference
from evals.slices import MIN_ROWS, slice_rows

Predict = Callable[[Sequence[str]], npt.NDArray[np.float32]]
Rows = npt.NDArray[np.int64]

VERSION = 1
"""Counts changes of what the metrics mean: part of the suite's digest."""


class SuiteFailed(Exception):
    """A model raised while it was asked."""


@dataclass(frozen=True)
class Suite:
    """Labelled rows, and what is measured on them."""

    texts: tuple[str, ...]
    labels: tuple[str, ...]
    columns: Mapping[str, tuple[str, ...]]
    metrics: tuple[str, ...]
    slices: tuple[str, ...]
    batch_size: int = 32
    confidence: float = 0.95

    @property
    def digest(self) -> str:
        """What identifies the rows, the metrics and their meaning."""
        facts = [VERSION, self.texts, self.labels, dict(self.columns), self.metrics, self.slices, self.confidence]
        return "sha256:" + hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Answers:
    """Logits of shape [n, k] in the suite's row order, the time of each row's batch per row in ms, and the labels."""

    logits: npt.NDArray[np.float32]
    row_ms: npt.NDArray[np.float64]
    labels: tuple[str, ...]


def ask(
    suite: Suite,
    predict: Predict,
    labels: Sequence[str],
    on_progress: Callable[[int, int], None],
    clock: Callable[[], float],
) -> Answers:
    """The answers to all rows, in batches of texts of alike length, so that little is padding.

    The first batch is asked once before, so that warming up is not timed. `clock` gives monotonic seconds. Raises SuiteFailed naming the rows on which `predict` raised.
    """
    batches = batches_of(suite)
    n, done = len(suite.texts), 0
    logits, row_ms = np.empty((n, len(labels)), dtype=np.float32), np.empty(n)
    _predict(predict, suite.texts, batches[0])
    for rows in batches:
        began = clock()
        logits[rows] = _predict(predict, suite.texts, rows)
        row_ms[rows] = (clock() - began) * 1000 / len(rows)
        done += len(rows)
        on_progress(done, n)
    return Answers(logits, row_ms, tuple(labels))


def batches_of(suite: Suite) -> list[Rows]:
    """The row numbers of each batch: the same for every model that is asked."""
    order = np.argsort([len(text) for text in suite.texts], kind="stable")
    return [order[start : start + suite.batch_size] for start in range(0, len(order), suite.batch_size)]


def _predict(predict: Predict, texts: Sequence[str], rows: Rows) -> npt.NDArray[np.float32]:
    try:
        return predict([texts[i] for i in rows])
    except Exception as error:
        raise SuiteFailed(f"the model raised on rows {sorted((rows + 1).tolist())[:5]}…: {error!r}"[:500]) from error


def measure(
    suite: Suite,
    answers: Answers,
    subject: str,
    size_mb: float,
    champion: Answers | None = None,
    champion_size_mb: float | None = None,
) -> Evidence:
    """Every metric on every slice, and the paired comparison with the champion where there is one."""
    judged = _Judged(suite, answers, champion)
    measurements, comparisons = [], []
    for name, rows in slice_rows(suite.columns, suite.slices, len(suite.texts)).items():
        for metric in (m for m in suite.metrics if m in QUALITY):
            measurements.append(judged.quality(metric, name, rows))
            if champion is not None:
                comparisons.append(judged.quality_drop(metric, name, rows))
    for metric in (m for m in suite.metrics if m in LATENCY):
        measurements.append(judged.latency(metric))
        if champion is not None:
            comparisons.append(judged.latency_rise(metric))
    if SIZE in suite.metrics:
        measurements.append(Measurement(SIZE, size_mb, "MB", 1))
        if champion_size_mb:
            comparisons.append(_size_rise(size_mb, champion_size_mb))
    return Evidence(subject, suite.digest, tuple(measurements), tuple(comparisons))


def _size_rise(size_mb: float, champion_mb: float) -> Comparison:
    rise = size_mb / champion_mb - 1
    return Comparison(SIZE, rise, 1, interval=(rise, rise), method="exact, as a fraction")


class _Judged:
    """Answers turned into probabilities and true classes, once."""

    def __init__(self, suite: Suite, answers: Answers, champion: Answers | None) -> None:
        self._suite = suite
        self._answers, self._champion = answers, champion
        index = {label: k for k, label in enumerate(answers.labels)}
        self._truth = np.array([index[label] for label in suite.labels], dtype=np.int64)
        self._finite: npt.NDArray[np.bool_] = np.asarray(np.isfinite(answers.logits).all(axis=1))
        self._probs = probabilities(np.nan_to_num(answers.logits))
        self._base = probabilities(champion.logits) if champion is not None else None

    def _missing(self, rows: Rows) -> str | None:
        if len(rows) < MIN_ROWS:
            return f"{len(rows)} rows are too few to judge (at least {MIN_ROWS})"
        broken = int(np.sum(~self._finite[rows]))
        return f"{broken} of {len(rows)} answers are NaN or infinite" if broken else None

    def quality(self, metric: str, name: str, rows: Rows) -> Measurement:
        """One quality metric on one slice."""
        missing = self._missing(rows)
        if missing:
            return Measurement(metric, None, "", len(rows), name, missing=missing)
        value = QUALITY[metric].of(self._probs[rows], self._truth[rows])
        return Measurement(metric, value, "", len(rows), name, confidence=self._suite.confidence)

    def quality_drop(self, metric: str, name: str, rows: Rows) -> Comparison:
        """How much worse than the champion on the same rows: positive is worse, whichever way the metric points."""
        missing = self._missing(rows)
        if missing or self._base is None:
            return Comparison(metric, None, len(rows), name, missing=missing or "there is no champion")
        confidence = self._suite.confidence
        if metric == "accuracy":
            wrong, base_wrong = (self._wrong(p, rows) for p in (self._probs, self._base))
            point, interval = mean_difference(wrong, base_wrong, confidence)
            return Comparison(
                metric, point, len(rows), name, interval, confidence, "paired score interval (Tango 1998)"
            )
        point, interval = bootstrap_difference(len(rows), lambda draw: self._drop(metric, rows[draw]), confidence)
        return Comparison(metric, point, len(rows), name, interval, confidence, "paired bootstrap, 1000 resamples")

    def _wrong(self, probs: npt.NDArray[np.float64], rows: Rows) -> npt.NDArray[np.float64]:
        return np.asarray(probs[rows].argmax(axis=1) != self._truth[rows], dtype=np.float64)

    def _drop(self, metric: str, rows: Rows) -> float:
        assert self._base is not None  # noqa: S101  the caller checked
        quality = QUALITY[metric]
        fall = quality.of(self._base[rows], self._truth[rows]) - quality.of(self._probs[rows], self._truth[rows])
        return fall if quality.higher_is_better else -fall

    def latency(self, metric: str) -> Measurement:
        """A quantile of the time of one row in its batch."""
        value = float(np.quantile(self._answers.row_ms, LATENCY[metric]))
        return Measurement(metric, value, "ms", len(self._answers.row_ms))

    def latency_rise(self, metric: str) -> Comparison:
        """How much slower than the champion, as a fraction, over the same batches."""
        assert self._champion is not None  # noqa: S101  the caller checked
        first = np.array([rows[0] for rows in batches_of(self._suite)])
        mine, base = self._answers.row_ms[first], self._champion.row_ms[first]

        def rise(draw: Rows) -> float:
            return float(np.quantile(mine[draw], LATENCY[metric]) / np.quantile(base[draw], LATENCY[metric]) - 1)

        point, interval = bootstrap_difference(len(mine), rise, self._suite.confidence)
        return Comparison(
            metric, point, len(mine), "all", interval, self._suite.confidence, "paired bootstrap of batches"
        )
