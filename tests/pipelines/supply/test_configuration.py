"""Is a config.json of wrong types, absurd counts, or another task refused by its key, before anything is made of it?"""

from __future__ import annotations

import json
from contextlib import suppress

import pytest

from pipelines.errors import UnsafeArtifact
from pipelines.supply.checks.configuration import MOST_LABELS, check_configuration, labels_of
from pipelines.supply.layout import gather, read_layout
from tests.pipelines.model_folders import edit_json
from tests.pipelines.supply.refusals import refusal


def named(count: int) -> dict[str, str]:
    """That many labels."""
    return {str(index): f"label {index}" for index in range(count)}


WRONG = [
    ("num_labels", {"num_labels": 1_000_000_000}),
    ("num_labels", {"num_labels": MOST_LABELS + 1}),
    ("num_labels", {"num_labels": -5}),
    ("num_labels", {"num_labels": 0}),
    ("num_labels", {"num_labels": "3"}),
    ("num_labels", {"num_labels": [3]}),
    ("num_labels", {"num_labels": True}),
    ("num_labels", {"num_labels": 2.0}),
    ("id2label", {"id2label": named(MOST_LABELS + 1)}),
    ("id2label", {"id2label": [["0", "a"], ["1", "b"]]}),
    ("id2label", {"id2label": "ab"}),
    ("id2label", {"id2label": {"0": ["a"], "1": ["b"]}}),
    ("id2label", {"id2label": {"0": "a", "1": None}}),
    ("id2label", {"id2label": {"0": "a", "1": "b\x00"}}),
    ("id2label", {"id2label": {"0": "a", "1": "b\r\nx-header: 1"}}),
    ("id2label", {"id2label": {"0": "a", "1": "\u202eb"}}),
    ("id2label", {"id2label": {"0": "a", "1": " "}}),
    ("id2label", {"id2label": {"0": "a", "1": "b" * 1001}}),
    ("id2label", {"id2label": {"0": "1", "1": 1}}),
    ("architectures", {"architectures": 5}),
    ("architectures", {"architectures": "BertForSequenceClassification"}),
    ("architectures", {"architectures": [None]}),
    ("problem_type", {"problem_type": 5}),
    ("model_type", {"model_type": ["bert"]}),
    ("pad_token_id", {"pad_token_id": "0"}),
    ("pad_token_id", {"pad_token_id": [0]}),
    ("pad_token_id", {"pad_token_id": -1}),
    ("max_position_embeddings", {"max_position_embeddings": "512"}),
    ("type_vocab_size", {"type_vocab_size": "two"}),
    ("vocab_size", {"vocab_size": 2**63}),
    ("num_hidden_layers", {"num_hidden_layers": 10**9}),
    ("encoder_layers", {"encoder_layers": 10**200}),
    ("n_layer", {"n_layer": 10**9}),
    ("num_hidden_groups", {"num_hidden_groups": 10**9}),
    ("num_experts", {"num_experts": 10**9}),
    ("num_attention_heads", {"num_attention_heads": -2}),
    ("n_head", {"n_head": 0}),
    ("hidden_size", {"text_config": {"hidden_size": 0}}),
    ("num_hidden_layers", {"text_config": {"num_hidden_layers": 10**9}}),
]


@pytest.mark.parametrize(("field", "change"), WRONG)
def test_a_key_of_a_wrong_type_is_refused_by_name(tiny_copy, field, change):
    """By the scan and by whoever reads the layout alone; the sentence is short, whatever stands there."""
    config = {k: v for k, v in json.loads((tiny_copy / "config.json").read_text()).items() if k != "id2label"}
    (tiny_copy / "config.json").write_text(json.dumps({**config, **change}))
    error = refusal(tiny_copy)
    assert (error.code, error.field, error.exit_code) == ("E_CONFIG_MISMATCH", field, 2)
    assert error.expected
    assert error.hint
    assert len(error.reason) < 200
    with pytest.raises(UnsafeArtifact) as caught:
        read_layout(tiny_copy)
    assert caught.value.field == field


def test_what_counts_no_layers_may_be_large():
    """Gemma says a vocabulary of each layer."""
    check_configuration({"vocab_size_per_layer_input": 262_144, "num_hidden_layers": 30, "label2id": {"layers": 5000}})


@pytest.mark.parametrize(
    "labels", [named(2), named(MOST_LABELS), {"0": 0, "1": 1}, {"0": "sehr gut 👩‍🚀", "1": "می‌خواهم"}]
)
def test_labels_that_can_be_shown_are_accepted(labels):
    """Many of them, numbers for names, and the joiners that scripts and emoji need."""
    check_configuration({"id2label": labels})
    assert labels_of({"id2label": labels}) == tuple(str(label) for label in labels.values())


FLAVOURS = [
    ({"problem_type": "multi_label_classification"}, "multi-label classification"),
    ({"problem_type": "regression"}, "regression"),
    ({"problem_type": "ranking"}, "ranking"),
    ({"id2label": None, "num_labels": 1}, "regression"),
    ({"id2label": {"0": "score"}}, "regression"),
]


@pytest.mark.parametrize(("change", "said"), FLAVOURS)
def test_another_flavour_of_classifier_is_refused_by_its_name(tiny_copy, change, said):
    """Softmax over its logits would be wrong."""
    edit_json(tiny_copy / "config.json", **change)
    error = refusal(tiny_copy)
    assert (error.code, error.field) == ("E_CONFIG_MISMATCH", "problem_type")
    assert said in error.reason


TASKS = [
    ("BertForTokenClassification", "token classification"),
    ("DistilBertForQuestionAnswering", "question answering"),
    ("RobertaForMaskedLM", "masked language modelling"),
    ("T5ForConditionalGeneration", "generation of text from text"),
    ("BertModel", "embeddings"),
    ("BertForMultipleChoice", "multiple choice"),
]


@pytest.mark.parametrize(("architecture", "task"), TASKS)
def test_another_task_is_refused_by_its_name(tiny_copy, architecture, task):
    """In one sentence that names the architecture too."""
    edit_json(tiny_copy / "config.json", architectures=[architecture])
    error = refusal(tiny_copy)
    assert (error.code, error.field) == ("E_CONFIG_MISMATCH", "architectures")
    assert error.reason == f"the model is a {architecture}, which is for {task}"


@pytest.mark.parametrize("value", [5, None, {"a": 1}, ["x"], {}, "text"])
@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "model.safetensors.index.json"])
def test_foreign_json_never_ends_in_a_traceback(tiny_copy, tmp_path, name, value):
    """Whatever stands where an object is expected."""
    if name.startswith("model"):
        (tiny_copy / "model.safetensors").unlink()
    for text in (json.dumps(value), json.dumps({"weight_map": value, "model_max_length": value, "id2label": value})):
        (tiny_copy / name).write_text(text)
        with suppress(UnsafeArtifact):
            gather(read_layout(tiny_copy), tmp_path / "flat")


@pytest.mark.parametrize("length", ["512", [512], 0, -1, True])
def test_a_length_that_is_no_number_of_tokens_is_refused(tiny_copy, length):
    """Nothing is cut to less than one token."""
    edit_json(tiny_copy / "tokenizer_config.json", model_max_length=length)
    with pytest.raises(UnsafeArtifact) as caught:
        read_layout(tiny_copy)
    assert (caught.value.code, caught.value.field) == ("E_CONFIG_MISMATCH", "model_max_length")


@pytest.mark.parametrize("shard", [["model.safetensors"], 5, None])
def test_an_index_that_names_no_file_is_refused(tiny_copy, shard):
    """A shard is a file's name."""
    (tiny_copy / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"classifier.bias": shard}}))
    error = refusal(tiny_copy)
    assert (error.code, error.field) == ("E_CONFIG_MISMATCH", "weight_map")
