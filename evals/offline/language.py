"""How good is what a language model writes, and how likely does it find what it should have written?

Texts are compared with references only where one answer is right; everything else is asked teacher-forced: how likely
is each token of the reference after those before it? Two models that write other words may be equally good, and a
compressed one keeps few texts of its source to the letter (8 bits: 1 of 16), so equality of texts is no metric here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evals.evidence import Comparison, Evidence, Measurement, judged_later, too_few
from evals.offline.clusters import Draws
from evals.offline.metrics import LATENCY, SIZE
from evals.offline.paired import METHOD, bootstrap_difference, mean_interval, proportion_difference
from evals.offline.slices import slice_rows
from evals.offline.suite import size_rise
from evals.offline.written import AGAINST, LIKELIHOODS, MEANS, PROPORTIONS, RowNumbers, Written, WrittenTable, numbers

MEANING = 1
"""Counts changes of what the metrics mean: part of the suite's digest."""

OTHER_TOKENS = "the champion reads these rows as other tokens: bits_per_byte can be compared"


@dataclass(frozen=True)
class LanguageSuite:
    """What each row asks for, what is measured, and by what rows are told apart.

    A row has any number of `references` (one of them is to be written, the first one is scored) and a pattern or none.
    `asked` is what the rows ask, for the digest. Rows of one of the `clusters`, the values of the column `cluster`, are
    one draw.
    """

    asked: tuple[str, ...]
    references: tuple[tuple[str, ...], ...]
    patterns: tuple[str, ...]
    columns: Mapping[str, tuple[str, ...]]
    metrics: tuple[str, ...]
    slices: tuple[str, ...]
    confidence: float = 0.95
    cluster: str = ""
    clusters: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """What identifies the rows, the metrics and their meaning."""
        facts = [MEANING, self.asked, self.references, self.patterns, dict(self.columns), self.metrics, self.slices]
        facts += [self.cluster, self.clusters] if self.clusters else []
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
    judged = _JudgedRows(suite, written, champion)
    measurements: list[Measurement] = []
    comparisons: list[Comparison] = []
    for name, rows in slice_rows(suite.columns, suite.slices, len(written)).items():
        for metric in (metric for metric in suite.metrics if metric not in {*LATENCY, SIZE}):
            measurements += [] if metric in AGAINST else [judged.measured(metric, name, rows)]
            comparisons += judged.compared(metric, name, rows)
    for metric in (metric for metric in suite.metrics if metric in LATENCY):
        measurements.append(judged.measured(metric, "all", np.arange(len(written))))
        comparisons += judged.compared(metric, "all", np.arange(len(written)))
    if SIZE in suite.metrics:
        measurements.append(Measurement(SIZE, size_mb, "MB", 1))
        if champion_mb:
            comparisons.append(size_rise(size_mb, champion_mb))
    return Evidence(subject, suite.digest, tuple(measurements), tuple(comparisons), judged.draws.notes)


class _JudgedRows:
    """What both models made of the suite's rows, as numbers."""

    def __init__(self, suite: LanguageSuite, written: Sequence[Written], champion: Sequence[Written] | None) -> None:
        self._confidence = suite.confidence
        self.draws = Draws(len(written), suite.clusters, suite.cluster)
        self._mine = WrittenTable(written, suite.references, suite.patterns)
        self._base = WrittenTable(champion, suite.references, suite.patterns) if champion is not None else None

    def measured(self, metric: str, name: str, rows: RowNumbers) -> Measurement:
        """One metric on one slice."""
        asked = self._mine.asked(metric, rows)
        unit = "ms" if metric in LATENCY else ""
        missing = _missing(metric, rows, self._mine, self.draws)
        if missing and not (metric in LATENCY and len(asked)):  # a time has no interval that few rows would widen
            return Measurement(metric, None, unit, len(asked), name, missing=missing)
        value, confidence, interval = self._mine.value(metric, asked), self._confidence, None
        if metric in {*PROPORTIONS, *MEANS}:
            of_rows, draws = self._mine.column(metric)[asked], self.draws.among(asked)
            interval = mean_interval(of_rows, confidence, draws, is_share=metric in PROPORTIONS)
        return Measurement(metric, value, unit, len(asked), name, interval, confidence)

    def compared(self, metric: str, name: str, rows: RowNumbers) -> list[Comparison]:
        """How much worse than the champion on the same rows: positive is worse, whichever way the metric points."""
        if self._base is None:
            return []
        mine, base = self._mine, self._base
        asked = base.asked(metric, mine.asked(metric, rows))
        missing = _missing(metric, rows, mine, self.draws) or _of_champion(_missing(metric, rows, base, self.draws))
        if not missing and metric in {"perplexity", *AGAINST} and not _is_same_reading(asked, mine, base):
            missing = OTHER_TOKENS
        if missing:
            return [Comparison(metric, None, len(asked), name, missing=missing)]
        confidence, draws = self._confidence, self.draws.among(asked)
        if metric in PROPORTIONS:
            wrong, base_wrong = (1 - table.column(metric)[asked] for table in (mine, base))
            drop, interval, method = proportion_difference(wrong, base_wrong, confidence, draws)
        else:
            drop, interval = bootstrap_difference(draws, _drop(metric, asked, mine, base), confidence)
            method = f"{METHOD} of {draws.what}"
        return [Comparison(metric, drop, len(asked), name, interval, confidence, method)]


def _drop(metric: str, rows: RowNumbers, mine: WrittenTable, base: WrittenTable) -> Callable[[RowNumbers], float]:
    """The loss on a draw of these rows: of times and perplexity a fraction of the champion's."""
    if metric in AGAINST:
        pairs = [(mine.written[row], base.written[row]) for row in rows]
        if metric == "kl":
            sums = numbers(sum(m.kl) for m, _ in pairs)
        else:
            sums = numbers(sum(map(int.__ne__, m.likeliest, b.likeliest)) for m, b in pairs)
        tokens = mine.tokens[rows]
        return lambda draw: float(sums[draw].sum() / tokens[draw].sum())

    def rise(draw: RowNumbers) -> float:
        ours, theirs = mine.value(metric, rows[draw]), base.value(metric, rows[draw])
        if metric in {"perplexity", *LATENCY}:
            return ours / max(theirs, 1e-6) - 1
        return theirs - ours if metric in MEANS else ours - theirs

    return rise


_NOT_THERE = {
    "regex_match": "no row has a pattern",
    "finished": "no row is written",
    **dict.fromkeys(LATENCY, "no row is written"),
    **dict.fromkeys(("choice", "choice_norm"), "no row has choices"),
    "valid_json": "no row has a schema",
    "valid_tool_call": "no row has tools",
}


def _missing(metric: str, rows: RowNumbers, table: WrittenTable, draws: Draws) -> str | None:
    asked = table.asked(metric, rows)
    there = draws.among(asked)
    few = too_few(there.count, there.what) if len(asked) else _NOT_THERE.get(metric, "no row has a reference")
    waiting = int((~table.was_asked[rows]).sum())
    if few and waiting and metric not in {*LIKELIHOODS, *AGAINST}:
        return judged_later(waiting)
    if metric in {*LIKELIHOODS, *AGAINST} and not np.isfinite(table.loss[asked]).all():
        return f"{int((~np.isfinite(table.loss[asked])).sum())} of {len(asked)} references have no likelihood"
    return few


def _is_same_reading(rows: RowNumbers, mine: WrittenTable, base: WrittenTable) -> bool:
    return all(mine.written[row].tokens == base.written[row].tokens for row in rows)


def _of_champion(missing: str | None) -> str | None:
    return f"the champion: {missing}" if missing else None
