"""Which labelled rows does a file hold, and which row is wrong?"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pipelines.errors import BadInput

T = TypeVar("T")

MAX_BYTES = 512 * 1024 * 1024


@dataclass(frozen=True)
class Rows:
    """Texts with their true labels and slice columns, the digest of the file, and each row's number in it from 1."""

    texts: tuple[str, ...]
    labels: tuple[str, ...]
    columns: Mapping[str, tuple[str, ...]]
    digest: str
    numbers: tuple[int, ...]


def by_length(rows: Rows) -> Rows:
    """The same rows, the shortest text first: texts of alike length share a batch, so that little is padding."""
    order = sorted(range(len(rows.texts)), key=lambda i: len(rows.texts[i]))

    def sorted_by(values: Sequence[T]) -> tuple[T, ...]:
        return tuple(values[i] for i in order)

    columns = {name: sorted_by(values) for name, values in rows.columns.items()}
    return Rows(sorted_by(rows.texts), sorted_by(rows.labels), columns, rows.digest, sorted_by(rows.numbers))


def read_rows(
    path: Path, *, text: str, label: str, slices: Sequence[str] = (), known_labels: Sequence[str] | None = None
) -> Rows:
    """The rows of a CSV or JSONL file in UTF-8. Raises BadInput E_DATASET with the row's number (the first is 1)."""
    needed = (text, label, *slices)
    data = _read(path)
    records = list(_records(path, data, needed))
    if not records:
        raise _wrong("there is no row", path)
    for number, record in enumerate(records, start=1):
        _check(record, number, path, label, known_labels)
    texts, labels = tuple(r[text] for r in records), tuple(r[label] for r in records)
    if len(set(labels)) == 1:
        raise _wrong(f"every row has the label {labels[0]!r}: nothing can be told apart", path)
    if len(texts) > 1 and len(set(texts)) == 1:
        raise _wrong("all rows have the same text", path)
    columns = {name: tuple(r[name] for r in records) for name in slices}
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    return Rows(texts, labels, columns, digest, tuple(range(1, len(texts) + 1)))


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, without a mark and without NUL. Raises BadInput E_DATASET or E_LIMIT."""
    return _text_of(path, _read(path))


def _text_of(path: Path, data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _wrong(f"{_row_at(data, error.start, path)}: byte {error.start} is not UTF-8", path) from None


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise _wrong("it is not a file", path)
        if size > MAX_BYTES:
            raise BadInput(f"{size} bytes", code="E_LIMIT", field=path.name, expected=f"at most {MAX_BYTES} bytes")
        data = path.read_bytes()
    except OSError as error:
        raise _wrong(f"cannot read it: {error.strerror}", path) from None
    if data.startswith((b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf")):
        raise _wrong("it begins with a byte-order mark", path, "UTF-8 without a mark")
    if b"\0" in data:
        raise _wrong(f"{_row_at(data, data.index(0), path)}: a NUL character", path, "text in UTF-8")
    return data


def _row_at(data: bytes, offset: int, path: Path) -> str:
    """Which row, counted in lines, is this byte in? A CSV file's first line is its header."""
    row = data.count(b"\n", 0, offset) + (0 if path.suffix == ".csv" else 1)
    return f"row {row}" if row else "the header"


def _records(path: Path, data: bytes, needed: Sequence[str]) -> Iterator[dict[str, str]]:
    content = _text_of(path, data)
    if is_json_lines(path):
        return _jsonl(content, path, needed)
    return csv_records(content, path, needed)


def is_json_lines(path: Path) -> bool:
    """Whether a file holds JSON lines, and not CSV. BadInput E_DATASET for anything else."""
    if path.suffix not in {".csv", ".jsonl", ".ndjson"}:
        raise _wrong(f"the kind {path.suffix or 'without an ending'!r} is not known", path, "a .csv or .jsonl file")
    return path.suffix != ".csv"


def csv_records(content: str, path: Path, needed: Sequence[str]) -> Iterator[dict[str, str]]:
    """The rows by column. Raises BadInput E_DATASET."""
    lines = csv.reader(io.StringIO(content, newline=""), strict=True)
    number = -1
    try:
        for number, fields in enumerate(lines):
            if number == 0:
                header = fields
                _require(header, needed, path)
                continue
            if len(fields) != len(header):
                raise _wrong(f"row {number} has {len(fields)} fields, the header {len(header)}", path)
            yield dict(zip(header, fields, strict=True))
    except csv.Error as error:
        raise _wrong(f"row {number + 1}: {error}", path) from None


def _jsonl(content: str, path: Path, needed: Sequence[str]) -> Iterator[dict[str, str]]:
    for number, record in json_objects(content, path):
        _require(list(record), needed, path, f"row {number}: ")
        yield {name: _text(record[name], number, name, path) for name in needed}


def json_objects(content: str, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of JSON lines, each with its row's number. Raises BadInput E_DATASET."""
    # Not splitlines: JSON text may hold U+2028 and other characters that Python takes for line ends.
    for number, line in enumerate(content.removesuffix("\n").split("\n") if content else [], start=1):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            raise _wrong(f"row {number} is not JSON", path) from None
        if not isinstance(record, dict):
            raise _wrong(f"row {number} is not an object", path)
        yield number, record


def _text(value: Any, number: int, name: str, path: Path) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise _wrong(f"row {number}: {name} is a {type(value).__name__}", path, "text or a whole number")
    return str(value)


def _require(found: Sequence[str], needed: Sequence[str], path: Path, where: str = "") -> None:
    missing = [name for name in needed if name not in found]
    if missing:
        raise _wrong(f"{where}there is no column {missing[0]!r}", path, f"columns {', '.join(needed)}")
    if len(set(found)) != len(found):
        raise _wrong(f"{where}a column stands twice", path)


def _check(record: Mapping[str, str], number: int, path: Path, label: str, known_labels: Sequence[str] | None) -> None:
    # JSON can spell both as escapes.
    if any("\0" in value or (not value.isascii() and _is_broken(value)) for value in record.values()):
        raise _wrong(f"row {number}: a NUL character or half a surrogate pair", path, "text in UTF-8")
    if not record[label].strip():
        raise _wrong(f"row {number}: the label is empty", path)
    if known_labels is not None and record[label] not in known_labels:
        known = ", ".join(known_labels)
        raise _wrong(f"row {number}: the model does not know the label {record[label][:60]!r}", path, f"one of {known}")


def _is_broken(value: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in value)


def _wrong(reason: str, path: Path, expected: str | None = None) -> BadInput:
    return BadInput(reason, code="E_DATASET", field=path.name, expected=expected)
