"""What do recorded requests, asked of both versions, prove?

A pair is one request and both answers, so what makes a request hard or slow is the same on either side, and only pairs
in which the two differ say something. All evidence is a function of counts: it may be looked at after any pair, the
order of the pairs does not matter, and a replay that was interrupted goes on with exactly what it had.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from evals.maths.e_processes import log_mean
from evals.offline.metrics import wilson

RATIOS = (1.25, 2.0, 5.0, 40.0)
"""How many times more often than stable alone the canary alone may be the bad one: what is bet on, to equal parts."""

BETS = (0.99, 0.7, 0.4, 0.2, 0.1, 0.05)
BETS_PRIOR = (0.5, 0.1, 0.1, 0.1, 0.1, 0.1)
"""Parts of the largest bet on harmlessness. Half is bet as if no pair differed, which is so for most releases."""

BEYOND = (0.1, 0.25, 0.5, 0.9)
"""How far above the allowed share of other answers, as parts of what is left to 1."""


@dataclass(frozen=True)
class Pair:
    """One recorded request at both arms. Times in ms, None where it failed; `agrees` None where nothing is comparable.

    `is_class` says whether the answers named classes; other outputs are compared as a whole.
    """

    canary_ms: float | None
    stable_ms: float | None
    agrees: bool | None = None
    is_class: bool = False


@dataclass(frozen=True)
class ReplayState:
    """What the pairs so far were like. ValueError for counts that cannot be."""

    pairs: int = 0
    canary_only: int = 0
    """Requests that failed at the canary alone."""
    stable_only: int = 0
    both: int = 0
    slower: int = 0
    """Requests that took longer at the canary, after its tolerance."""
    faster: int = 0
    same_class: int = 0
    other_class: int = 0
    same_output: int = 0
    other_output: int = 0

    def __post_init__(self) -> None:
        """Counts that are negative, or more than there are pairs, are nobody's evidence."""
        counts = {k: v for k, v in vars(self).items() if k != "pairs"}
        if any(type(count) is not int or count < 0 for count in vars(self).values()):
            raise ValueError(f"counts of a replay must be numbers from 0 on, not {vars(self)}")
        compared = self.same_class + self.other_class + self.same_output + self.other_output
        answered = self.pairs - self.canary_only - self.stable_only - self.both
        if max(self.slower + self.faster, compared) > answered:
            raise ValueError(f"a replay of {self.pairs} pairs cannot count {counts}")

    @classmethod
    def of(cls, pairs: Iterable[Pair], tolerance: float = 0.0) -> ReplayState:
        """What these pairs were like; `tolerance` is how much slower the canary may be, as a fraction."""
        state = cls()
        for pair in pairs:
            state = state.plus(_counted(pair, tolerance))
        return state

    def plus(self, more: ReplayState) -> ReplayState:
        """With the pairs of another part of the replay."""
        return ReplayState(**{name: count + getattr(more, name) for name, count in vars(self).items()})

    def as_dict(self) -> dict[str, int]:
        """Plain JSON data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> ReplayState:
        """The state of `as_dict`."""
        return cls(**raw)

    @property
    def errors_log_e(self) -> float:
        """Log evidence that the canary fails where stable does not, more often than the other way round."""
        return sign_log_e(self.canary_only, self.stable_only)

    @property
    def latency_log_e(self) -> float:
        """Log evidence that more than half of the requests take longer at the canary, after its tolerance."""
        return sign_log_e(self.slower, self.faster)

    def harmless_log_e(self, margin: float) -> float:
        """Log evidence that the canary's error rate is less than `margin` above stable's.

        Null: E[d] ≥ margin, for d = 1 where only the canary failed, -1 where only stable did, 0 otherwise. Each pair is
        a bet of the same part of the stake on d being small; 1 - bet·(d - margin) has expectation at most 1. Source:
        Waudby-Smith & Ramdas 2024 (arXiv 2010.09686).
        """
        neither = self.pairs - self.canary_only - self.stable_only
        counts = ((1, self.canary_only), (0, neither), (-1, self.stable_only))
        largest = 1 / (1 - margin)
        logs = [sum(n * math.log1p(-part * largest * (d - margin)) for d, n in counts) for part in BETS]
        return log_mean(logs, BETS_PRIOR)

    def shifted_log_e(self, max_ratio: float) -> float:
        """Log evidence that more requests change their class than a drift within `max_ratio` could explain."""
        allowed, n = allowed_disagreement(max_ratio), self.same_class + self.other_class
        rates = [allowed + (1 - allowed) * part for part in BEYOND]
        other, same = self.other_class, n - self.other_class
        logs = [other * math.log(p / allowed) + same * math.log((1 - p) / (1 - allowed)) for p in rates]
        return log_mean(logs, _equal(logs))

    @property
    def agreement(self) -> tuple[float, float, float] | None:
        """The share of requests with the same answer, and its 95 % interval (Wilson); None where none can be said."""
        same = self.same_class + self.same_output
        n = same + self.other_class + self.other_output
        return (same / n, *wilson(same / n, n, 0.95)) if n else None

    @property
    def sentence(self) -> str:
        """What the replay was like, for people."""
        failed = f"{self.canary_only} failed at the canary alone, {self.stable_only} at stable alone"
        said = f"of {self.pairs} replayed requests {failed}"
        if self.agreement is None:
            return said
        share, low, high = self.agreement
        return f"{said}, {share:.1%} have the same answer ({low:.1%} to {high:.1%})"


def _counted(pair: Pair, tolerance: float) -> ReplayState:
    canary_ms, stable_ms = pair.canary_ms, pair.stable_ms
    if canary_ms is None or stable_ms is None:
        kind = "both" if canary_ms is stable_ms else "canary_only" if canary_ms is None else "stable_only"
        return ReplayState(1, **{kind: 1})
    counts = {"slower": int(canary_ms / (1 + tolerance) > stable_ms)}
    counts["faster"] = int(canary_ms / (1 + tolerance) < stable_ms)
    if pair.agrees is not None:
        counts[("same" if pair.agrees else "other") + ("_class" if pair.is_class else "_output")] = 1
    return ReplayState(1, **counts)


def sign_log_e(worse: int, better: int) -> float:
    """Log evidence that among pairs that differ more than half are worse.

    Null: given the past, a pair that differs is worse with probability at most 1/2. A bet on p is the likelihood ratio
    of p to 1/2 (the sign test, as a mixture over p that may be looked at at any time).
    """
    chances = [ratio / (1 + ratio) for ratio in RATIOS]
    logs = [worse * math.log(2 * p) + better * math.log(2 * (1 - p)) for p in chances]
    return log_mean(logs, _equal(logs))


def allowed_disagreement(max_ratio: float) -> float:
    """By how much can a class's share change at most where its odds change by `max_ratio`, as a fraction?"""
    return (math.sqrt(max_ratio) - 1) / (math.sqrt(max_ratio) + 1)


def pairs_to_promote(alpha_promote: float, margin: float) -> int:
    """How many pairs without a difference prove harmlessness, where the live half says nothing yet?"""
    need = math.log(2 / alpha_promote - 1)
    low, high = 1, 1 << 24
    while low < high:
        middle = (low + high) // 2
        is_enough = ReplayState(middle).harmless_log_e(margin) >= need
        low, high = (low, middle) if is_enough else (middle + 1, high)
    return low


def _equal(values: Sequence[float]) -> list[float]:
    return [1 / len(values)] * len(values)
