"""How good is what a language model writes, and how likely does it find what it should have written?

Texts are compared with references only where one answer is right; everything else is asked teacher-forced: how likely
is each token of the reference after those before it? Two models that write other words may be equally good, and a
compressed one keeps few texts of its source to the letter (8 bits: 1 of 16), so equality of texts is no metric here.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evals.evidence import Comparison, Evidence, Measurement, too_few
from evals.offline.metrics import LATENCY, SIZE, wilson
from evals.offline.paired import METHOD, bootstrap_difference, mean_difference
from evals.offline.slices import slice_rows
from evals.offline.suite import size_rise

Numbers = npt.NDArray[np.float64]
RowNumbers = npt.NDArray[np.int64]

MEANING = 1
"""Counts changes of what the metrics mean: part of the suite's digest."""

PROPORTIONS = ("exact_match", "regex_match", "finished")
"""Of rows, higher is better: answers that are a reference, or hold the row's pattern, or end by themselves."""

LIKELIHOODS = ("perplexity", "bits_per_byte")
"""Of the references' tokens, lower is better: e to the mean loss of a token; loss in bits for each byte of text."""

AGAINST = ("kl", "top1_agreement")
"""Token by token beside the champion on the references: nats, and how often both find the same token likeliest."""

OTHER_TOKENS = "the champion reads these rows as other tokens: bits_per_byte can be compared"


@dataclass(frozen=True)
class Written:
    """What one model wrote for a row in `ms`, and what it thinks of the row's reference.

    `holds` says whether the text holds the row's pattern. Of each of the reference's `tokens`: the loss in nats, the
    likeliest token in its place, and `kl` from the champion's to this model's distribution in nats where both were
    asked. `scored_bytes` is how much text those tokens are.
    """

    text: str
    is_finished: bool
    ms: float
    holds: bool = False
    tokens: tuple[int, ...] = ()
    loss: tuple[float, ...] = ()
    likeliest: tuple[int, ...] = ()
    kl: tuple[float, ...] = ()
    scored_bytes: int = 0


@dataclass(frozen=True)
class LanguageSuite:
    """What each row asks for, what is measured, and by what rows are told apart.

    A row has any number of `references` (one of them is to be written, the first one is scored) and a pattern or none.
    `asked` is what the rows ask, for the digest.
    """

    asked: tuple[str, ...]
    references: tuple[tuple[str, ...], ...]
    patterns: tuple[str, ...]
    columns: Mapping[str, tuple[str, ...]]
    metrics: tuple[str, ...]
    slices: tuple[str, ...]
    confidence: float = 0.95

    @property
    def digest(self) -> str:
        """What identifies the rows, the metrics and their meaning."""
        facts = [MEANING, self.asked, self.references, self.patterns, dict(self.columns), self.metrics, self.slices]
        return "sha256:" + hashlib.sha256(json.dumps([*facts, self.confidence], sort_keys=True).encode()).hexdigest()


def measure_language(
    suite: LanguageSuite,
    subject: str,
    size_mb: float,
    written: Sequence[Written],
    champion: Sequence[Written] | None = None,
    champion_mb: float | None = None,
) -> Evidence:
    """Every metric on every slice, and the paired comparison with the champion where there is one."""
    mine, base = _Table(suite, written), _Table(suite, champion) if champion is not None else None
    measurements: list[Measurement] = []
    comparisons: list[Comparison] = []
    for name, rows in slice_rows(suite.columns, suite.slices, len(written)).items():
        for metric in suite.metrics:
            if metric in AGAINST:
                comparisons += [_against(suite, metric, name, rows, mine, base)] if base else []
            elif metric in {*PROPORTIONS, *LIKELIHOODS}:
                measurements.append(_measured(suite, metric, name, rows, mine))
                comparisons += [_compared(suite, metric, name, rows, mine, base)] if base else []
    for metric in (metric for metric in suite.metrics if metric in LATENCY):
        measurements.append(Measurement(metric, mine.quantile(metric), "ms", len(written)))
        comparisons += [_slower(suite, metric, mine, base)] if base else []
    if SIZE in suite.metrics:
        measurements.append(Measurement(SIZE, size_mb, "MB", 1))
        if champion_mb:
            comparisons.append(size_rise(size_mb, champion_mb))
    return Evidence(subject, suite.digest, tuple(measurements), tuple(comparisons))


class _Table:
    """One model's rows as columns of numbers; NaN where a row does not ask that."""

    def __init__(self, suite: LanguageSuite, written: Sequence[Written]) -> None:
        self.written = written
        pairs = list(zip(written, suite.references, suite.patterns, strict=True))
        self.columns: Mapping[str, Numbers] = {
            "exact_match": _numbers(_is_one_of(w.text, references) for w, references, _ in pairs),
            "regex_match": _numbers(float(w.holds) if pattern else math.nan for w, _, pattern in pairs),
            "finished": _numbers(float(w.is_finished) for w in written),
        }
        self.loss = _numbers(sum(w.loss) for w in written)
        self.tokens, self.bytes = (_numbers(map(float, n)) for n in zip(*_sizes(written), strict=True))
        self.ms = _numbers(w.ms for w in written)

    def asked(self, metric: str, rows: RowNumbers) -> RowNumbers:
        """Those of the rows that ask for this."""
        asks = self.tokens > 0 if metric in {*LIKELIHOODS, *AGAINST} else ~np.isnan(self.columns[metric])
        return rows[asks[rows]]

    def value(self, metric: str, rows: RowNumbers) -> float:
        """Of rows that ask for it."""
        if metric == "perplexity":
            return float(np.exp(self.loss[rows].sum() / self.tokens[rows].sum()))
        if metric == "bits_per_byte":
            return float(self.loss[rows].sum() / math.log(2) / self.bytes[rows].sum())
        return float(self.columns[metric][rows].mean())

    def quantile(self, metric: str) -> float:
        """Of the time of one answer, in ms."""
        return float(np.quantile(self.ms, LATENCY[metric]))


def _numbers(values: object) -> Numbers:
    return np.array(list(values), dtype=np.float64)  # type: ignore[call-overload]


def _sizes(written: Sequence[Written]) -> list[tuple[int, int]]:
    return [(len(w.tokens), max(1, w.scored_bytes)) for w in written]


def _is_one_of(text: str, references: Sequence[str]) -> float:
    """But for white space at the ends and its kind within."""
    return float(_plain(text) in map(_plain, references)) if references else math.nan


def _plain(text: str) -> str:
    return " ".join(text.split())


def _missing(metric: str, rows: RowNumbers, table: _Table) -> str | None:
    asked = table.asked(metric, rows)
    if not len(asked):
        return "no row has a pattern" if metric == "regex_match" else "no row has a reference"
    if metric in LIKELIHOODS and not np.isfinite(table.loss[asked]).all():
        return f"{int((~np.isfinite(table.loss[asked])).sum())} of {len(asked)} references have no likelihood"
    return too_few(len(asked))


def _measured(suite: LanguageSuite, metric: str, name: str, rows: RowNumbers, mine: _Table) -> Measurement:
    missing, asked = _missing(metric, rows, mine), mine.asked(metric, rows)
    if missing:
        return Measurement(metric, None, "", len(asked), name, missing=missing)
    value = mine.value(metric, asked)
    interval = wilson(value, len(asked), suite.confidence) if metric in PROPORTIONS else None
    return Measurement(metric, value, "", len(asked), name, interval, suite.confidence)


def _compared(suite: LanguageSuite, metric: str, name: str, rows: RowNumbers, mine: _Table, base: _Table) -> Comparison:
    """How much worse than the champion on the same rows: positive is worse, whichever way the metric points."""
    missing = _missing(metric, rows, mine) or _of_champion(_missing(metric, rows, base))
    asked = mine.asked(metric, rows)
    if metric == "perplexity" and not missing and not _is_same_reading(asked, mine, base):
        missing = OTHER_TOKENS
    if missing:
        return Comparison(metric, None, len(asked), name, missing=missing)
    if metric in PROPORTIONS:
        wrong, base_wrong = (1 - table.columns[metric][asked] for table in (mine, base))
        drop, interval = mean_difference(wrong, base_wrong, suite.confidence)
        return Comparison(
            metric, drop, len(asked), name, interval, suite.confidence, "paired score interval (Tango 1998)"
        )

    def rise(draw: RowNumbers) -> float:
        ours, theirs = mine.value(metric, asked[draw]), base.value(metric, asked[draw])
        return ours / theirs - 1 if metric == "perplexity" else ours - theirs

    return _bootstrapped(suite, metric, name, len(asked), rise)


def _against(
    suite: LanguageSuite, metric: str, name: str, rows: RowNumbers, mine: _Table, base: _Table | None
) -> Comparison:
    """How far from the champion, token by token: the mean divergence, or how often another token is likeliest."""
    assert base is not None  # noqa: S101  the caller checked
    asked = mine.asked(metric, rows)
    missing = _missing("bits_per_byte", rows, mine) or _of_champion(_missing("bits_per_byte", rows, base))
    if not missing and not _is_same_reading(asked, mine, base):
        missing = OTHER_TOKENS
    if missing:
        return Comparison(metric, None, len(asked), name, missing=missing)
    pairs = [(mine.written[row], base.written[row]) for row in asked]
    if metric == "kl":
        sums = _numbers(sum(m.kl) for m, _ in pairs)
    else:
        sums = _numbers(sum(map(int.__ne__, m.likeliest, b.likeliest)) for m, b in pairs)
    tokens = mine.tokens[asked]
    return _bootstrapped(suite, metric, name, len(asked), lambda draw: float(sums[draw].sum() / tokens[draw].sum()))


def _slower(suite: LanguageSuite, metric: str, mine: _Table, base: _Table | None) -> Comparison:
    """How much slower than the champion, as a fraction, over the same rows."""
    assert base is not None  # noqa: S101  the caller checked
    if missing := too_few(len(mine.ms)):
        return Comparison(metric, None, len(mine.ms), missing=missing)

    def rise(draw: RowNumbers) -> float:
        ours, theirs = (np.quantile(table.ms[draw], LATENCY[metric]) for table in (mine, base))
        return float(ours / max(theirs, 1e-6) - 1)

    return _bootstrapped(suite, metric, "all", len(mine.ms), rise)


def _bootstrapped(
    suite: LanguageSuite, metric: str, name: str, n: int, drop: Callable[[RowNumbers], float]
) -> Comparison:
    point, interval = bootstrap_difference(n, drop, suite.confidence)
    return Comparison(metric, point, n, name, interval, suite.confidence, f"{METHOD} of rows")


def _is_same_reading(rows: RowNumbers, mine: _Table, base: _Table) -> bool:
    return all(mine.written[row].tokens == base.written[row].tokens for row in rows)


def _of_champion(missing: str | None) -> str | None:
    return f"the champion: {missing}" if missing else None
