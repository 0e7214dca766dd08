"""Do both engines answer as transformers does, however many texts are asked at once?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.errors import BadInput, NoTokens
from pipelines.serving.engines import load_engine
from pipelines.serving.engines.engine import Logits
from pipelines.supply.tensors import tensors_of
from tests.pipelines.model_folders import LABELS, WORDS, edit_json

END = "<|endoftext|>"
SHORT = ["good", "a bad film", "we love this movie and hate that", "GREAT", "never again"]
LONG = "the worst film of all time " * 40
FACTS = {"engine": "torch", "labels": LABELS, "max_length": 64, "model": "tiny", "variant": "source"}


def make_gpt2(folder: Path) -> Path:
    """A GPT2ForSequenceClassification of width 32 with a byte-level tokenizer that adds no token; pad = eos."""
    import torch
    from tokenizers import pre_tokenizers
    from transformers import GPT2Config, GPT2ForSequenceClassification, GPT2Tokenizer

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: index for index, token in enumerate([END, *letters])}
    GPT2Tokenizer(vocab=vocab, merges=[], pad_token=END, model_max_length=64).save_pretrained(folder)
    config = GPT2Config(
        vocab_size=len(vocab), n_positions=64, n_embd=32, n_layer=2, n_head=2, initializer_range=0.6,
        pad_token_id=0, eos_token_id=0, bos_token_id=0, id2label=dict(enumerate(LABELS)),
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(1)
        GPT2ForSequenceClassification(config).save_pretrained(folder)
    return folder


def of_transformers(folder: Path, texts: Sequence[str]) -> Logits:
    """What transformers' own tokenizer and model answer, text by text."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.inference_mode():
        rows = [model(**tokenizer(t, truncation=True, max_length=64, return_tensors="pt")).logits for t in texts]
    return np.asarray(torch.cat(rows).numpy(), dtype=np.float32)


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Saved as transformers saves it."""
    return make_gpt2(tmp_path_factory.mktemp("models") / "gpt2")


@pytest.mark.parametrize(
    ("config", "extra"),
    [({}, ()), ({"type_vocab_size": 1}, ()), ({"type_vocab_size": 2}, ("token_type_ids",))],
)
def test_segment_numbers_are_for_models_with_segments(config: dict[str, Any], extra: tuple[str, ...]):
    """RoBERTa has one kind, GPT-2 says none."""
    assert tensors_of(config) == ("input_ids", "attention_mask", *extra)


def test_an_unknown_engine_lists_the_known(tmp_path):
    """A bundle of a later version."""
    with pytest.raises(BadInput) as caught:
        load_engine(tmp_path, {**FACTS, "engine": "jax"})
    assert caught.value.expected == "onnxruntime, torch"


@pytest.mark.integration
@pytest.mark.parametrize("whole", [False, True])
def test_gpt2_is_answered_as_transformers_answers_it(gpt2, whole):
    """Alone and beside others, short and cut: its forward takes segment numbers, and must not get zeros."""
    texts = [*SHORT, LONG, *(f"{word} film" for word in WORDS.split()[:40])]
    expected, engine = of_transformers(gpt2, texts), load_engine(gpt2, FACTS)
    found = engine.predict(texts, whole=whole)
    alone = np.concatenate([engine.predict([text]) for text in texts])
    assert len(set(expected.argmax(axis=1))) > 1
    for answers in (found, alone):
        assert answers.argmax(axis=1).tolist() == expected.argmax(axis=1).tolist()
        assert np.abs(answers - expected).max() < 1e-4


@pytest.mark.integration
def test_a_text_without_tokens_is_named(gpt2):
    """GPT-2 has no token of its own to put there."""
    with pytest.raises(NoTokens) as caught:
        load_engine(gpt2, FACTS).predict(["good", ""])
    assert caught.value.row == 1


@pytest.mark.integration
def test_a_text_that_is_cut_on_the_left_is_answered_by_its_end(tiny_copy):
    """As transformers does; texts that differ only at their end would be one otherwise."""
    edit_json(tiny_copy / "tokenizer_config.json", truncation_side="left")
    texts = [LONG + end for end in SHORT]
    found = load_engine(tiny_copy, FACTS).predict(texts)
    assert np.abs(found - of_transformers(tiny_copy, texts)).max() < 1e-4
    assert len({tuple(row) for row in found.round(6).tolist()}) == len(texts)


@pytest.mark.integration
@pytest.mark.parametrize("said", [{"return_dict": False}, {"output_attentions": True, "output_hidden_states": True}])
def test_what_a_configuration_says_of_the_form_of_answers_changes_none(tiny_model, tiny_copy, said):
    """A tuple, or more than logits."""
    expected = load_engine(tiny_model, FACTS).predict(SHORT)
    edit_json(tiny_copy / "config.json", **said)
    assert np.array_equal(load_engine(tiny_copy, FACTS).predict(SHORT), expected)


@pytest.fixture(scope="module")
def fp32_onnx(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as ONNX, not quantized."""
    from pipelines.compress.onnx_export import export, load_classifier
    from tests.pipelines.model_folders import copy_folder

    folder = copy_folder(tiny_model, tmp_path_factory.mktemp("onnx") / "tiny")
    config = json.loads((folder / "config.json").read_text())
    export(load_classifier(folder), tensors_of(config), folder / "model.onnx")
    return folder


@pytest.mark.integration
@pytest.mark.parametrize("engine", ["torch", "onnxruntime"])
def test_many_texts_are_answered_as_one_batch_would_be(fp32_onnx, engine):
    """256 rows of all lengths, in pieces: the same answers in the order that was asked."""
    texts = [" ".join(WORDS.split()[i % 7 : i % 7 + 1 + i * 37 % 60]) for i in range(256)]
    loaded = load_engine(fp32_onnx, {**FACTS, "engine": engine})
    assert np.abs(loaded.predict(texts) - loaded.predict(texts, whole=True)).max() < 1e-5
