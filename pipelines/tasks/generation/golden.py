"""Which answers must a staged server repeat, and did it?

The same bytes on the same engine write the same text, but for what threads and batches do to the last digits: two
tokens that were nearly as likely may change places, and everything after them is another text. So each answer is
compared up to the first token that differs, and there it must have been a near tie.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from evals.gate import Outcome, Reason
from pipelines.tasks.generation.answers import Choice
from pipelines.tasks.task import Golden

GOLDEN_ROWS = 12
"""How many rows the staged server must later answer as the evaluated engine did."""

NATS = 0.1
"""Log-probabilities of the same token may differ by this much, and tokens that are this near may change places."""


def chosen(n: int) -> list[int]:
    """Which of n rows."""
    return list(range(0, n, max(1, n // GOLDEN_ROWS)))[:GOLDEN_ROWS]


def judge(golden: Golden, answers: Sequence[Choice]) -> Reason:
    """Every golden row must come back as it was evaluated, up to its first near tie."""
    furthest, wrong = 0.0, []
    for row, expected, found in zip(golden["rows"], golden["answers"], answers, strict=True):
        difference, problem = _compared(expected, found)
        furthest = max(furthest, difference)
        if problem:
            wrong.append(f"row {row}: {problem}")
    n = len(golden["rows"])
    sentence = (
        f"{len(wrong)} of {n} golden rows changed their answer; log-probabilities differ by at most {furthest:.4f}"
    )
    detail = f" ({wrong[0]})" if wrong else ""
    return Reason(Outcome.FAIL if wrong else Outcome.PASS, "golden rows", sentence + detail)


def _compared(expected: dict[str, Any], found: Choice) -> tuple[float, str]:
    """How far log-probabilities differ before the first other token, and what is wrong."""
    furthest, tokens = 0.0, expected["tokens"]
    for place, ((token, log, ahead), (other, seen, _)) in enumerate(zip(tokens, found.tokens, strict=False)):
        if token != other:
            is_tie = ahead is not None and ahead <= NATS
            return furthest, "" if is_tie else f"token {place + 1} is {other[:20]!r} instead of {token[:20]!r}"
        furthest = max(abs(log - seen), furthest)  # in this order: what is no number stays none
        if not furthest <= NATS:
            return furthest, f"token {place + 1} is as likely as e^{seen:.3f} instead of e^{log:.3f}"
    calls = [tuple(call) for call in expected.get("calls", ())]  # an older Shipway kept none
    is_same = (expected["text"], expected["finish"], calls) == (found.text, found.finish, [*found.calls])
    return furthest, "" if is_same else f"it ends otherwise ({found.finish!r} instead of {expected['finish']!r})"


def is_sane(answer: Choice) -> bool:
    """Whether an answer can be one: it says how it ended, and what it says of its tokens are numbers."""
    return bool(answer.finish) and all(math.isfinite(log) for _, log, _ in answer.tokens)
