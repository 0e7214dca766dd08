"""Do the weights fit the architecture that the configuration names?

Transformers is asked (`oracle/architecture.py`); where it is not installed, a few model types are known by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from pipelines.errors import UnsafeArtifact
from pipelines.supply.checks.configuration import label_count, refuse
from pipelines.supply.checks.safetensors import FLOATS, Tensor
from pipelines.supply.kinds import generates
from pipelines.supply.oracle import child, memory

_WIDTHS = ("hidden_size", "dim")
_LABELS = ("num_labels",)
RULES: tuple[tuple[str, tuple[tuple[str, ...], ...]], ...] = (
    ("word_embeddings.weight", (("vocab_size",), _WIDTHS)),
    ("position_embeddings.weight", (("max_position_embeddings",), _WIDTHS)),
    ("token_type_embeddings.weight", (("type_vocab_size",), _WIDTHS)),
    ("intermediate.dense.weight", (("intermediate_size",), ("hidden_size",))),
    ("classifier.weight", (_LABELS,)),
    ("classifier.bias", (_LABELS,)),
    ("classifier.out_proj.weight", (_LABELS,)),
)
"""The last parts of a name, and which settings its first sizes are: true of `KNOWN_BY_NAME` only."""

KNOWN_BY_NAME = frozenset({"bert", "camembert", "distilbert", "roberta", "xlm-roberta"})
_LAYERS = ("num_hidden_layers", "n_layers")


def check_shapes(name: str, tensors: Iterable[Tensor], config: Mapping[str, Any], kept: Path | None = None) -> None:
    """E_CONFIG_MISMATCH names the first tensor that does not fit a checked `config`; `name` is its file.

    What transformers answers is kept in the private folder `kept`, where one is named.
    """
    if not config.get("model_type"):
        raise _unknown(name, f"{name} names no model_type", "a model_type that transformers knows")
    if child.can_ask():
        _ask_transformers(name, tuple(tensors), config, kept)
    else:
        _compare_by_name(name, tuple(tensors), config)


def _ask_transformers(name: str, tensors: tuple[Tensor, ...], config: Mapping[str, Any], kept: Path | None) -> None:
    held = {tensor.name: (_kind(tensor.dtype), tensor.shape) for tensor in tensors}
    try:
        asked = {key: value for key, value in config.items() if value is not None or key != "auto_map"}
        said = memory.asked("architecture", {"config": asked, "tensors": held}, kept)
    except child.NoAnswer as error:
        raise _unbuildable(name, str(error), config) from error
    if "unknown_type" in said:
        what, kind = _what(config)
        reason = f"transformers knows no {what} of the model_type {config['model_type'][:80]!r}"
        raise _unknown(name, reason, f"a model_type with a …{kind}")
    if "error" in said:
        raise _unbuildable(name, said["error"], config)
    for field, reason in _faults(name, said):
        raise _mismatch(name, said["key"] or field, reason)
    if not generates(config) and said["labels"] != label_count(config):
        reason = f"{name} numbers {label_count(config)} labels, and transformers reads {said['labels']} from it"
        raise _mismatch(name, "num_labels", reason)


def _what(config: Mapping[str, Any]) -> tuple[str, str]:
    """In words, and how the names of transformers' architectures end."""
    is_generator = generates(config)
    return (
        ("causal language model", "ForCausalLM") if is_generator else ("text classifier", "ForSequenceClassification")
    )


def _kind(dtype: str) -> str:
    return "float" if dtype in FLOATS else "bool" if dtype == "BOOL" else "int"


def _faults(name: str, said: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """(tensor, sentence) of what transformers would not load as it stands."""
    key = f" (its {said['key']})" if said["key"] else ""
    for tensor, has, wants in said["mismatched"]:
        yield tensor, f"{tensor} has shape {tuple(has)}, {name}{key} makes it {tuple(wants)}"
    for tensor in said["unconverted"]:
        yield tensor, f"the weights of {tensor} are incomplete or of shapes that {name} does not make"
    for tensor in said["missing"]:
        yield tensor, f"the tensor {tensor} is missing, {name}{key} asks for it"
    for tensor in said["unexpected"]:
        yield tensor, f"the tensor {tensor[:120]} has no place in the model of {name}{key}"


def _compare_by_name(name: str, tensors: tuple[Tensor, ...], config: Mapping[str, Any]) -> None:
    """What can be said without transformers, of the model types whose names are known."""
    if config["model_type"] not in KNOWN_BY_NAME:
        reason = f"without transformers nothing is known of the model_type {config['model_type'][:80]!r}"
        raise _unknown(name, reason, f"one of {', '.join(sorted(KNOWN_BY_NAME))}, or transformers installed")
    settings = {**config, "num_labels": label_count(config)}
    for tensor in tensors:
        for ending, sizes in RULES:
            if f".{tensor.name}".endswith(f".{ending}"):
                _check_one(name, tensor, sizes, settings)
    layers = {part for t in tensors for before, part in _numbered(t.name) if before == "layer"}
    key = next((key for key in _LAYERS if isinstance(config.get(key), int)), "")
    if layers and key and len(layers) != config[key]:
        raise _mismatch(name, key, f"the weights have {len(layers)} layers, {name} says {config[key]}")


def _numbered(tensor: str) -> Iterable[tuple[str, str]]:
    parts = tensor.split(".")
    return ((before, part) for before, part in pairwise(parts) if part.isdigit())


def _check_one(name: str, tensor: Tensor, sizes: tuple[tuple[str, ...], ...], settings: Mapping[str, Any]) -> None:
    for size, keys in zip(tensor.shape, sizes, strict=False):
        allowed = {key: settings[key] for key in keys if isinstance(settings.get(key), int)}
        if allowed and size not in allowed.values():
            key, wanted = next(iter(allowed.items()))
            raise _mismatch(name, key, f"{tensor.name} has shape {tensor.shape}, {name} says {key} is {wanted}")


def _mismatch(name: str, field: str, reason: str) -> UnsafeArtifact:
    hint = "save weights and configuration together with save_pretrained"
    return refuse(field[:120], reason[:300], f"weights and {name} of one model", hint)


def _unbuildable(name: str, reason: str, config: Mapping[str, Any]) -> UnsafeArtifact:
    kind = _what(config)[1]
    hint = f"AutoModel{kind}.from_config(AutoConfig.from_pretrained(folder)) says more; look at {name}"
    return refuse(
        name, f"transformers cannot build the model of {name}: {reason}"[:300], "a model of a known size", hint
    )


def _unknown(name: str, reason: str, expected: str) -> UnsafeArtifact:
    return refuse("model_type", reason, expected, f"save {name} with a version of transformers that is installed here")
