"""Whose answers does a judge model prefer, and can that judge be believed?

A judge sees both answers twice, in both seats: whom it prefers in one seat alone it does not prefer. Judges like long
answers, so length is in the model, and what is reported is the preference between answers of one length. Sources:
Zheng et al., arXiv:2306.05685 (2023), section 3.4, on seats; Dubois et al., arXiv:2404.04475 (2024), on length.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from evals.evidence import Comparison, too_few
from evals.offline.clusters import Draws
from evals.offline.paired import METHOD, SCORE, bootstrap_difference, score_interval

Word = Literal["A", "B", "tie"]
"""The first seat, the second one, or neither."""

METRIC = "judge"
MOST_MISSING, MOST_FLIPS, MOST_FALSE = 0.1, 0.5, 0.1
"""Parts of the rows: without an answer; in which a seat decided; and of equal answers in which one was preferred."""

ONE_SIDED, LOPSIDED = 0.95, 0.1
"""Where one model's answers are longer in so many rows, and by so much (as a logarithm), length is all there is."""

STEPS, NEAR, SLOPE_SD = 20, 1e-6, 20.0
Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Opinion:
    """What a judge said of one row: with the candidate in the first seat, and in the second. None is no answer.

    `longer` is the logarithm of how much longer the candidate's answer is.
    """

    first: Word | None
    second: Word | None
    longer: float = 0.0

    @property
    def is_flip(self) -> bool:
        """Whether the seat decided."""
        return self.first == self.second and self.first in {"A", "B"}

    @property
    def won(self) -> float | None:
        """1 where the candidate is preferred, 0 where the champion is, 0.5 for a tie; a flip is a tie."""
        if self.first is None or self.second is None:
            return None
        if "tie" in {self.first, self.second} or self.is_flip:
            return 0.5
        return float(self.first == "A")


def why_not_believed(equals: Sequence[Opinion]) -> str | None:
    """Why is a judge no judge, after it saw the champion's answers beside themselves? None where it may be asked."""
    unread = sum(one.won is None for one in equals)
    if unread > MOST_MISSING * len(equals):
        return f"the judge gave no verdict on {unread} of {len(equals)} pairs of equal answers"
    false = sum(one.won in {0.0, 1.0} for one in equals)
    if false > MOST_FALSE * len(equals):
        return f"the judge preferred one of two equal answers in {false} of {len(equals)} rows"
    return None


def judge_rows(opinions: Sequence[Opinion], confidence: float, draws: Draws, name: str = "all") -> Comparison:
    """How much more often is the champion preferred than the candidate, of two answers of one length? In [-1, 1]."""
    won = np.array([np.nan if one.won is None else one.won for one in opinions], dtype=np.float64)
    told = np.flatnonzero(~np.isnan(won))
    longer = np.array([one.longer for one in opinions], dtype=np.float64)[told]
    there = draws.among(told)
    if missing := _why_missing(opinions, longer, there):
        return Comparison(METRIC, None, len(told), name, missing=missing)
    wins = won[told]
    point, interval = bootstrap_difference(there, lambda draw: _preference(wins[draw], longer[draw]), confidence)
    method = f"{METHOD} of {there.what}, at equal length"
    if interval[0] == interval[1]:
        losses, gains = (float(np.mean(where)) * there.count for where in (wins < 0.5, wins > 0.5))
        interval, method = score_interval(losses, gains, there.count, confidence), f"{SCORE}, all alike"
    return Comparison(METRIC, point, len(told), name, interval, confidence, method)


def notes_of(opinions: Sequence[Opinion]) -> dict[str, int]:
    """How many rows were won, lost and tied, by a seat among them, and how many have no verdict."""
    counted = Counter(one.won for one in opinions)
    said = {"won": counted[1.0], "lost": counted[0.0], "tied": counted[0.5], "missing": counted[None]}
    return {**said, "flipped": sum(one.is_flip for one in opinions)}


def _why_missing(opinions: Sequence[Opinion], longer: Numbers, there: Draws) -> str | None:
    n, missing = len(opinions), len(opinions) - len(longer)
    if n and missing > MOST_MISSING * n:
        return f"the judge gave no verdict on {missing} of {n} rows"
    if few := too_few(there.count, there.what):
        return few
    flips = sum(one.is_flip for one in opinions)
    if flips > MOST_FLIPS * len(longer):
        return f"the judge preferred a seat, and not an answer, in {flips} of {len(longer)} rows"
    sides = max(float(np.mean(longer > 0)), float(np.mean(longer < 0)))
    if sides >= ONE_SIDED and abs(float(np.median(longer))) > LOPSIDED:
        return "one model's answers are longer in nearly every row: length and preference cannot be told apart"
    return None


def _preference(won: Numbers, longer: Numbers) -> float:
    """One minus twice the chance that the candidate is preferred where both answers are as long.

    Logistic regression on the difference in length by Newton's method; one tie at equal length, and a wide normal prior
    on the slope, keep it finite where every row says the same.
    """
    x, y = np.append(longer, 0.0), np.append(won, 0.5)
    at, slope = 0.0, 0.0
    for _ in range(STEPS):
        chance = 1 / (1 + np.exp(-np.clip(at + slope * x, -30, 30)))
        left, weight = y - chance, chance * (1 - chance)
        a, b, c = weight.sum(), weight @ x, weight @ (x * x) + SLOPE_SD**-2
        up, along = left.sum(), left @ x - slope * SLOPE_SD**-2
        bend = max(a * c - b * b, 1e-12)
        step, turn = (c * up - b * along) / bend, (a * along - b * up) / bend
        at, slope = at + min(2.0, max(-2.0, step)), slope + min(2.0, max(-2.0, turn))
        if abs(step) + abs(turn) < NEAR:
            break
    return float(1 - 2 / (1 + np.exp(-at)))
