"""Is a vocabulary without a fast tokenizer converted, recorded, and used like transformers' own?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from pipelines.errors import UnsafeArtifact
from pipelines.supply.conversion import convert_tokenizer
from pipelines.supply.layout import gather, read_layout
from pipelines.supply.oracle import child
from pipelines.supply.scan import scan
from tests.pipelines.model_folders import edit_json, vocabulary

TEXT = "A good film!"


def slow(folder: Path) -> Path:
    """The folder with a vocab.txt instead of its tokenizer.json."""
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in vocabulary()))
    return folder


def sentencepiece(folder: Path, name: str, kind: str) -> Path:
    """The folder with a unigram model of SentencePiece, as its trainer writes it."""
    from transformers.convert_slow_tokenizer import import_protobuf

    model = import_protobuf().ModelProto()  # a process has one description of the format: that of who reads it
    special = [("<unk>", 2), ("<s>", 3), ("</s>", 3)]
    words = [*(f"▁{word}" for word in ["a", "good", "film", "bad", "the"]), "▁", *"abcdefghijklmnopqrstuvwxyzAF!"]
    for number, (piece, type_) in enumerate([*special, *((word, 1) for word in words)]):
        model.pieces.add(piece=piece, score=-float(number), type=type_)
    model.trainer_spec.model_type, model.trainer_spec.unk_id = 1, 0
    model.normalizer_spec.name, model.normalizer_spec.add_dummy_prefix = "identity", True
    (folder / "tokenizer.json").unlink()
    (folder / "special_tokens_map.json").unlink()
    (folder / name).write_bytes(model.SerializeToString())
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": kind}))
    return folder


def tokens(folder: Path) -> list[str]:
    """What a tokenizer makes of a text."""
    return Tokenizer.from_file(str(folder / "tokenizer.json")).encode(TEXT).tokens


def test_a_word_piece_vocabulary_is_converted(tiny_model, tiny_copy, tmp_path):
    """To the tokens that the fast tokenizer gave; what came is left as it is."""
    before = {file.name for file in slow(tiny_copy).iterdir()}
    scan(tiny_copy)
    made = convert_tokenizer(tiny_copy, tmp_path / "made")
    assert made is not None
    assert made.said.startswith("tokenizer.json from vocab.txt (BertTokenizer, transformers ")
    assert {file.name for file in tiny_copy.iterdir()} == before
    flat = gather(read_layout(tiny_copy, made.folder), tmp_path / "flat")
    assert tokens(flat) == tokens(tiny_model)
    assert str(tmp_path) not in "".join(file.read_text() for file in flat.glob("tokenizer*"))


def test_its_settings_are_obeyed(tiny_copy, tmp_path):
    """A cased vocabulary stays one."""
    edit_json(slow(tiny_copy) / "tokenizer_config.json", do_lower_case=False)
    made = convert_tokenizer(tiny_copy, tmp_path / "made")
    assert tokens(made.folder) == ["[CLS]", "[UNK]", "good", "film", "!", "[SEP]"]


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("sentencepiece.bpe.model", "XLMRobertaTokenizer", ["<s>", "▁", "A", "▁good", "▁film", "!", "</s>"]),
        ("spiece.model", "T5Tokenizer", ["▁", "A", "▁good", "▁film", "!", "</s>"]),
    ],
)
def test_a_model_of_sentencepiece_is_converted(tiny_copy, tmp_path, name, kind, expected):
    """With the package of that name or without it."""
    made = convert_tokenizer(sentencepiece(tiny_copy, name, kind), tmp_path / "made")
    assert tokens(made.folder) == expected
    assert made.said.startswith(f"tokenizer.json from {name} ({kind}, transformers ")


def test_a_fast_tokenizer_is_taken_as_it_is(tiny_copy, tmp_path):
    """Nothing is converted where nothing is missing, or nothing is there."""
    assert convert_tokenizer(tiny_copy, tmp_path / "made") is None
    (tiny_copy / "tokenizer.json").unlink()
    assert convert_tokenizer(tiny_copy, tmp_path / "made") is None


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("vocab.txt", b"[UNK]\n[CLS]\n[SEP]\n[PAD]\n[MASK]\n", "BertTokenizer"),
        ("spiece.model", b"\x00\x01 no protobuf", "T5Tokenizer"),
        ("vocab.txt", b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n", "BertJapaneseTokenizer"),
    ],
)
def test_what_cannot_be_converted_is_refused_by_name(tiny_copy, tmp_path, name, content, kind):
    """With transformers' reason."""
    edit_json(tiny_copy / "tokenizer_config.json", tokenizer_class=kind)
    (tiny_copy / "tokenizer.json").unlink()
    (tiny_copy / name).write_bytes(content)
    with pytest.raises(UnsafeArtifact, match=f"{name} cannot be converted") as caught:
        convert_tokenizer(tiny_copy, tmp_path / "made")
    assert (caught.value.code, caught.value.field) == ("E_CONFIG_MISMATCH", name)
    assert "register the folder again" in str(caught.value.hint)


def test_without_transformers_it_is_said(tiny_copy, tmp_path, monkeypatch):
    """Nothing else converts."""
    monkeypatch.setattr(child, "can_ask", lambda: False)
    with pytest.raises(UnsafeArtifact, match="is not installed"):
        convert_tokenizer(slow(tiny_copy), tmp_path / "made")


@pytest.mark.integration
def test_a_child_converts(tiny_copy, tmp_path):
    """The real one, in its bounds."""
    made = convert_tokenizer(slow(tiny_copy), tmp_path / "made")
    assert tokens(made.folder)[1:-1] == ["a", "good", "film", "!"]
