"""What does a release begin with, and what does its record say of how the files became what is served?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.adapters.memory.records import MemoryServices
from pipelines.adapters.memory.registry import MemoryRegistry
from pipelines.errors import BadInput, UnsafeArtifact
from pipelines.spec.spec_file import parse_spec
from pipelines.stages.intake import Intake, refuse_strange_rows, take_in
from tests.pipelines.model_folders import LABELS, edit_json, vocabulary

SPEC = """\
model: models:/m/1
service: s
bootstrap: true
evaluate: {data: rows.csv, gates: [{metric: accuracy, min: 0.5}]}
"""


@pytest.fixture
def ask(tiny_copy: Path, tmp_path: Path) -> object:
    """Takes in what the copy of the tiny model holds by then."""
    (tmp_path / "rows.csv").write_text(f"text,label\na good day,{LABELS[0]}\na bad day,{LABELS[1]}\n")

    def taken() -> Intake:
        registry = MemoryRegistry()
        registry.add("m", tiny_copy)
        return take_in(parse_spec(SPEC), registry, MemoryServices(), data_dir=tmp_path, work=tmp_path / "work")

    return taken


def test_nothing_is_converted_without_need(ask):
    """The record says so."""
    assert ask().facts()["converted"] == []


def test_a_vocabulary_is_converted_and_recorded(tiny_copy, ask):
    """What serves has a fast tokenizer; the digest is that of what serves."""
    (tiny_copy / "tokenizer.json").unlink()
    (tiny_copy / "vocab.txt").write_text("".join(f"{token}\n" for token in vocabulary()))
    intake = ask()
    (said,) = intake.facts()["converted"]
    assert said.startswith("tokenizer.json from vocab.txt (BertTokenizer, transformers ")
    assert sorted(file.name for file in intake.folder.iterdir()) == [
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip
    assert not (intake.folder.parent / "tokenizer").exists()
    assert ask().candidate.artifact_digest == intake.candidate.artifact_digest


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_a_null_that_says_no_code_is_taken_at_its_word(tiny_copy, ask, name):
    """Left in, it would be taken for a mapping: it is left out of what serves, and that is recorded."""
    edit_json(tiny_copy / name, auto_map=None)
    intake = ask()
    assert intake.facts()["converted"] == [f"{name} without auto_map: null"]
    assert "auto_map" not in json.loads((intake.folder / name).read_text())
    assert intake.compared_rows == 2
    assert ask().candidate.artifact_digest == intake.candidate.artifact_digest


@pytest.mark.integration
@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_a_vocabulary_is_converted_beside_such_a_null(tiny_copy, ask, name):
    """It is asked of transformers without it."""
    (tiny_copy / "tokenizer.json").unlink()
    (tiny_copy / "vocab.txt").write_text("".join(f"{token}\n" for token in vocabulary()))
    edit_json(tiny_copy / name, auto_map=None)
    assert ask().compared_rows == 2


@pytest.mark.parametrize("key", ["added_tokens_decoder", "model_input_names", "fast_tokenizer_files"])
def test_other_nulls_are_named(tiny_copy, ask, key):
    """At intake, whichever it is that transformers fails on."""
    edit_json(tiny_copy / "tokenizer_config.json", **{key: None})
    with pytest.raises(BadInput) as caught:
        ask()
    assert (caught.value.code, caught.value.exit_code) == ("E_TOKENIZER", 2)
    assert caught.value.hint == f"remove the keys of tokenizer_config.json that are null: {key}"


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("problem_type", {"problem_type": "multi_label_classification"}),
        ("problem_type", {"id2label": {"0": "score"}}),
        ("architectures", {"architectures": ["BertForTokenClassification"]}),
        ("num_labels", {"id2label": None, "num_labels": 10**9}),
    ],
)
def test_the_rows_are_not_blamed(tiny_copy, ask, tmp_path, field, change):
    """What is wrong with the model is said before anything is read of them."""
    (tmp_path / "rows.csv").unlink()
    edit_json(tiny_copy / "config.json", **change)
    with pytest.raises(UnsafeArtifact) as caught:
        ask()
    assert (caught.value.code, caught.value.field, caught.value.exit_code) == ("E_CONFIG_MISMATCH", field, 2)


def test_the_rows_tokens_are_compared_before_anything_is_opened(tiny_copy, ask):
    """A tokenizer that reads otherwise than transformers is bad input, and the record says how many rows agreed."""
    assert ask().facts()["compared_rows"] == 2
    edit_json(tiny_copy / "tokenizer_config.json", added_tokens_decoder={"0": {"content": "a", "special": True}})
    edit_json(tiny_copy / "tokenizer.json", post_processor=None)
    with pytest.raises(BadInput) as caught:
        ask()
    assert (caught.value.code, caught.value.exit_code) == ("E_TOKENIZER", 2)


@pytest.mark.parametrize(
    "data",
    ["/etc/hostname", "../other.csv", "below/../../other.csv", "link.csv", "circle.csv", "below/up/a.csv"],
)
def test_a_spec_reads_nothing_that_lies_elsewhere(tmp_path, data):
    """Nor by a link; what is there is not looked at."""
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "up").symlink_to(tmp_path.parent)
    (tmp_path / "link.csv").symlink_to("/etc/hostname")
    (tmp_path / "circle.csv").symlink_to("circle.csv")
    with pytest.raises(BadInput) as caught:
        refuse_strange_rows(data, tmp_path)
    assert (caught.value.code, caught.value.field, caught.value.exit_code) == ("E_PATH", "evaluate.data", 2)


@pytest.mark.parametrize("data", ["rows.csv", "below/rows.csv", "below/../rows.csv", "{}/rows.csv", "link.csv"])
def test_a_spec_reads_what_lies_beside_it(tmp_path, data):
    """Or below it, however it is called; whether it is there is another question."""
    (tmp_path / "link.csv").symlink_to("below/rows.csv")
    refuse_strange_rows(data.format(tmp_path), tmp_path)


def test_who_runs_it_may_trust_a_folder(tmp_path):
    """Rows from there are read, too, and from nowhere else."""
    (tmp_path / "specs").mkdir()
    refuse_strange_rows("../data/rows.csv", tmp_path / "specs", tmp_path / "data")
    with pytest.raises(BadInput):
        refuse_strange_rows("../data/../rows.csv", tmp_path / "specs", tmp_path / "data")
