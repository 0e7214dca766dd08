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

from evals.evidence import Comparison, Evidence, Measurement, too_few
from evals.offline.clusters import Draws
from evals.offline.metrics import LATENCY, QUALITY, SIZE, probabilities
from evals.offline.paired import METHOD, bootstrap_difference, mean_interval, proportion_difference
from evals.offline.slices import slice_rows

Predict = Callable[[Sequence[str]], npt.NDArray[np.float32]]
Rows = npt.NDArray[np.int64]

VERSION = 2
"""Counts changes of what the metrics mean: part of the suite's digest."""


TOLD_EVERY = 16
"""Rows, at least, between two words on how far it is: whoever hears them may ask a database."""

MIN_BATCHES = 10
"""Batches below which a quantile of their times cannot be compared."""


class SuiteFailed(Exception):
    """A model could not be asked: it raised, or its answer has the wrong shape, on these rows (the first is 1)."""

    def __init__(self, row_from: int, row_to: int, cause: str) -> None:
        super().__init__(f"the model failed on rows {row_from} to {row_to}: {cause}"[:500])
        self.row_from, self.row_to, self.cause = row_from, row_to, cause


@dataclass(frozen=True)
class Suite:
    """Labelled rows, and what is measured on them. Rows of one of the `clusters`, values of `cluster`, are one draw."""

    texts: tuple[str, ...]
    labels: tuple[str, ...]
    columns: Mapping[str, tuple[str, ...]]
    metrics: tuple[str, ...]
    slices: tuple[str, ...]
    batch_size: int = 32
    confidence: float = 0.95
    cluster: str = ""
    clusters: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises ValueError where the columns do not belong to the same rows."""
        lengths = {len(self.texts), len(self.labels), *(len(values) for values in self.columns.values())}
        if len(lengths) != 1 or lengths == {0}:
            raise ValueError(f"a suite needs rows, and as many texts as labels: {sorted(lengths)}")

    @property
    def digest(self) -> str:
        """What identifies the rows, the metrics and their meaning."""
        facts = [VERSION, self.texts, self.labels, dict(self.columns), self.metrics, self.slices, self.confidence]
        facts += [self.cluster, self.clusters] if self.clusters else []
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
    """The answers to all rows, batch by batch; the first batch is asked once before, so that warming up is not timed.

    `clock` gives monotonic seconds. Raises SuiteFailed naming the rows on which `predict` raised.
    """
    n, step, k = len(suite.texts), suite.batch_size, len(labels)
    logits, row_ms = [], []
    _predict(predict, suite.texts, 0, min(step, n), k)
    for start in range(0, n, step):
        end = min(start + step, n)
        began = clock()
        logits.append(_predict(predict, suite.texts, start, end, k))
        row_ms.append(np.full(end - start, (clock() - began) * 1000 / (end - start)))
        if end == n or end % TOLD_EVERY < step:
            on_progress(end, n)
    return Answers(np.concatenate(logits), np.concatenate(row_ms), tuple(labels))


def _predict(predict: Predict, texts: Sequence[str], start: int, end: int, classes: int) -> npt.NDArray[np.float32]:
    try:
        logits = predict(texts[start:end])
    except Exception as error:
        raise SuiteFailed(start + 1, end, repr(error)) from error
    if np.shape(logits) != (end - start, classes):
        raise SuiteFailed(
            start + 1, end, f"logits of shape {np.shape(logits)} for {end - start} rows, {classes} labels"
        )
    return logits


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
            comparisons.append(size_rise(size_mb, champion_size_mb))
    return Evidence(subject, suite.digest, tuple(measurements), tuple(comparisons), judged.draws.notes)


def size_rise(size_mb: float, champion_mb: float) -> Comparison:
    """How much larger than the champion, as a fraction."""
    rise = size_mb / champion_mb - 1
    return Comparison(SIZE, rise, 1, interval=(rise, rise), method="exact, as a fraction")


class _Judged:
    """Answers turned into probabilities and true classes, once."""

    def __init__(self, suite: Suite, answers: Answers, champion: Answers | None) -> None:
        self._suite = suite
        self.draws = Draws(len(suite.texts), suite.clusters, suite.cluster)
        self._answers, self._champion = answers, champion
        if champion is not None and champion.labels != answers.labels:
            raise ValueError(f"labels {answers.labels} cannot be compared with the champion's {champion.labels}")
        index = {label: k for k, label in enumerate(answers.labels)}
        self._truth = np.array([index[label] for label in suite.labels], dtype=np.int64)
        self._probs = probabilities(np.nan_to_num(answers.logits))
        self._base = probabilities(np.nan_to_num(champion.logits)) if champion is not None else None

    def _missing(self, rows: Rows) -> str | None:
        draws = self.draws.among(rows)
        return _broken(self._answers, rows) or too_few(draws.count, draws.what)

    def _incomparable(self, rows: Rows) -> str | None:
        if self._champion is None:
            return "there is no champion"
        broken = _broken(self._champion, rows)
        return self._missing(rows) or (f"the champion: {broken}" if broken else None)

    def quality(self, metric: str, name: str, rows: Rows) -> Measurement:
        """One quality metric on one slice."""
        missing = self._missing(rows)
        if missing:
            return Measurement(metric, None, "", len(rows), name, missing=missing)
        value, confidence = QUALITY[metric].of(self._probs[rows], self._truth[rows]), self._suite.confidence
        interval = None
        if metric == "accuracy":
            right = 1 - self._wrong(self._probs, rows)
            interval = mean_interval(right, confidence, self.draws.among(rows), is_share=True)
        return Measurement(metric, value, "", len(rows), name, interval, confidence)

    def quality_drop(self, metric: str, name: str, rows: Rows) -> Comparison:
        """How much worse than the champion on the same rows: positive is worse, whichever way the metric points."""
        missing = self._incomparable(rows)
        if missing or self._base is None:
            return Comparison(metric, None, len(rows), name, missing=missing)
        confidence, draws = self._suite.confidence, self.draws.among(rows)
        if metric == "accuracy":
            wrong, base_wrong = (self._wrong(p, rows) for p in (self._probs, self._base))
            point, interval, method = proportion_difference(wrong, base_wrong, confidence, draws)
        else:
            point, interval = bootstrap_difference(draws, lambda draw: self._drop(metric, rows[draw]), confidence)
            method = f"{METHOD} of {draws.what}" if draws.of_clusters else METHOD
        return Comparison(metric, point, len(rows), name, interval, confidence, method)

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
        """How much slower than the champion, as a fraction, over the same batches, however each was asked."""
        assert self._champion is not None  # noqa: S101  the caller checked
        step = self._suite.batch_size
        mine, base = (_by_batch(answers.row_ms, step) for answers in (self._answers, self._champion))
        missing = too_few(len(mine), "batches", MIN_BATCHES)
        if missing is None and not base.min() > 0:
            missing = "a batch of the champion took no time on this clock"
        if missing:
            return Comparison(metric, None, len(mine), missing=missing)

        def rise(draw: Rows) -> float:
            return float(np.quantile(mine[draw], LATENCY[metric]) / np.quantile(base[draw], LATENCY[metric]) - 1)

        point, interval = bootstrap_difference(Draws(len(mine)), rise, self._suite.confidence)
        return Comparison(metric, point, len(mine), "all", interval, self._suite.confidence, f"{METHOD} of batches")


def _by_batch(row_ms: npt.NDArray[np.float64], step: int) -> npt.NDArray[np.float64]:
    """The time of a row in each batch; of one that was asked row by row, its mean over the same rows."""
    return np.array([row_ms[start : start + step].mean() for start in range(0, len(row_ms), step)])


def _broken(answers: Answers, rows: Rows) -> str | None:
    """Why do these answers have no quality? None where all of them are numbers."""
    broken = int(np.sum(~np.isfinite(answers.logits[rows]).all(axis=1)))
    return f"{broken} of {len(rows)} answers are NaN or infinite" if broken else None
