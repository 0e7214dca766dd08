"""Which labels go to a service's gateway, each of them once, and what becomes of them?

A source names each label by a key that stays the same. The keys that the gateway has answered are kept in a file of the
home, so that a command that is begun again sends nothing twice; a kill between an answer and its line in that file does
no harm, since the gateway refuses a second label of a request.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import orjson

from pipelines.errors import DependencyDown
from pipelines.serving.evidence.labels import MOST_REQUESTS, LabelRefused, label_of

EVIDENCE, LATE, UNKNOWN = "evidence", "late", "unknown"

MOST_KEYS = MOST_REQUESTS
"""A gateway remembers as many answers: an older label finds none of them any more."""


@dataclass(frozen=True)
class Label:
    """One label: its key at the source, the body that `/feedback` takes, and where a person finds it."""

    key: str
    body: Mapping[str, Any]
    where: str


@dataclass(frozen=True)
class Fate:
    """What became of a label: evidence, late, unknown, or the code of its refusal; and why."""

    name: str
    why: str = ""


class LabelTaker(Protocol):
    """Who takes labels."""

    def take(self, body: Mapping[str, Any]) -> Fate:
        """What became of it. DependencyDown where nobody answers."""
        ...


@dataclass
class Tally:
    """How many labels met which fate, the first reason of each; `before` were answered in an earlier run."""

    counts: Counter[str] = field(default_factory=Counter)
    reasons: dict[str, str] = field(default_factory=dict)
    before: int = 0

    def count(self, label: Label, fate: Fate) -> None:
        """One more."""
        self.counts[fate.name] += 1
        if fate.why:
            self.reasons.setdefault(fate.name, f"{label.where}: {fate.why}")

    def add(self, later: Tally) -> None:
        """And those of a later look at the same source."""
        self.counts.update(later.counts)
        self.reasons = {**later.reasons, **self.reasons}
        self.before += later.before

    @property
    def refused(self) -> dict[str, int]:
        """How many were refused, by code."""
        return {name: n for name, n in sorted(self.counts.items()) if name not in {EVIDENCE, LATE, UNKNOWN}}

    def as_dict(self) -> dict[str, Any]:
        """The same as plain data."""
        said = {name: self.counts[name] for name in (EVIDENCE, LATE, UNKNOWN)}
        return {**said, "refused": self.refused, "before": self.before, "why": self.reasons}


class Sent:
    """The keys of the labels that were answered, the oldest first, in a file. DependencyDown where that cannot be."""

    def __init__(self, file: Path) -> None:
        self._file = file
        whole, torn = self._read()
        self._keys = dict.fromkeys(whole)
        self._untold = set(self._keys)
        if torn or len(whole) > MOST_KEYS:
            self._write()

    def __contains__(self, key: str) -> bool:
        return key in self._keys

    def is_of_earlier_run(self, key: str) -> bool:
        """Whether it was answered before this object was made; each key says so once."""
        is_untold = key in self._untold
        self._untold.discard(key)
        return is_untold

    def add(self, key: str) -> None:
        """This one is answered."""
        self._keys[key] = None
        if len(self._keys) > 2 * MOST_KEYS:
            return self._write()
        try:
            with self._file.open("a", encoding="utf-8") as lines:
                lines.write(f"{key}\n")
        except OSError as error:
            raise self._unusable(error) from None
        return None

    def _read(self) -> tuple[list[str], str]:
        """The whole lines, and one that was torn by a kill, which is no key."""
        try:
            *whole, torn = self._file.read_text(encoding="utf-8").split("\n")
        except FileNotFoundError:
            return [], ""
        except (OSError, UnicodeDecodeError) as error:
            raise self._unusable(error) from None
        return whole, torn

    def _write(self) -> None:
        self._keys = dict.fromkeys(list(self._keys)[-MOST_KEYS:])
        temp = self._file.with_suffix(".tmp")
        try:
            temp.write_text("".join(f"{key}\n" for key in self._keys), encoding="utf-8")
            temp.replace(self._file)
        except OSError as error:
            raise self._unusable(error) from None

    def _unusable(self, error: Exception) -> DependencyDown:
        reason = f"what was sent cannot be noted in {self._file}: {error}"
        return DependencyDown(reason, code="E_SENT", hint="remove that file; the gateway refuses what it has already")


def send_labels(labels: Iterable[Label], desk: LabelTaker, sent: Sent) -> Tally:
    """What became of the labels that were not answered yet? DependencyDown where the desk does not answer."""
    tally = Tally()
    for label in labels:
        if label.key in sent:
            tally.before += sent.is_of_earlier_run(label.key)
            continue
        tally.count(label, _refused_here(label.body) or desk.take(label.body))
        sent.add(label.key)
    return tally


def _refused_here(body: Mapping[str, Any]) -> Fate | None:
    """What is no label is refused in the gateway's words, and need not travel: NaN has no place in JSON."""
    try:
        label_of(body)
        orjson.dumps(body)
    except LabelRefused as error:
        return Fate(error.code, f"{error.field}: {error}")
    except TypeError:  # half a surrogate pair
        return Fate("E_LABEL", "body: it is not text in UTF-8")
    return None
