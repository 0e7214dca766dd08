"""Does a config.json say in the right types what Shipway reads of it, and is it of a model that Shipway releases?

Asked before anything is built from it: no names are made up before their count is known to be sane.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any

from pipelines.errors import UnsafeArtifact
from pipelines.supply.kinds import CLASSIFIER, generates

FEWEST_LABELS = 2
MOST_LABELS = 10_000
LONGEST_LABEL = 1_000
MOST_LAYERS = 1_000
_LARGEST = 2**31 - 1

_FLAVOURS = {
    "multi_label_classification": "gives an input several labels (multi-label classification)",
    "regression": "gives an input a number (regression)",
}
_TASKS = {
    "ForTokenClassification": "token classification",
    "ForQuestionAnswering": "question answering",
    "ForMultipleChoice": "multiple choice",
    "ForMaskedLM": "masked language modelling",
    "ForConditionalGeneration": "generation of text from text",
    "ForNextSentencePrediction": "next sentence prediction",
    "ForPreTraining": "pre-training",
    "ForImageClassification": "image classification",
    "ForAudioClassification": "audio classification",
    "Model": "embeddings",
}
"""How the names of transformers' architectures end, and what such a model does."""

_LABELS_SAVED = "set id2label and label2id in the configuration and save it again"
_SAVED = "save weights and configuration together with save_pretrained"


def _is_number(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _LARGEST


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_labels(value: Any) -> bool:
    """Names, or numbers for names; how many there are is asked before what they are."""
    return isinstance(value, dict) and (len(value) > MOST_LABELS or all(type(v) in {str, int} for v in value.values()))


def _is_length(value: Any) -> bool:
    return type(value) in {int, float} and value >= 1


_NUMBER, _TEXT = "a whole number, not negative", "a text"
_CONFIG: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "model_type": (lambda value: isinstance(value, str), _TEXT),
    "architectures": (_is_texts, "a list of texts"),
    "problem_type": (lambda value: isinstance(value, str), _TEXT),
    "id2label": (_is_labels, '{"0": "negative", "1": "positive"} or alike'),
    "num_labels": (lambda value: type(value) is int, f"a whole number from {FEWEST_LABELS} to {MOST_LABELS:,}"),
    **dict.fromkeys(
        ("vocab_size", "type_vocab_size", "max_position_embeddings", "n_positions", "max_seq_len", "pad_token_id"),
        (_is_number, _NUMBER),
    ),
}
"""The keys of config.json that Shipway reads; each may be absent or null."""

_COUNTS_PARTS = re.compile(r"layers|layer$|^num_\w*(groups|blocks|experts)$|^n_\w*experts$|^inner_group_num$|^depth$")
"""How architectures call the number of parts that are built one by one; `vocab_size_per_layer_input` is none."""

_IS_A_SIZE = re.compile(r"heads$|^n_head$|^hidden_size$|^d_model$|^n_embd$|^intermediate_size$|^vocab_size$")
"""What is at least one in every architecture that transformers has."""

_TOKENIZER = {"model_max_length": (_is_length, "a number of tokens, at least 1")}


def check_configuration(config: Mapping[str, Any]) -> None:
    """E_CONFIG_MISMATCH by the first key that is of a wrong type, no label's name, or of another task or flavour."""
    _check_types(config, _CONFIG)
    _check_layers(config)
    if generates(config):
        return
    _check_task(config)
    _check_labels(config)


def check_tokenizer_settings(settings: Mapping[str, Any]) -> None:
    """E_CONFIG_MISMATCH where tokenizer_config.json says something of a wrong type."""
    _check_types(settings, _TOKENIZER)


def label_count(config: Mapping[str, Any]) -> int:
    """How many labels does a configuration declare? transformers leaves out the default of two."""
    id2label, count = config.get("id2label"), config.get("num_labels")
    return len(id2label) if id2label else 2 if count is None else int(count)


def labels_of(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The labels of a checked configuration, in the order of the logits."""
    id2label = config.get("id2label")
    if not id2label:
        return tuple(f"LABEL_{index}" for index in range(label_count(config)))
    return tuple(str(id2label[str(index)]) for index in range(len(id2label)))


def refuse(field: str, reason: str, expected: str, hint: str) -> UnsafeArtifact:
    """The error that says which key of a configuration is at fault."""
    return UnsafeArtifact(reason, code="E_CONFIG_MISMATCH", field=field, expected=expected, hint=hint)


def _check_types(settings: Mapping[str, Any], known: Mapping[str, tuple[Callable[[Any], bool], str]]) -> None:
    for key, (is_right, expected) in known.items():
        value = settings.get(key)
        if value is not None and not is_right(value):
            raise refuse(key, f"{key} is {_shown(value)}", expected, _SAVED)


def _check_layers(config: Mapping[str, Any]) -> None:
    """Whatever an architecture calls them, and in a configuration within too: the more, the longer is the building."""
    for key, value in config.items():
        if key.endswith("_config") and isinstance(value, dict):
            _check_layers(value)
        elif _COUNTS_PARTS.search(key) and type(value) is int and value > MOST_LAYERS:
            raise refuse(key, f"{key} is {value:,}"[:100], f"at most {MOST_LAYERS:,} of them", _SAVED)
        elif _IS_A_SIZE.search(key) and type(value) is int and value < 1:
            raise refuse(key, f"{key} is {value:,}"[:100], "at least 1", _SAVED)


def _check_task(config: Mapping[str, Any]) -> None:
    """Where it does not generate: is it a text classifier that gives each input one label?"""
    kinds, flavour = config.get("architectures") or [], config.get("problem_type")
    if kinds and not any(kind.endswith(CLASSIFIER) for kind in kinds):
        task = next((task for ending, task in _TASKS.items() if kinds[0].endswith(ending)), "")
        is_for = f", which is for {task}" if task else ""
        raise refuse(
            "architectures",
            f"the model is a {kinds[0][:80]}{is_for}",
            "a …ForSequenceClassification, or a …ForCausalLM",
            "Shipway releases text classifiers and causal language models for now",
        )
    if flavour not in {None, "single_label_classification"}:
        does = _FLAVOURS.get(flavour, f"is of the kind {flavour[:80]!r}")
        raise _another_flavour(f"the model {does}: problem_type is {flavour[:80]!r}")


def _check_labels(config: Mapping[str, Any]) -> None:
    count, id2label = label_count(config), config.get("id2label") or {}
    if count > MOST_LABELS or count < 1:
        key = "id2label" if id2label else "num_labels"
        raise refuse(key, f"{key} says {count:,} labels", f"{FEWEST_LABELS} to {MOST_LABELS:,} labels", _LABELS_SAVED)
    wanted = {str(index) for index in range(len(id2label))}
    if id2label.keys() != wanted or len(set(map(str, id2label.values()))) != len(wanted):
        expected = _CONFIG["id2label"][1]
        raise refuse("id2label", "id2label does not number distinct labels from 0", expected, _LABELS_SAVED)
    for label in map(str, id2label.values()):
        if not _is_label(label):
            reason = f"the label {label[:60]!r} is empty, too long, or holds control characters"
            raise refuse("id2label", reason, f"printable labels of at most {LONGEST_LABEL:,} characters", _LABELS_SAVED)
    if count < FEWEST_LABELS:
        raise _another_flavour("the model has one output (num_labels is 1), which is regression or a reward")


def _is_label(label: str) -> bool:
    """Control, format and unassigned characters are refused, but for the joiners that scripts and emoji need."""
    is_shown = all(c in "\u200c\u200d" or unicodedata.category(c) not in _UNSHOWN for c in label)
    return is_shown and bool(label.strip()) and len(label) <= LONGEST_LABEL


_UNSHOWN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def _another_flavour(reason: str) -> UnsafeArtifact:
    return refuse(
        "problem_type",
        reason,
        "a classifier that gives each input one label of at least two",
        "Shipway releases single-label text classifiers for now",
    )


def _shown(value: Any) -> str:
    """Only what is short is shown."""
    return f"{value!r}"[:60] if isinstance(value, str | int | float) else f"a {type(value).__name__}"
