"""How many bytes are a language model's weights and its cache?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import Any

from pipelines.supply.checks.safetensors import read_header
from pipelines.supply.layout import ModelLayout, weight_files
from pipelines.tasks.generation.serving.parallel import DeviceLoad
from pipelines.tasks.memory import MemoryNeed

BYTES = {"f32": 4.0, "f16": 2.0, "q8_0": 34 / 32}
"""Of one number. Q8_0 holds 32 of them and a scale of 16 bits in 34 bytes (llama.cpp's ggml-common.h)."""

REFERENCE_BYTES = BYTES["f32"]
CACHE_BYTES = BYTES["f16"]

_LAYERS = ("num_hidden_layers", "n_layer", "num_layers")
_HEADS = ("num_attention_heads", "n_head", "num_heads")
_WIDTH = ("hidden_size", "n_embd", "d_model")
"""What architectures call them."""


def memory_need(layout: ModelLayout, facts: Mapping[str, Any], precision: str, replicas: int) -> MemoryNeed:
    """What servers of these facts take with weights in this precision, and what would take less."""
    numbers = count_numbers(layout)
    context, slots = int(facts["context"]), int(facts["slots"])
    weights, token = int(numbers * BYTES[precision]), cache_of_token(layout.config_json)

    def served(precision: str, context: int, slots: int) -> int:
        return replicas * (int(numbers * BYTES[precision]) + token * context * slots)

    helps = [(f"serve.args.slots: {slots // 2}", served(precision, context, slots // 2))] if slots > 1 else []
    helps += [(f"serve.args.context: {context // 2}", served(precision, context // 2, slots))] if context > 1 else []
    if precision != "q8_0":
        helps.append(("compress: gguf-q8_0", served("q8_0", context, slots)))
    what = f"{numbers:,} numbers in {precision}, {slots} answers of {context:,} tokens at once"
    cache, reference = token * context * slots, int(numbers * REFERENCE_BYTES)
    return MemoryNeed(weights, cache, replicas, reference, what, tuple(helps))


def judging_need(layout: ModelLayout, replicas: int) -> MemoryNeed:
    """The same where an engine serves that was brought: of this machine's memory it takes what is not counted here."""
    reference = int(count_numbers(layout) * REFERENCE_BYTES)
    return MemoryNeed(0, 0, replicas, reference, "besides what the engine itself takes")


def load_of(layout: ModelLayout, facts: Mapping[str, Any]) -> DeviceLoad | None:
    """What an engine that was brought must hold on its devices; None where that cannot be counted."""
    config = layout.config_json
    heads = _first(config, _HEADS)
    kept = _first(config, ("num_key_value_heads",)) or heads
    return DeviceLoad.of(count_numbers(layout), cache_of_token(config), (heads, kept), facts)


def count_numbers(layout: ModelLayout) -> int:
    """Of all weights."""
    files = [file for file in weight_files(layout.weights) if file.suffix == ".safetensors"]
    return sum(prod(tensor.shape) for file in files for tensor in read_header(file.name, file)[1])


def cache_of_token(config: Mapping[str, Any]) -> int:
    """Bytes of keys and values of one token in 16 bits; 0 where the configuration does not say it as others do."""
    layers, heads, width = (_first(config, names) for names in (_LAYERS, _HEADS, _WIDTH))
    kept = _first(config, ("num_key_value_heads",)) or heads
    each = _first(config, ("head_dim",)) or (width // heads if heads else 0)
    return int(2 * layers * kept * each * CACHE_BYTES)


def _first(config: Mapping[str, Any], names: Sequence[str]) -> int:
    found: Iterable[Any] = (config.get(name) for name in names)
    return next((value for value in found if type(value) is int and value > 0), 0)
