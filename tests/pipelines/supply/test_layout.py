"""Are both known layouts read, and what do they promise?"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pipelines.errors import UnsafeArtifact
from pipelines.supply.layout import gather, read_layout
from tests.pipelines.model_folders import copy_folder, edit_json


def _as_mlflow(plain: Path, into: Path) -> Path:
    """The same files where mlflow.transformers puts them."""
    (into / "components").mkdir(parents=True)
    copy_folder(plain, into / "model")
    (into / "components" / "tokenizer").mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"):
        if (plain / name).is_file():
            shutil.move(into / "model" / name, into / "components" / "tokenizer" / name)
    return into


def test_a_hugging_face_folder_is_read(tiny_model):
    """Files, lengths, tensors."""
    layout = read_layout(tiny_model)
    assert layout.weights == tiny_model / "model.safetensors"
    assert layout.max_length == 64
    assert layout.tensors == ("input_ids", "attention_mask", "token_type_ids")


def test_both_layouts_gather_the_same_files(tiny_model, tmp_path):
    """The flat folder does not depend on where the files came from."""
    mlflow = _as_mlflow(tiny_model, tmp_path / "mlflow")
    (mlflow / "MLmodel").write_text("flavors: {}\n")
    for source, into in ((tiny_model, "a"), (mlflow, "b")):
        gather(read_layout(source), tmp_path / into)
    found = [{p.name: p.read_bytes() for p in (tmp_path / into).iterdir()} for into in "ab"]
    assert found[0] == found[1]
    assert sorted(found[0]) == [
        "config.json", "model.safetensors", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip


def test_both_layouts_gather_what_a_language_model_has_besides(tiny_generator, tmp_path):
    """How a conversation becomes a prompt, which mlflow puts beside the tokenizer, and how an answer ends."""
    mlflow = _as_mlflow(tiny_generator, tmp_path / "mlflow")
    for source, into in ((tiny_generator, "a"), (mlflow, "b")):
        layout = read_layout(source)
        assert (layout.generates, layout.chats, layout.max_length) == (True, True, 512)
        gather(layout, tmp_path / into)
    found = [{p.name: p.read_bytes() for p in (tmp_path / into).iterdir()} for into in "ab"]
    assert found[0] == found[1]
    assert sorted(found[0]) == [
        "chat_template.jinja", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
        "tokenizer_config.json",
    ]  # fmt: skip


def test_a_classifier_has_no_use_for_them(tiny_copy, tmp_path):
    """The digest of its files stays that of before there were language models."""
    for name in ("chat_template.jinja", "generation_config.json"):
        (tiny_copy / name).write_text("{}")
    names = {p.name for p in gather(read_layout(tiny_copy), tmp_path / "flat").iterdir()}
    assert not names & {"chat_template.jinja", "generation_config.json"}


@pytest.mark.parametrize(
    ("positions", "tokenizer_max", "expected"),
    [(131_072, int(1e30), 131_072), (131_072, 8192, 8192), (2048, None, 2048), (None, int(1e30), 2**24)],
)
def test_the_context_of_a_language_model_is_not_cut(tiny_generator, tmp_path, positions, tokenizer_max, expected):
    """As classifiers' inputs are."""
    folder = copy_folder(tiny_generator, tmp_path / "model")
    edit_json(folder / "config.json", max_position_embeddings=positions)
    edit_json(folder / "tokenizer_config.json", model_max_length=tokenizer_max)
    assert read_layout(folder).max_length == expected


@pytest.mark.parametrize(
    ("template", "chats"), [("file", True), ("settings", True), ("several", True), ("none", False), ("empty", False)]
)
def test_a_model_chats_by_a_template(tiny_generator, tmp_path, template, chats):
    """In a file of its own, or as formerly in the tokenizer's settings."""
    folder = copy_folder(tiny_generator, tmp_path / "model")
    text = (folder / "chat_template.jinja").read_text()
    if template != "file":
        (folder / "chat_template.jinja").unlink()
    said = {"settings": text, "several": [{"name": "default", "template": text}], "empty": ""}
    edit_json(folder / "tokenizer_config.json", chat_template=said.get(template))
    assert read_layout(folder).chats is chats


def test_only_known_files_are_gathered(tiny_copy, tmp_path):
    """The Trainer's leftovers and anything else stay behind."""
    (tiny_copy / "training_args.bin").write_bytes(b"\x80\x02.")
    (tiny_copy / "notes.txt").write_text("x")
    names = {p.name for p in gather(read_layout(tiny_copy), tmp_path / "flat").iterdir()}
    assert not names & {"training_args.bin", "notes.txt"}


def test_shards_are_gathered_with_their_index(tiny_copy, tmp_path):
    """A large model's weights are several files."""
    (tiny_copy / "model.safetensors").rename(tiny_copy / "model-00001-of-00001.safetensors")
    index = {"weight_map": {"classifier.bias": "model-00001-of-00001.safetensors"}}
    (tiny_copy / "model.safetensors.index.json").write_text(json.dumps(index))
    names = {p.name for p in gather(read_layout(tiny_copy), tmp_path / "flat").iterdir()}
    assert {"model-00001-of-00001.safetensors", "model.safetensors.index.json"} <= names


@pytest.mark.parametrize(
    ("positions", "tokenizer_max", "model_type", "expected"),
    [
        (64, 64, "bert", 64),
        (64, int(1e30), "bert", 64),
        (64, 1e30, "bert", 64),
        (64, 32, "bert", 32),
        (64, None, "bert", 64),
        (4096, int(1e30), "bert", 512),
        (514, int(1e30), "roberta", 512),
        (66, 512, "roberta", 64),
        (66, 512, "mpnet", 64),
    ],
)
def test_the_length_is_what_fits(tiny_copy, positions, tokenizer_max, model_type, expected):
    """The smallest of the tokenizer's word, the positions that are used, and the cap."""
    edit_json(tiny_copy / "config.json", max_position_embeddings=positions, model_type=model_type, pad_token_id=1)
    edit_json(tiny_copy / "tokenizer_config.json", model_max_length=tokenizer_max)
    assert read_layout(tiny_copy).max_length == expected


@pytest.mark.parametrize("key", ["n_positions", "max_seq_len"])
def test_positions_have_other_names_too(tiny_copy, key):
    """GPT-2 and MPT call them otherwise."""
    edit_json(tiny_copy / "config.json", max_position_embeddings=None, **{key: 48})
    assert read_layout(tiny_copy).max_length == 48


@pytest.mark.parametrize("id2label", [{"0": "a", "2": "b"}, {"1": "a", "2": "b"}, {"0": "a", "1": "a"}, {"x": "a"}])
def test_labels_with_holes_are_refused(tiny_copy, id2label):
    """The order of the logits must be clear."""
    edit_json(tiny_copy / "config.json", id2label=id2label)
    with pytest.raises(UnsafeArtifact) as caught:
        read_layout(tiny_copy)
    assert (caught.value.code, caught.value.field) == ("E_CONFIG_MISMATCH", "id2label")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_part_is_named(tiny_copy, name):
    """Weights, configuration and fast tokenizer are needed."""
    (tiny_copy / name).unlink()
    with pytest.raises(UnsafeArtifact) as caught:
        read_layout(tiny_copy)
    assert (caught.value.code, caught.value.field) == ("E_CONFIG_MISMATCH", name)


def test_another_kind_of_model_is_refused(tiny_copy):
    """Only classifiers are served for now."""
    edit_json(tiny_copy / "config.json", architectures=["BertForMaskedLM"])
    with pytest.raises(UnsafeArtifact, match="BertForMaskedLM"):
        read_layout(tiny_copy)


def test_segment_numbers_are_asked_for_where_they_are_used(tiny_copy):
    """RoBERTa has one kind of segment, DistilBERT none."""
    edit_json(tiny_copy / "config.json", type_vocab_size=1)
    assert read_layout(tiny_copy).tensors == ("input_ids", "attention_mask")
