"""What did one model write for each row, and what is each row of it worth, as a number?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from evals.offline.metrics import LATENCY
from evals.offline.texts import CHRF, ROUGE_L

Numbers = npt.NDArray[np.float64]
RowNumbers = npt.NDArray[np.int64]

PROPORTIONS = ("exact_match", "regex_match", "finished", "valid_json", "valid_tool_call", "choice", "choice_norm")
"""Of rows, higher is better: answers that are a reference, or hold the row's pattern, or end by themselves, or are JSON
of the row's schema, or call a tool of the row's as it is declared; and rows whose right choice is the likeliest one, as
it stands or for each of its bytes."""

MEANS = (CHRF, ROUGE_L)
"""Of rows with references, in [0, 1], higher is better."""

LIKELIHOODS = ("perplexity", "bits_per_byte")
"""Of the references' tokens, lower is better: e to the mean loss of a token; loss in bits for each byte of text."""

AGAINST = ("kl", "top1_agreement")
"""Token by token beside the champion on the references: nats, and how often both find the same token likeliest."""


@dataclass(frozen=True)
class Written:
    """What one model wrote for a row in `ms`, and what it thinks of the row's reference.

    A row that only has to be chosen from is not written: `is_finished` is None, and `ms` NaN.
    `calls` are the tools that it calls, with their arguments as they were written.
    `holds` says whether the text holds the row's pattern, and `scores` what else the row asks for, by metric. One that
    was not `is_asked` wrote nothing, as only the engine that serves can. Of each of the reference's `tokens`: the loss
    in nats, the likeliest token in its place, and `kl` from the champion's to this model's distribution in nats where
    both were asked. `scored_bytes` is how much text those tokens are.
    """

    text: str
    is_finished: bool | None
    ms: float
    holds: bool = False
    tokens: tuple[int, ...] = ()
    loss: tuple[float, ...] = ()
    likeliest: tuple[int, ...] = ()
    kl: tuple[float, ...] = ()
    scored_bytes: int = 0
    scores: Mapping[str, float] = field(default_factory=dict)
    is_asked: bool = True
    calls: tuple[tuple[str, str], ...] = ()


class WrittenTable:
    """One model's rows as columns of numbers; NaN where a row does not ask that, or the model was not asked."""

    def __init__(
        self, written: Sequence[Written], references: Sequence[Sequence[str]], patterns: Sequence[str]
    ) -> None:
        self.written = written
        self.was_asked = np.array([one.is_asked for one in written], dtype=bool)
        pairs = list(zip(written, references, patterns, strict=True))
        columns = {
            "exact_match": numbers(_is_one_of(w.text, right) for w, right, _ in pairs),
            "regex_match": numbers(float(w.holds) if pattern else math.nan for w, _, pattern in pairs),
            "finished": numbers(math.nan if w.is_finished is None else float(w.is_finished) for w in written),
        }
        for name in sorted({name for one in written for name in one.scores}):
            columns[name] = numbers(one.scores.get(name, math.nan) for one in written)
        self.columns: Mapping[str, Numbers] = {
            name: np.where(self.was_asked, column, math.nan) for name, column in columns.items()
        }
        self._none = np.full(len(written), math.nan)
        self.loss = numbers(sum(w.loss) for w in written)
        self.tokens, self.bytes = (numbers(map(float, n)) for n in zip(*_sizes(written), strict=True))
        self.ms = numbers(w.ms for w in written)

    def asked(self, metric: str, rows: RowNumbers) -> RowNumbers:
        """Those of the rows that ask for this."""
        asks: npt.NDArray[np.bool_] = ~np.isnan(self.column(metric)[rows])
        if metric in {*LIKELIHOODS, *AGAINST}:
            asks = self.tokens[rows] > 0
        elif metric in LATENCY:
            asks = self.was_asked[rows] & ~np.isnan(self.ms[rows])
        return rows[asks]

    def column(self, metric: str) -> Numbers:
        """A number for each row."""
        return self.columns.get(metric, self._none)

    def value(self, metric: str, rows: RowNumbers) -> float:
        """Of rows that ask for it."""
        if metric == "perplexity":
            return float(np.exp(self.loss[rows].sum() / self.tokens[rows].sum()))
        if metric == "bits_per_byte":
            return float(self.loss[rows].sum() / math.log(2) / self.bytes[rows].sum())
        if metric in LATENCY:
            return float(np.quantile(self.ms[rows], LATENCY[metric]))
        return float(self.column(metric)[rows].mean())


def numbers(values: object) -> Numbers:
    """An array of what an iterable gives."""
    return np.array(list(values), dtype=np.float64)  # type: ignore[call-overload]


def _sizes(written: Sequence[Written]) -> list[tuple[int, int]]:
    return [(len(w.tokens), max(1, w.scored_bytes)) for w in written]


def _is_one_of(text: str, references: Sequence[str]) -> float:
    """But for white space at the ends and its kind within."""
    return float(_plain(text) in map(_plain, references)) if references else math.nan


def _plain(text: str) -> str:
    return " ".join(text.split())
