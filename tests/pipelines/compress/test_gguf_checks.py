"""Is a tokenizer that llama.cpp would read otherwise refused before anything is converted?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.compress.gguf.gguf import check_tokenizer
from pipelines.compress.gguf.pre_tokenizer import pre_tokenizer_name
from pipelines.compress.gguf.texts import FIXED, texts
from pipelines.errors import UnsafeArtifact
from tests.pipelines.model_folders import SPLIT

BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
ONLY_BYTES = {**BYTES, "use_regex": False}


def split_by(regex: str, **changes: object) -> dict[str, object]:
    """A step that splits by a regular expression."""
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False, **changes}


def steps(*them: object) -> dict[str, object]:
    """One after the other."""
    return {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [*them]}}


@pytest.mark.parametrize(
    ("expected", "tokenizer"),
    [
        ("gpt-2", {"pre_tokenizer": BYTES}),
        ("gpt-2", steps(BYTES)),
        ("smollm", steps({"type": "Digits", "individual_digits": True}, BYTES)),
        ("qwen2", steps(split_by(SPLIT), ONLY_BYTES)),
        ("llama-bpe", steps(split_by(SPLIT.replace(r"\p{N}|", r"\p{N}{1,3}|")), ONLY_BYTES)),
        ("", steps(split_by(SPLIT), BYTES)),
        ("", steps(split_by(SPLIT, invert=True), ONLY_BYTES)),
        ("", steps(split_by(SPLIT, behavior="Removed"), ONLY_BYTES)),
        ("", steps(split_by(r"\w+"), ONLY_BYTES)),
        ("", steps(split_by(SPLIT, pattern={"String": " "}), ONLY_BYTES)),
        ("", steps({"type": "Digits", "individual_digits": False}, BYTES)),
        ("", {"pre_tokenizer": {**BYTES, "add_prefix_space": True}}),
        ("", {"pre_tokenizer": {"type": "Metaspace"}}),
        ("", {"pre_tokenizer": None}),
        ("", {"pre_tokenizer": 5}),
        ("", {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [5]}}),
        ("", {}),
    ],
)
def test_a_way_to_split_has_llama_cpps_name_or_none(expected, tokenizer):
    """What is not exactly one of the known is not guessed."""
    assert pre_tokenizer_name(tokenizer) == expected


def folder_of(folder: Path, tokens: int, special: dict[int, str], **config: object) -> Path:
    """A folder as far as it is looked at before anything is converted."""
    added = [{"id": number, "content": text, "special": True} for number, text in special.items()]
    vocabulary = {f"t{number}": number for number in range(tokens)}
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocabulary}, "added_tokens": added}))
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("rows", [300, 301, 1324])
def test_a_tokenizer_may_have_fewer_tokens_than_the_model_has_rows(rows, tmp_path):
    """Embeddings are made longer to be even."""
    folder = folder_of(tmp_path, 299, {299: "<end>"}, vocab_size=rows, eos_token_id=299)
    assert check_tokenizer(folder) == ("<end>",)


@pytest.mark.parametrize("rows", [299, 2000])
def test_another_size_is_another_models_tokenizer(rows, tmp_path):
    """Too many tokens, or far too few."""
    folder = folder_of(tmp_path, 299, {299: "<end>"}, vocab_size=rows)
    with pytest.raises(UnsafeArtifact, match=f"has 300 tokens and the model {rows}") as caught:
        check_tokenizer(folder)
    assert caught.value.code == "E_TOKENIZER"


@pytest.mark.parametrize("ends", [2, [299, 2]])
def test_a_text_does_not_end_with_an_ordinary_token(ends, tmp_path):
    """The model's own end is a word of a tokenizer of the same size: it is another's."""
    folder = folder_of(tmp_path, 299, {299: "<end>"}, vocab_size=300, eos_token_id=ends)
    with pytest.raises(UnsafeArtifact, match="ends a text with token 2, which is an ordinary one"):
        check_tokenizer(folder)


@pytest.mark.parametrize(
    "tokenizer",
    [
        {"model": None},
        {"model": {"vocab": 5}},
        {"model": {"vocab": {"a": "b"}}},
        {"model": {"vocab": {"a": 0}}, "added_tokens": [{"content": "x"}]},
        {"model": {"vocab": {"a": 0}}, "added_tokens": [{"id": [1], "content": "x"}]},
    ],
)
def test_a_tokenizer_that_is_none_is_refused(tokenizer, tmp_path):
    """It may say anything: whoever wrote it, no traceback comes of it."""
    folder_of(tmp_path, 1, {}, vocab_size=1)
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(UnsafeArtifact, match="not what save_pretrained writes") as caught:
        check_tokenizer(tmp_path)
    assert (caught.value.code, caught.value.field) == ("E_TOKENIZER", "tokenizer.json")


def test_without_a_tokenizer_there_is_a_sentence(tmp_path):
    """Not a traceback."""
    with pytest.raises(UnsafeArtifact, match=r"tokenizer\.json is missing, or no JSON object"):
        check_tokenizer(tmp_path)


def test_some_hundred_texts_are_compared_and_markers_among_them():
    """All of them text, none twice among the fixed ones, and each marker alone and in the middle of a text."""
    found = texts(["<|user|>", "<|end|>"])
    assert 300 < len(found) < 600
    assert len(set(FIXED)) == len(FIXED)
    assert {"<|user|>", "a<|end|>b", "<|user|", "<|user|>x\n<|end|>x\n"} <= set(found)
    assert "".join(found).encode()


def test_no_fixed_text_is_changed_by_composing_characters():
    """llama.cpp composes none, and a tokenizer that does would be refused for texts that nobody writes."""
    import unicodedata

    assert [text for text in FIXED if unicodedata.normalize("NFC", text) != text] == []
