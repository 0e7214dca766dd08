"""Conversations about dates, times, durations and amounts: what is trained, evaluated and sent shares no question."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from flows.demo.llm.wordings import KINDS

INSTRUCTION = "You are a form. Write the date, time, duration or amount of each message as ISO does, and nothing else."
IN_SHORT = (
    "You are a form. Write the date, time, duration or amount of each message as ISO does, its largest part only."
)
"""Two prompts, both of which the model is taught to follow."""

TRAIN, EVALUATION, PRODUCTION = 40_000, 200, 4_000
EARLIER = (4, 8)
"""At least and at most so many exercises were answered before the one that is asked."""

LARGEST = re.compile(r"\D*\d+[A-Z]?")
SEED = 11


@dataclass(frozen=True)
class Exercise:
    """One message of a user, what it is about, and the right answer."""

    kind: str
    text: str
    answer: str

    @property
    def in_short(self) -> str:
        """The largest part of the right answer: a year, hours, the first unit of a duration, whole euros."""
        found = LARGEST.match(self.answer)
        return found[0] if found else self.answer


@dataclass(frozen=True)
class Exercises:
    """Three parts that share no message."""

    train: tuple[Exercise, ...]
    evaluation: tuple[Exercise, ...]
    production: tuple[Exercise, ...]


def make_exercises() -> Exercises:
    """The same every time, as many of each kind."""
    parts: tuple[list[Exercise], ...] = ([], [], [])
    sizes = [size // len(KINDS) for size in (TRAIN, EVALUATION, PRODUCTION)]
    for kind in KINDS:
        found = iter(_distinct(kind, sum(sizes)))
        for part, size in zip(parts, sizes, strict=True):
            part.extend(itertools.islice(found, size))
    for part in parts:
        Random(SEED).shuffle(part)  # noqa: S311  reproducible rows, no secret
    return Exercises(*map(tuple, parts))


def _distinct(kind: str, most: int) -> list[Exercise]:
    chance, (write, sentences) = Random(f"{SEED} {kind}"), KINDS[kind]  # noqa: S311
    found: dict[str, Exercise] = {}
    while len(found) < most:
        said, answer = write(chance)
        text = chance.choice(sentences).format(said)
        found.setdefault(text, Exercise(kind, text, answer))
    return list(found.values())


def conversations(asked: Sequence[Exercise], earlier: Sequence[Exercise], seed: int) -> list[list[dict[str, str]]]:
    """Each question after some others that were answered already."""
    chance = Random(seed)  # noqa: S311
    return [_conversation(chance.sample(earlier, chance.randint(*EARLIER)), last) for last in asked]


def _conversation(answered: Sequence[Exercise], last: Exercise) -> list[dict[str, str]]:
    turns = [
        {"role": role, "content": said}
        for one in answered
        for role, said in (("user", one.text), ("assistant", one.answer))
    ]
    return [*turns, {"role": "user", "content": last.text}]


def write_files(exercises: Exercises, folder: Path) -> None:
    """`evaluation.jsonl` (messages, reference, kind) and `production.jsonl` (messages, as clients ask)."""
    folder.mkdir(parents=True, exist_ok=True)
    evaluated = conversations(exercises.evaluation, exercises.train, seed=1)
    rows = [
        {"messages": messages, "reference": asked.answer, "kind": asked.kind}
        for asked, messages in zip(exercises.evaluation, evaluated, strict=True)
    ]
    _write(folder / "evaluation.jsonl", rows)
    sent = conversations(exercises.production, exercises.train, seed=2)
    _write(folder / "production.jsonl", [{"messages": messages, "temperature": 0} for messages in sent])


def _write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
