"""Do the weights have the shapes that the configuration says?"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pipelines.errors import UnsafeArtifact
from pipelines.supply.checks.safetensors import Tensor

_WIDTHS = ("hidden_size", "embedding_size", "dim", "d_model")
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
"""A name's ending, and which settings its first sizes are (architectures name their width variously)."""

_LAYER = re.compile(r"encoder\.layer\.(\d+)\.")


def check_shapes(name: str, tensors: Iterable[Tensor], config: Mapping[str, Any]) -> None:
    """E_CONFIG_MISMATCH names the first tensor that does not fit `config`; `name` is the configuration's file."""
    settings = {**config, "num_labels": label_count(config)}
    layers: set[int] = set()
    for tensor in tensors:
        layers.update(int(number) for number in _LAYER.findall(tensor.name))
        for ending, sizes in RULES:
            if tensor.name.endswith(ending):
                _check_one(name, tensor, sizes, settings)
    wanted = config.get("num_hidden_layers")
    if layers and isinstance(wanted, int) and "albert" not in str(config.get("model_type")) and len(layers) != wanted:
        raise _mismatch(name, "num_hidden_layers", f"the weights have {len(layers)} layers, {name} says {wanted}")


def label_count(config: Mapping[str, Any]) -> int:
    """How many labels does a configuration declare? transformers leaves out the default of two."""
    id2label = config.get("id2label")
    return len(id2label) if isinstance(id2label, dict) and id2label else int(config.get("num_labels") or 2)


def _check_one(name: str, tensor: Tensor, sizes: tuple[tuple[str, ...], ...], settings: Mapping[str, Any]) -> None:
    for size, keys in zip(tensor.shape, sizes, strict=False):
        allowed = {key: settings[key] for key in keys if isinstance(settings.get(key), int)}
        if allowed and size not in allowed.values():
            key, wanted = next(iter(allowed.items()))
            raise _mismatch(name, key, f"{tensor.name} has shape {tensor.shape}, {name} says {key} is {wanted}")


def _mismatch(name: str, field: str, reason: str) -> UnsafeArtifact:
    return UnsafeArtifact(
        reason,
        code="E_CONFIG_MISMATCH",
        field=field,
        expected=f"weights and {name} of one model",
        hint="save weights and configuration together with save_pretrained",
    )
