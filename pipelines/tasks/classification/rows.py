"""Which labelled rows does a file hold, and which row is wrong?"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from pipelines.errors import BadInput
from pipelines.supply.table import Table, wrong

T = TypeVar("T")

_SHOWN_LABELS = 20
_SHOWN_ROWS = 5


@dataclass(frozen=True)
class Rows:
    """Texts with their true labels and slice columns, the digest of the file, and each row's number in it."""

    texts: tuple[str, ...]
    labels: tuple[str, ...]
    columns: Mapping[str, tuple[str, ...]]
    digest: str
    numbers: tuple[int, ...]
    by_number: Mapping[str, str] = field(default_factory=dict)
    """Which labels the file names by their number, and what the model calls them."""

    @property
    def doubts(self) -> tuple[str, ...]:
        """What should a person know of these rows that refuses none of them? A sentence each."""
        first: dict[str, int] = {}
        repeated: list[str] = []
        other: list[str] = []
        for row in sorted(range(len(self.texts)), key=self.numbers.__getitem__):
            earlier = first.setdefault(self.texts[row], row)
            if earlier != row:
                same = self.labels[earlier] == self.labels[row]
                (repeated if same else other).append(f"{self.numbers[earlier]} and {self.numbers[row]}")
        said = []
        if repeated:
            said.append(f"{_repeating(repeated)} the text and the label of an earlier one: rows {_some(repeated)}")
        if other:
            said.append(f"{_repeating(other)} the text of an earlier one, with another label: rows {_some(other)}")
        if self.by_number:
            numbers = sorted(self.by_number, key=int)
            said.append(f"labels are given by number: {_some([f'{n} is {self.by_number[n]}' for n in numbers])}")
        return tuple(said)


def by_length(rows: Rows) -> Rows:
    """The same rows, the shortest text first: texts of alike length share a batch, so that little is padding."""
    order = sorted(range(len(rows.texts)), key=lambda i: len(rows.texts[i]))

    def sorted_by(values: Sequence[T]) -> tuple[T, ...]:
        return tuple(values[i] for i in order)

    columns = {name: sorted_by(values) for name, values in rows.columns.items()}
    texts, labels, numbers = sorted_by(rows.texts), sorted_by(rows.labels), sorted_by(rows.numbers)
    return replace(rows, texts=texts, labels=labels, columns=columns, numbers=numbers)


def _repeating(rows: Sequence[str]) -> str:
    return "1 row repeats" if len(rows) == 1 else f"{len(rows):,} rows repeat"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN_ROWS]) + (", …" if len(names) > _SHOWN_ROWS else "")


def read_rows(
    path: Path,
    *,
    text: str,
    label: str,
    slices: Sequence[str] = (),
    known_labels: Sequence[str] | None = None,
    longest: int | None = None,
) -> Rows:
    """The rows of a CSV or JSONL file in UTF-8. Raises BadInput E_DATASET with the row's number (the first is 1).

    A label is one of `known_labels`, or the number of one from 0; no field has more than `longest` characters.
    """
    table = Table(path)
    names = _Labels(path, known_labels)
    columns: dict[str, list[str]] = {name: [] for name in (text, label, *slices)}
    labels, numbers = [], []
    for number, record in table.rows(tuple(columns)):
        for name, value in record.items():
            columns[name].append(_field(value, number, name, path, longest))
        labels.append(names.named(columns[label][-1], number))
        numbers.append(number)
    texts = tuple(columns[text])
    _refuse_nothing_to_tell(texts, labels, path)
    digest = "sha256:" + hashlib.sha256(table.data).hexdigest()
    kept = {name: tuple(columns[name]) for name in slices}
    return Rows(texts, tuple(labels), kept, digest, tuple(numbers), names.by_number)


def _refuse_nothing_to_tell(texts: Sequence[str], labels: Sequence[str], path: Path) -> None:
    if not texts:
        raise wrong("there is no row", path)
    if len(set(labels)) == 1:
        raise wrong(f"every row has the label {labels[0][:60]!r}: nothing can be told apart", path)
    if len(texts) > 1 and len(set(texts)) == 1:
        raise wrong("all rows have the same text", path)


def _field(value: Any, number: int, name: str, path: Path, longest: int | None) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise wrong(f"row {number}: {name} is a {type(value).__name__}", path, "text or a whole number")
    field = str(value)
    # JSON can spell both as escapes.
    if "\0" in field or (not field.isascii() and _is_broken(field)):
        raise wrong(f"row {number}: a NUL character or half a surrogate pair", path, "text in UTF-8")
    if longest is not None and len(field) > longest:
        reason = f"row {number}: {name} has {len(field):,} characters"
        limit = f"at most {longest:,} characters, which is what a server takes as one text"
        raise wrong(reason, path, limit, "cut the text, or take the row out")
    return field


class _Labels:
    """What a file's labels are called by the model: by name, or by number where no name is a number."""

    def __init__(self, path: Path, known: Sequence[str] | None) -> None:
        self._path = path
        self._known = known
        self._names = dict.fromkeys(known or ())
        has_numbers = any(name.strip().lstrip("+-").isdigit() for name in self._names)
        self._numbered = {} if has_numbers else {str(index): name for index, name in enumerate(self._names)}
        self.by_number: dict[str, str] = {}

    def named(self, label: str, number: int) -> str:
        """The name of a row's label. BadInput E_DATASET where the model has none such."""
        if not label.strip():
            raise wrong(f"row {number}: the label is empty", self._path)
        if self._known is None or label in self._names:
            return label
        if label in self._numbered:
            return self.by_number.setdefault(label, self._numbered[label])
        raise self._unknown(label, number)

    def _unknown(self, label: str, number: int) -> BadInput:
        names = list(self._names)
        more = f", … ({len(names):,} in all)" if len(names) > _SHOWN_LABELS else ""
        numbers = f", or by its number from 0 to {len(names) - 1}" if self._numbered else ""
        return wrong(
            f"row {number}: the model does not know the label {label[:60]!r}",
            self._path,
            f"one of {', '.join(names[:_SHOWN_LABELS])}{more}",
            f"name it as the model does{numbers}; or set id2label and label2id in the model's configuration, "
            "save it, and register it again",
        )


def _is_broken(value: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in value)
