"""Which rows does a CSV or JSONL file hold, and which row cannot be read?

Only the columns that are asked for are kept, so that a file of very many columns costs no more than its bytes.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pipelines.errors import BadInput
from pipelines.supply.checks.strict_json import DuplicateKey, without_duplicates

MAX_BYTES = 512 * 1024 * 1024

csv.field_size_limit(MAX_BYTES)  # a field is as long as its file: what is too long for a text is said by who knows

_MARK = b"\xef\xbb\xbf"
_OTHER_MARKS = (b"\xff\xfe", b"\xfe\xff")
_DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "bars"}
_ONE_A_LINE = "one JSON object on each line, and no list of them"
_SHOWN_COLUMNS, _SHOWN_CHARACTERS = 10, 40


class Table:
    """A CSV or JSONL file in UTF-8, read whole: its bytes, and its rows by number. BadInput E_DATASET or E_LIMIT."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_csv = _is_csv(path)
        self.data = _read(path)
        if b"\0" in self.data:
            at = self.data.index(0)
            raise wrong(f"{self._row_at(at)}: a NUL character", path, "text in UTF-8")

    def rows(self, needed: Sequence[str], wanted: Sequence[str] = ()) -> Iterator[tuple[int, dict[str, Any]]]:
        """(number, row) with the columns `needed`, and of the `wanted` those that there are; blank lines are no rows.

        The first row is 1, and a blank line has a number, too: a number is a place in the file. A CSV file holds
        text, JSON lines hold any value. BadInput E_DATASET names the row that is none, or the column that is missing.
        """
        try:
            yield from self._csv(needed, wanted) if self.is_csv else self._jsonl(needed, wanted)
        except UnicodeDecodeError:
            raise self._not_utf8() from None

    def objects(self, needed: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
        """(number, object) of JSON lines, whole. BadInput E_DATASET names the row that lacks a column."""
        for number, line in enumerate(self.data.decode("utf-8", "replace").split("\n"), start=1):
            if not line.strip():
                continue
            record = self._object(number, line)
            for name in needed:
                if name not in record:
                    raise wrong(f"row {number}: there is no column {name!r}: it has {_shown(list(record))}", self.path)
            yield number, record

    def _lines(self, newline: str) -> io.TextIOWrapper:
        lines = io.TextIOWrapper(io.BytesIO(self.data), "utf-8", newline=newline)
        if self.data.startswith(_MARK):
            lines.read(1)
        return lines

    def _csv(self, needed: Sequence[str], wanted: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
        header: list[str] = []
        number = -1
        try:
            for number, fields in enumerate(csv.reader(self._lines(""), strict=True)):
                if _is_blank(fields):
                    continue
                if not header:
                    header, places = fields, self._places(fields, needed, wanted)
                    continue
                if len(fields) != len(header):
                    raise wrong(f"row {number} has {len(fields)} fields, the header {len(header)}", self.path)
                yield number, {name: fields[place] for name, place in places.items()}
        except csv.Error as error:
            raise wrong(f"{_named(number + 1)}: {error}", self.path) from None

    def _places(self, header: list[str], needed: Sequence[str], wanted: Sequence[str]) -> dict[str, int]:
        times = Counter(header)
        for name in needed:
            if not times[name]:
                raise self._no_column(name, header, needed)
        names = [name for name in (*needed, *wanted) if times[name]]
        for name in names:
            if times[name] > 1:
                raise wrong(f"the column {name!r} stands twice", self.path)
        return {name: header.index(name) for name in names}

    def _no_column(self, name: str, header: list[str], needed: Sequence[str]) -> BadInput:
        """Which columns are there instead, and which delimiter would find the right ones?"""
        first = ",".join(header)
        if header[0].lower().startswith("sep="):
            reason = f"the first line is {first[:10]!r}, which only spreadsheets read"
            return wrong(reason, self.path, f"a header with {', '.join(needed)}, and commas")
        most = max(_DELIMITERS, key=first.count)
        is_other = any(mark in first for mark in _DELIMITERS) and (len(header) == 1 or name in first.split(most))
        found = first.split(most) if is_other else header
        seems = f"; it looks separated by {_DELIMITERS[most]}" if is_other else ""
        return wrong(
            f"there is no column {name!r}: it has {_shown(found)}{seems}",
            self.path,
            f"columns {', '.join(needed)}, separated by commas",
        )

    def _jsonl(self, needed: Sequence[str], wanted: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
        # Only the line feed ends a line: JSON text may hold U+2028 and others that Python takes for line ends.
        for number, line in enumerate(self._lines("\n"), start=1):
            if not line.strip():
                continue
            record = self._object(number, line)
            for name in needed:
                if name not in record:
                    expected = f"columns {', '.join(needed)}"
                    has = _shown(list(record))
                    raise wrong(f"row {number}: there is no column {name!r}: it has {has}", self.path, expected)
            yield number, {name: record[name] for name in (*needed, *wanted) if name in record}

    def _object(self, number: int, line: str) -> dict[str, Any]:
        try:
            record = json.loads(line, object_pairs_hook=without_duplicates)
        except DuplicateKey as twice:
            raise wrong(f"row {number}: {twice.key[:60]!r} stands twice", self.path, "each key once") from None
        except (ValueError, RecursionError):
            raise wrong(f"row {number} is not JSON", self.path, _ONE_A_LINE) from None
        if not isinstance(record, dict):
            raise wrong(f"row {number} is not an object", self.path, _ONE_A_LINE)
        return record

    def _not_utf8(self) -> BadInput:
        try:
            self.data.decode("utf-8")
        except UnicodeDecodeError as error:
            reason = f"{self._row_at(error.start)}: byte {error.start} is not UTF-8"
            return wrong(reason, self.path, "text in UTF-8", "save the file again in UTF-8")
        raise AssertionError("what is UTF-8 as a whole is UTF-8 line by line")

    def _row_at(self, offset: int) -> str:
        """Which row is this byte in? A CSV file's first line is its header, and a quoted field may span lines."""
        if not self.is_csv:
            return _named(self.data.count(b"\n", 0, offset) + 1)
        before = self.data[:offset].decode("utf-8", "replace") + "x"
        return _named(sum(1 for _ in csv.reader(io.StringIO(before, newline=""))) - 1)


def wrong(reason: str, path: Path, expected: str | None = None, hint: str | None = None) -> BadInput:
    """The error that says what is wrong with a file of rows."""
    return BadInput(reason, code="E_DATASET", field=path.name, expected=expected, hint=hint)


def refuse_empty(column: str, values: Sequence[str], numbers: Sequence[int], path: Path) -> None:
    """BadInput E_DATASET where a row does not say which rows it belongs to: all of those would be one."""
    for number, value in zip(numbers, values, strict=True):
        if not value.strip():
            raise wrong(f"row {number}: {column} is empty", path, "which rows belong together")


def _named(row: int) -> str:
    return f"row {row}" if row else "the header"


def _is_csv(path: Path) -> bool:
    kind = path.suffix.lower()
    if kind not in {".csv", ".jsonl", ".ndjson"}:
        raise wrong(f"the kind {path.suffix or 'without an ending'!r} is not known", path, "a .csv or .jsonl file")
    return kind == ".csv"


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise wrong("it is not a file", path)
        if size > MAX_BYTES:
            raise BadInput(f"{size} bytes", code="E_LIMIT", field=path.name, expected=f"at most {MAX_BYTES} bytes")
        data = path.read_bytes()
    except OSError as error:
        raise wrong(f"cannot read it: {error.strerror}", path) from None
    if data.startswith(_OTHER_MARKS):
        raise wrong("it begins with a byte-order mark of UTF-16 or UTF-32", path, "text in UTF-8")
    return data


def _is_blank(fields: Sequence[str]) -> bool:
    """Whether a line of CSV is empty or holds nothing but spaces."""
    return not fields or (len(fields) == 1 and fields[0].isspace())


def _shown(columns: Sequence[str]) -> str:
    """Some columns' names, in the file's order."""
    if not columns:
        return "no columns"
    named = [repr(name[:_SHOWN_CHARACTERS]) for name in columns[:_SHOWN_COLUMNS]]
    more = len(columns) - len(named)
    return f"{'column' if len(columns) == 1 else 'columns'} {', '.join(named)}" + (f" and {more} more" if more else "")
