"""What does a release begin with, and what does its record say of how the files became what is served?"""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.adapters.memory.records import MemoryServices
from pipelines.adapters.memory.registry import MemoryRegistry
from pipelines.errors import UnsafeArtifact
from pipelines.spec.spec_file import parse_spec
from pipelines.stages.intake import Intake, take_in
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
