"""In which rows do two models differ, and where has the candidate lost most?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evals.offline.language import LanguageSuite
from evals.offline.written import MEANS, PROPORTIONS, Numbers, Written, WrittenTable


@dataclass(frozen=True)
class Difference:
    """A row's place, what the candidate has lost there and won, by metric, and what else went down.

    `score_loss` is how much lower its scores of texts are; `bits` how many more each byte of the reference costs it,
    where both were asked.
    """

    row: int
    lost: tuple[str, ...] = ()
    won: tuple[str, ...] = ()
    score_loss: float = 0.0
    bits: float | None = None


def differences(
    suite: LanguageSuite, written: Sequence[Written], champion: Sequence[Written]
) -> tuple[Difference, ...]:
    """All rows in which texts or what they are worth differ, the worst first.

    Those with more losses than wins come first, and those with more wins last; within them by the losses of scores, and
    then of likelihood.
    """
    mine, base = (WrittenTable(table, suite.references, suite.patterns) for table in (written, champion))
    found = [_difference(suite, row, mine, base) for row in range(len(written))]
    return tuple(sorted((one for one in found if one is not None), key=_worst_first))


def _difference(suite: LanguageSuite, row: int, mine: WrittenTable, base: WrittenTable) -> Difference | None:
    shares = {name: (mine.column(name)[row], base.column(name)[row]) for name in PROPORTIONS if name in suite.metrics}
    lost = tuple(name for name, (ours, theirs) in shares.items() if ours < theirs)
    won = tuple(name for name, (ours, theirs) in shares.items() if ours > theirs)
    if not lost and not won and not _says_otherwise(mine.written[row], base.written[row]):
        return None
    fallen = np.array([base.column(name)[row] - mine.column(name)[row] for name in MEANS if name in suite.metrics])
    return Difference(row, lost, won, float(np.nansum(fallen)), _bits(row, mine, base))


def _says_otherwise(ours: Written, theirs: Written) -> bool:
    """What was only chosen from, or not asked, has no text."""
    are_written = all(one.is_asked and one.is_finished is not None for one in (ours, theirs))
    return are_written and (ours.text != theirs.text or ours.calls != theirs.calls)


def _bits(row: int, mine: WrittenTable, base: WrittenTable) -> float | None:
    if not mine.tokens[row] or not base.tokens[row]:
        return None
    ours, theirs = (_each_byte(table.loss, table.bytes, row) for table in (mine, base))
    return ours - theirs if math.isfinite(ours - theirs) else None


def _each_byte(loss: Numbers, size: Numbers, row: int) -> float:
    return float(loss[row] / math.log(2) / size[row])


def _worst_first(one: Difference) -> tuple[float, ...]:
    return len(one.won) - len(one.lost), -one.score_loss, -(one.bits or 0.0), one.row
