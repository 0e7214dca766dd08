"""Is it known before anything starts what a language model takes, and is what cannot fit refused with what would?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.errors import BadInput
from pipelines.spec.serve import ServeSpec
from pipelines.spec.spec_file import parse_spec
from pipelines.stages.intake import _memory
from pipelines.supply.layout import read_layout
from pipelines.tasks.generation.generation import TextGeneration
from pipelines.tasks.generation.serving.served import served_facts
from pipelines.tasks.generation.serving.sizes import cache_of_token, count_numbers, memory_need
from pipelines.tasks.memory import GIB, MemoryNeed, check_fits

LLAMA_8B = {"num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "hidden_size": 4096}
NEED = MemoryNeed(16 * GIB, 4 * GIB, 1, 0, "8 numbers", (("fewer slots", 18 * GIB), ("q8_0", 12 * GIB)))


@pytest.mark.parametrize(
    ("config", "size"),
    [
        (LLAMA_8B, 131_072),  # 2 × 32 layers × 8 heads × 128 × 2 bytes, as Meta's own figure of 128 KiB a token
        ({"n_layer": 12, "n_head": 12, "n_embd": 768}, 36_864),
        ({**LLAMA_8B, "head_dim": 256}, 262_144),
        ({}, 0),
    ],
)
def test_a_tokens_cache_is_known_by_the_configuration(config, size):
    """Whatever the architecture calls its sizes."""
    assert cache_of_token(config) == size


def test_a_models_need_is_counted_from_its_files(tiny_generator: Path):
    """Every number once; the cache of all slots; and what would take less."""
    layout = read_layout(tiny_generator)
    facts = served_facts(layout, ServeSpec(args={"context": 256, "slots": 2}))
    need = memory_need(layout, facts, "f16", 3)
    numbers = count_numbers(layout)
    assert need.weights == 2 * numbers
    assert need.cache == 256 * 2 * (2 * 2 * 2 * 16 * 2)
    assert need.served == 3 * (need.weights + need.cache)
    assert need.reference == 4 * numbers
    assert all(size < need.served for _, size in need.helps)
    assert [what for what, _ in need.helps] == ["serve.args.slots: 1", "serve.args.context: 128", "compress: gguf-q8_0"]


def test_the_larger_of_judging_and_serving_counts():
    """One after the other."""
    check_fits(NEED, 20 * GIB, "this machine")
    with pytest.raises(BadInput) as caught:
        check_fits(MemoryNeed(GIB, 0, 1, 4 * GIB, "8 numbers"), 3 * GIB, "this machine")
    assert "judging this takes 4.00 GiB, and this machine has 3.00 GiB" in caught.value.reason


def test_what_cannot_fit_is_refused_with_what_would():
    """Only with what does."""
    with pytest.raises(BadInput) as caught:
        check_fits(NEED, 15 * GIB, "package.memory_mb")
    assert (caught.value.code, caught.value.field) == ("E_MEMORY", "package.memory_mb")
    assert caught.value.hint == "this would fit: q8_0"


def test_a_server_in_a_container_has_the_containers_memory(tiny_generator: Path):
    """Also where the spec does not say how much: 4 GiB then. A process has what its machine has."""
    layout, task = replace(read_layout(tiny_generator), max_length=2**23), TextGeneration()
    plain = "model: models:/m/1\nservice: s\nevaluate: {data: d, gates: [{metric: finished, min: 0.0}]}\n"
    served = f"{plain}serve: {{api: openai, args: {{context: {2**23}}}}}\n"
    promises = task.promises(layout, parse_spec(served).serve)
    assert _memory(task, layout, promises, parse_spec(served), None).cache == 8 * GIB
    with pytest.raises(BadInput) as caught:
        _memory(task, layout, promises, parse_spec(f"{served}package: {{target: docker}}\n"), None)
    assert (caught.value.code, caught.value.field) == ("E_MEMORY", "package.memory_mb")
    assert caught.value.hint == "this would fit: package.memory_mb: more than 8192"
