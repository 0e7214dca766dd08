"""Do weights fit the architecture that transformers builds from their configuration?"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pipelines.supply.oracle import child
from pipelines.supply.scan import scan
from tests.pipelines.model_folders import copy_folder, edit_json, read_tensors, write_tensors
from tests.pipelines.supply.refusals import refusal

WEIGHTS = "model.safetensors"


def edit_tensors(folder: Path, *, without: str = "", extra: str = "", shape: tuple[int, ...] = (2,)) -> None:
    """The file without one tensor, or with one of ones more."""
    header, data = read_tensors(folder / WEIGHTS)
    header.pop("__metadata__", None)
    kept, whole = {}, b""
    for name, entry in header.items():
        if name != without:
            begin, end = entry["data_offsets"]
            kept[name] = {**entry, "data_offsets": [len(whole), len(whole) + end - begin]}
            whole += data[begin:end]
    if extra:
        ones = np.ones(shape, "<f4").tobytes()
        kept[extra] = {"dtype": "F32", "shape": list(shape), "data_offsets": [len(whole), len(whole) + len(ones)]}
        whole += ones
    write_tensors(folder / WEIGHTS, kept, whole)


@pytest.fixture
def distilbert(tiny_copy: Path) -> Path:
    """The most popular classifier there is, tiny: the middle of its name ends like the end of another's."""
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    labels = json.loads((tiny_copy / "config.json").read_text())["id2label"]
    config = DistilBertConfig(vocab_size=199, dim=32, n_layers=2, n_heads=2, hidden_dim=64, id2label=labels)
    DistilBertForSequenceClassification(config).save_pretrained(tiny_copy)
    return tiny_copy


def test_a_distilbert_is_accepted(distilbert):
    """`pre_classifier.bias` is no `classifier.bias`."""
    assert WEIGHTS in scan(distilbert).files


@pytest.mark.parametrize("tensor", ["classifier.bias", "bert.encoder.layer.1.output.dense.weight"])
def test_a_missing_tensor_is_named(tiny_copy, tensor):
    """Transformers would fill it with random numbers."""
    edit_tensors(tiny_copy, without=tensor)
    error = refusal(tiny_copy)
    assert (error.code, error.field) == ("E_CONFIG_MISMATCH", tensor)
    assert f"the tensor {tensor} is missing" in error.reason


@pytest.mark.parametrize("tensor", ["classifier.extra", "bert.encoder.layer.0.adapter.weight"])
def test_an_extra_tensor_is_named(tiny_copy, tensor):
    """Transformers would leave it out."""
    edit_tensors(tiny_copy, extra=tensor)
    error = refusal(tiny_copy)
    assert (error.code, error.field) == ("E_CONFIG_MISMATCH", tensor)


def test_a_misshapen_tensor_is_named(tiny_copy):
    """No setting explains it, so the tensor itself is the field."""
    edit_tensors(tiny_copy, without="bert.pooler.dense.bias", extra="bert.pooler.dense.bias", shape=(7,))
    error = refusal(tiny_copy)
    assert (error.code, error.field) == ("E_CONFIG_MISMATCH", "bert.pooler.dense.bias")
    assert error.reason == "bert.pooler.dense.bias has shape (7,), config.json makes it (32,)"


def test_a_buffer_that_is_computed_is_no_extra(tiny_copy):
    """Older versions saved `position_ids`; transformers leaves it out, and so do we."""
    edit_tensors(tiny_copy, extra="bert.embeddings.position_ids", shape=(1, 64))
    assert WEIGHTS in scan(tiny_copy).files


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("model_type", {"model_type": "of the future"}),
        ("model_type", {"model_type": "vit"}),
        ("model_type", {"model_type": None}),
        ("config.json", {"hidden_size": "wide"}),
        ("num_attention_heads", {"num_attention_heads": 0}),
        ("config.json", {"hidden_act": "no such function"}),
    ],
)
def test_what_transformers_cannot_build_is_refused(tiny_copy, field, change):
    """With its own reason."""
    edit_json(tiny_copy / "config.json", **change)
    error = refusal(tiny_copy)
    assert (error.code, error.field, error.exit_code) == ("E_CONFIG_MISMATCH", field, 2)


def test_labels_are_those_that_transformers_reads(tiny_copy):
    """`num_labels` beside `id2label` is the number that it takes, and the names are lost."""
    edit_json(tiny_copy / "config.json", num_labels=2)
    error = refusal(tiny_copy)
    assert (error.code, error.field) == ("E_CONFIG_MISMATCH", "num_labels")


@pytest.fixture
def generator(tiny_generator: Path, tmp_path: Path) -> Path:
    """A copy of the tiny Llama."""
    return copy_folder(tiny_generator, tmp_path / "generator")


@pytest.mark.parametrize("tensor", ["lm_head.weight", "model.layers.1.mlp.up_proj.weight"])
def test_a_missing_tensor_of_a_language_model_is_named(generator, tensor):
    """Its head too, where nothing says that it is the embedding."""
    edit_tensors(generator, without=tensor)
    error = refusal(generator)
    assert (error.code, error.field) == ("E_CONFIG_MISMATCH", tensor)
    assert f"the tensor {tensor} is missing" in error.reason


def test_a_head_that_is_the_embedding_is_not_missed(generator):
    """It is saved once."""
    edit_json(generator / "config.json", tie_word_embeddings=True)
    edit_tensors(generator, without="lm_head.weight")
    assert WEIGHTS in scan(generator).files


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("vocab_size", {"vocab_size": 500}),
        ("intermediate_size", {"intermediate_size": 256}),
        ("num_hidden_layers", {"num_hidden_layers": 3}),
    ],
)
def test_weights_of_another_language_model_are_refused(generator, field, change):
    """By the key that contradicts them."""
    edit_json(generator / "config.json", **change)
    error = refusal(generator)
    assert (error.code, error.field) == ("E_CONFIG_MISMATCH", field)


def test_a_model_type_that_does_not_generate_is_refused(generator):
    """Whatever its architecture is called."""
    edit_json(generator / "config.json", model_type="vit")
    error = refusal(generator)
    assert (error.code, error.field) == ("E_CONFIG_MISMATCH", "model_type")
    assert "no causal language model of the model_type 'vit'" in error.reason


class TestWithoutTransformers:
    """Known model types only, by name."""

    @pytest.fixture(autouse=True)
    def _no_transformers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(child, "can_ask", lambda: False)

    def test_known_types_are_accepted(self, tiny_copy):
        """As far as their names tell."""
        assert WEIGHTS in scan(tiny_copy).files

    def test_a_distilbert_is_accepted(self, distilbert):
        """Whole parts of names are compared."""
        assert WEIGHTS in scan(distilbert).files

    @pytest.mark.parametrize(
        ("field", "change"),
        [("vocab_size", {"vocab_size": 30522}), ("num_labels", {"id2label": {"0": "a", "1": "b"}}),
         ("num_hidden_layers", {"num_hidden_layers": 3}), ("model_type", {"model_type": "gpt2"})],
    )  # fmt: skip
    def test_what_does_not_fit_is_refused(self, tiny_copy, field, change):
        """By the key; a type that is not known is no guess."""
        edit_json(tiny_copy / "config.json", **change)
        assert refusal(tiny_copy).field == field
