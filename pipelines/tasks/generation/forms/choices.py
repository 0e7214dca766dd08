"""Which of a row's choices does a model find likeliest, and is it the right one?

As `lm-eval` asks it: each choice goes on from the prompt, and the likelihoods of its tokens are added up. A long choice
is less likely for its length alone, so they are compared once as they are, and once for each byte.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.supply.table import wrong

CHOICES, ANSWER = "choices", "answer"
CHOICE, CHOICE_NORM = "choice", "choice_norm"
MOST_CHOICES, MOST_CHARACTERS = 100, 100_000

Tokens = list[int]


@dataclass(frozen=True)
class Choices:
    """Texts that may go on from a prompt, and the place of the right one; none where a row offers no choice."""

    texts: tuple[str, ...] = ()
    right: int = -1

    def __bool__(self) -> bool:
        return bool(self.texts)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data; nothing where there is none."""
        return {CHOICES: list(self.texts), ANSWER: self.right} if self.texts else {}

    def scores(self, sums: Sequence[float]) -> dict[str, float]:
        """1 where the right one is the likeliest, by metric, after the log-likelihood of each one in nats.

        Of two that are alike the first is taken. A model whose likelihoods are no numbers has chosen nothing.
        """
        if not self.texts or not all(map(math.isfinite, sums)):
            return dict.fromkeys((CHOICE, CHOICE_NORM), 0.0) if self.texts else {}
        each_byte = [log / len(text.strip().encode()) for log, text in zip(sums, self.texts, strict=True)]
        chosen = {CHOICE: sums, CHOICE_NORM: each_byte}
        return {metric: float(max(range(len(by)), key=by.__getitem__) == self.right) for metric, by in chosen.items()}


def choices_of(said: Mapping[str, Any]) -> Choices:
    """The same of its plain data."""
    return Choices(tuple(said.get(CHOICES, ())), said.get(ANSWER, -1))


def read_choices(record: Mapping[str, Any], right: Any, number: int, path: Path) -> Choices:
    """What a row offers; `right` is the place of the answer, from 0, or its text. BadInput E_DATASET."""
    said = record.get(CHOICES)
    if said is None:
        return Choices()
    is_list = isinstance(said, list) and all(isinstance(text, str) and text.strip() for text in said)
    if not is_list or not 2 <= len(said) <= MOST_CHOICES or sum(map(len, said)) > MOST_CHARACTERS:
        expected = f"a list of 2 to {MOST_CHOICES} texts, of {MOST_CHARACTERS:,} characters in all"
        raise wrong(f"row {number}: {CHOICES} are none", path, expected)
    if len(set(said)) < len(said):
        raise wrong(f"row {number}: a choice stands twice", path, "texts that differ")
    if any("\0" in text or any("\ud800" <= one <= "\udfff" for one in text) for text in said):
        raise wrong(f"row {number}: a NUL character or half a surrogate pair", path, "text in UTF-8")
    return Choices(tuple(said), _place(said, right, number, path))


def _place(texts: Sequence[str], right: Any, number: int, path: Path) -> int:
    if isinstance(right, str):
        found = [place for place, text in enumerate(texts) if text.strip() == right.strip()]
        if len(found) == 1:
            return found[0]
    elif isinstance(right, int) and not isinstance(right, bool) and 0 <= right < len(texts):
        return right
    expected = f"{ANSWER}: a place from 0 to {len(texts) - 1}, or the text of one choice"
    raise wrong(f"row {number}: {right!r} is none of its choices"[:200], path, expected)


def parted(tokens_of: Callable[[str], Tokens], context: str, text: str) -> tuple[Tokens, Tokens]:
    """The tokens of a context, and those of a text that goes on from it: both are read as one.

    Spaces at a context's end begin the first word after it. Source: `TemplateLM._encode_pair` of lm-eval 0.4.13.
    """
    kept = context.rstrip() or context
    before = tokens_of(kept)
    return before, tokens_of(kept + context[len(kept) :] + text)[len(before) :]
