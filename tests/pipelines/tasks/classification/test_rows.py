"""Which files of rows are read, and which row is blamed when one is wrong?"""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest

from pipelines.errors import BadInput
from pipelines.tasks.classification.rows import by_length, read_rows

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
    "column twice": (b"text,label,text\na,x,b\nb,y,c\n", "the column 'text' stands twice"),
    "other columns": (b"id,tweet,label\n1,a,x\n", "no column 'text': it has columns 'id', 'tweet', 'label'"),
    "semicolons": (b"text;label\na;x\nb;y\n", "it has columns 'text', 'label'; it looks separated by semicolons"),
    "tabs": (b"id\ttext\tlabel\n1\ta, b\tx\n", "it looks separated by tabs"),
    "bars": (b"text|label\na|x\n", "it looks separated by bars"),
    "sep=;": (b"sep=;\ntext;label\na;x\n", "the first line is 'sep=;', which only spreadsheets read"),
    "sep=,": (b"sep=,\ntext,label\na,x\n", "the first line is 'sep=,', which only spreadsheets read"),
    "many columns": (b",".join(b"c%d" % n for n in range(99)) + b"\n", "'c9' and 89 more"),
    "UTF-16": ("text,label\na,x\nb,y\n".encode("utf-16"), "byte-order mark"),
    "UTF-16 without a mark": ("text,label\na,x\nb,y\n".encode("utf-16-le"), "the header: a NUL"),
    "a fault after blank lines": (b"text,label\n\na,x\n\nb\n", "row 4 has 1 fields"),
    "Latin-1 after a line end in quotes": (b'text,label\n"a\nb",x\ncaf\xe9,y\n', "row 2: byte 22 is not UTF-8"),
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
    "a fault after blank lines": ('\n{"text": "a", "label": "x"}\n  \nnope\n', "row 4 is not JSON"),
    "other keys": ('{"sentence": "a", "label": "x"}\n', "no column 'text': it has columns 'sentence', 'label'"),
    "a key twice": ('{"text": "a", "label": "x", "text": "b"}\n', "row 1: 'text' stands twice"),
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


BLANK = {
    "rows.csv": "text,label\na,x\n\n   \nb,y\n\n\n",
    "begun.csv": "\n \ntext,label\na,x\nb,y\n",
    "RETURNS.CSV": "text,label\r\na,x\r\n\r\nb,y\r\n",
    "rows.jsonl": '\n{"text": "a", "label": "x"}\n \t\n{"text": "b", "label": "y"}\n\n',
    "ROWS.JSONL": '{"text": "a", "label": "x"}\r\n\r\n{"text": "b", "label": "y"}',
    "rows.NDJSON": '{"text": "a", "label": "x"}\n\n{"text": "b", "label": "y"}',
}


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "marked"])
@pytest.mark.parametrize(("name", "content"), BLANK.items(), ids=BLANK)
def test_blank_lines_and_a_mark_of_utf8_are_read_over(tmp_path, name, content, mark):
    """Whatever the case of the file's ending."""
    rows = read_rows(write(tmp_path, mark + content.encode(), name), text="text", label="label")
    assert (rows.texts, rows.labels) == (("a", "b"), ("x", "y"))


def test_a_rows_number_is_its_place_in_the_file(tmp_path):
    """Blank lines count."""
    rows = read_rows(write(tmp_path, BLANK["rows.csv"]), text="text", label="label")
    assert rows.numbers == (1, 4)


def test_columns_that_nobody_asks_for_do_not_matter(tmp_path):
    """Two without a name, two of one name, and a field that is longer than the limit of a text."""
    content = f",,text,extra,extra,label\n0,0,a,1,{'x' * 200_000},x\n1,1,b,1,1,y\n"
    assert read_rows(write(tmp_path, content), text="text", label="label", longest=100).texts == ("a", "b")


@pytest.mark.parametrize("length", [100_001, 131_073])
@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl"])
def test_one_limit_holds_for_a_text_in_either_format(tmp_path, name, length):
    """It is said with the row's number, whatever the format's own limit."""
    texts = {"short": "x", "y" * length: "y"}
    lines = [json.dumps({"text": text, "label": label}) for text, label in texts.items()]
    if name.endswith("csv"):
        lines = ["text,label", *(f"{text},{label}" for text, label in texts.items())]
    error = refusal(write(tmp_path, "\n".join(lines), name), longest=100_000)
    assert (error.code, error.reason) == ("E_DATASET", f"row 2: text has {length:,} characters")
    assert error.expected == "at most 100,000 characters, which is what a server takes as one text"


def test_memory_is_for_the_columns_that_are_needed(tmp_path):
    """Of 5,000 columns, two are kept."""
    names = ",".join(f"c{n}" for n in range(5_000))
    content = f"text,label,{names}\n" + "".join(f"t{n},{n % 2},{',' * 4_999}\n" for n in range(500))
    path = write(tmp_path, content)
    tracemalloc.start()
    read_rows(path, text="text", label="label")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * path.stat().st_size


def test_a_label_may_be_given_by_its_number(tmp_path):
    """As whole number or as its text, where no label of the model is called by a number."""
    csv = write(tmp_path, "text,label\na,0\nb,2\nc,neutral\n")
    jsonl = write(tmp_path, '{"text": "a", "label": 0}\n{"text": "b", "label": "2"}\n', "rows.jsonl")
    labels = ["negative", "neutral", "positive"]
    one, other = (read_rows(path, text="text", label="label", known_labels=labels) for path in (csv, jsonl))
    assert one.labels == ("negative", "positive", "neutral")
    assert other.labels == ("negative", "positive")
    assert one.by_number == {"0": "negative", "2": "positive"}


@pytest.mark.parametrize("label", ["3", "-1", "01", "1.0", "٣", "+1", "1 "])
def test_a_number_that_is_no_labels_is_refused_with_the_way_on(tmp_path, label):
    """Only 0 and up to the last one, written as people do."""
    error = refusal(write(tmp_path, f"text,label\na,0\nb,{label}\n"), known_labels=["neg", "neutral", "pos"])
    assert error.reason == f"row 2: the model does not know the label {label!r}"
    assert "by its number from 0 to 2" in error.hint
    assert "id2label" in error.hint


def test_labels_that_are_called_by_numbers_have_no_other_numbers(tmp_path):
    """Where stars are counted from 1, a 0 is nobody's name and no index."""
    error = refusal(write(tmp_path, "text,label\na,1\nb,0\n"), known_labels=["1", "2", "3"])
    assert "does not know the label '0'" in error.reason
    assert "number" not in error.hint


def test_texts_that_stand_twice_are_told_and_not_refused(tmp_path):
    """Repeated rows, rows that contradict each other, and labels by number: a sentence each."""
    content = "text,label\nx,0\ny,0\nx,0\n\nx,1\nz,pos\n"
    rows = read_rows(write(tmp_path, content), text="text", label="label", known_labels=["neg", "pos"])
    assert by_length(rows).doubts == (
        "1 row repeats the text and the label of an earlier one: rows 1 and 3",
        "1 row repeats the text of an earlier one, with another label: rows 1 and 5",
        "labels are given by number: 0 is neg, 1 is pos",
    )


def test_rows_that_are_all_different_leave_no_doubt(tmp_path):
    """Nothing is said of them."""
    assert read_rows(write(tmp_path, CSV), text="text", label="label").doubts == ()


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
