"""Which files of rows are read, and which row is blamed when one is wrong?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.errors import BadInput
from pipelines.supply.dataset import read_rows

CSV = 'text,label,topic\ngood flight,pos,air\n"bad, late",neg,air\nfine,pos,rail\n'


def write(tmp_path: Path, content: str | bytes, name: str = "rows.csv") -> Path:
    """A file with this content."""
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refusal(path: Path, **options: object) -> BadInput:
    """The error that reading raises."""
    with pytest.raises(BadInput) as caught:
        read_rows(path, text="text", label="label", **options)
    return caught.value


def test_csv_rows_keep_their_order(tmp_path):
    """Texts, labels and slice columns stand row by row as in the file; quoted commas stay in their field."""
    rows = read_rows(write(tmp_path, CSV), text="text", label="label", slices=["topic"], known_labels=["neg", "pos"])
    assert rows.texts == ("good flight", "bad, late", "fine")
    assert rows.labels == ("pos", "neg", "pos")
    assert rows.columns == {"topic": ("air", "air", "rail")}


def test_jsonl_and_csv_give_the_same_rows(tmp_path):
    """The same rows in either format differ only in the file's digest."""
    lines = [{"text": "a", "label": 1, "topic": "x"}, {"text": "b", "label": 0, "topic": "y"}]
    jsonl = write(tmp_path, "".join(json.dumps(line) + "\n" for line in lines), "rows.jsonl")
    csv = write(tmp_path, "label,topic,text\r\n1,x,a\r\n0,y,b\r\n")
    one, other = (read_rows(p, text="text", label="label", slices=["topic"]) for p in (jsonl, csv))
    assert (one.texts, one.labels, one.columns) == (other.texts, other.labels, other.columns)
    assert one.digest != other.digest


@pytest.mark.parametrize("odd", ["\u2028", "\x0b", "\x0c", "\x1c", "\x85"])
def test_what_python_takes_for_a_line_end_is_text(tmp_path, odd):
    """Line separators of other alphabets inside a text do not break a row in two."""
    csv = write(tmp_path, f"text,label\na{odd}b,x\nc,y\n")
    jsonl = write(tmp_path, "".join(f'{{"text": "{t}", "label": "{t}"}}\n' for t in ("a\u2028b", "c")), "rows.jsonl")
    assert read_rows(csv, text="text", label="label").texts == (f"a{odd}b", "c")
    assert read_rows(jsonl, text="text", label="label").texts == ("a\u2028b", "c")


def test_a_line_end_inside_quotes_belongs_to_the_text(tmp_path):
    """A quoted field may span lines."""
    rows = read_rows(write(tmp_path, 'text,label\n"one\ntwo",x\nthree,y\n'), text="text", label="label")
    assert rows.texts == ("one\ntwo", "three")


def test_the_digest_is_of_the_bytes(tmp_path):
    """One changed byte changes the digest."""
    one = read_rows(write(tmp_path, CSV), text="text", label="label")
    other = read_rows(write(tmp_path, CSV.replace("fine", "Fine")), text="text", label="label")
    assert one.digest.startswith("sha256:")
    assert one.digest != other.digest


CSV_FAULTS = {
    "empty": (b"", "there is no row"),
    "header only": (b"text,label\n", "there is no row"),
    "one class": (b"text,label\na,x\nb,x\n", "every row has the label 'x'"),
    "duplicates": (b"text,label\na,x\na,y\n", "the same text"),
    "ragged": (b"text,label\na,x\nb\n", "row 2 has 1 fields"),
    "too wide": (b"text,label\na,x,z\nb,y\n", "row 1 has 3 fields"),
    "open quote": (b'text,label\na,x\n"b,y\n', "row 2"),
    "text after a quote": (b'text,label\n"a"b,x\nc,y\n', "row 1"),
    "no column": (b"text,kind\na,x\nb,y\n", "there is no column 'label'"),
    "column twice": (b"text,label,text\na,x,b\nb,y,c\n", "stands twice"),
    "BOM": (b"\xef\xbb\xbftext,label\na,x\nb,y\n", "byte-order mark"),
    "UTF-16": ("text,label\na,x\nb,y\n".encode("utf-16"), "byte-order mark"),
    "UTF-16 without a mark": ("text,label\na,x\nb,y\n".encode("utf-16-le"), "the header: a NUL"),
    "Latin-1": (b"text,label\na,x\ncaf\xe9,y\n", "row 2: byte 18 is not UTF-8"),
    "NUL": (b"text,label\na,x\nb\0,y\n", "row 2: a NUL"),
    "no label": (b"text,label\na,x\nb, \n", "row 2: the label is empty"),
}


@pytest.mark.parametrize(("content", "reason"), CSV_FAULTS.values(), ids=CSV_FAULTS)
def test_a_bad_csv_names_what_is_wrong_and_where(tmp_path, content, reason):
    """Every fault of the bad-input matrix is E_DATASET with the file, and the row where there is one."""
    error = refusal(write(tmp_path, content))
    assert (error.code, error.field) == ("E_DATASET", "rows.csv")
    assert reason in error.reason


JSONL_FAULTS = {
    "not JSON": ('{"text": "a", "label": "x"}\nnope\n', "row 2 is not JSON"),
    "not an object": ('["a", "x"]\n', "row 1 is not an object"),
    "missing key": ('{"text": "a", "label": "x"}\n{"text": "b"}\n', "row 2: there is no column 'label'"),
    "a float": ('{"text": "a", "label": 0.5}\n', "row 1: label is a float"),
    "a truth": ('{"text": "a", "label": true}\n', "row 1: label is a bool"),
    "an escaped NUL": ('{"text": "a", "label": "x"}\n{"text": "\\u0000", "label": "y"}\n', "row 2: a NUL"),
    "half a pair": (
        '{"text": "\\ud800", "label": "x"}\n{"text": "b", "label": "y"}\n',
        "row 1: a NUL character or half",
    ),
    "deep": ("[" * 100_000 + "\n", "row 1 is not JSON"),
    "a raw NUL": ('{"text": "a", "label": "x"}\n{"text": "\0", "label": "y"}\n', "row 2: a NUL"),
}


@pytest.mark.parametrize(("content", "reason"), JSONL_FAULTS.values(), ids=JSONL_FAULTS)
def test_a_bad_jsonl_names_what_is_wrong_and_where(tmp_path, content, reason):
    """JSON Lines are checked as strictly as CSV."""
    error = refusal(write(tmp_path, content, "rows.jsonl"))
    assert error.code == "E_DATASET"
    assert reason in error.reason


def test_unknown_labels_are_named_with_the_known_ones(tmp_path):
    """A label that the model does not have is refused at its row, before anything is asked."""
    error = refusal(write(tmp_path, CSV), known_labels=["pos", "negative"])
    assert "row 2" in error.reason
    assert "'neg'" in error.reason
    assert error.expected == "one of pos, negative"


@pytest.mark.parametrize("name", ["missing.csv", "."])
def test_a_file_that_is_not_there_is_bad_input(tmp_path, name):
    """A missing file and a folder are E_DATASET, never a traceback."""
    assert refusal(tmp_path / name).code == "E_DATASET"


def test_other_kinds_of_files_are_refused(tmp_path):
    """Only .csv and .jsonl are read."""
    error = refusal(write(tmp_path, CSV, "rows.parquet"))
    assert "'.parquet'" in error.reason


def test_a_file_over_the_limit_is_not_read(tmp_path):
    """A sparse file over the limit is refused by its size, with the limit."""
    path = write(tmp_path, b"")
    with path.open("r+b") as file:
        file.truncate(600 * 1024 * 1024)
    assert refusal(path).code == "E_LIMIT"
