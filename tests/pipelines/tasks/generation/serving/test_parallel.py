"""Is it known before an engine starts whether a model fits on its devices, and what would?"""

from __future__ import annotations

from functools import partial

import pytest

from pipelines.errors import BadInput
from pipelines.spec.engine import ParallelSpec
from pipelines.spec.spec_file import parse_spec
from pipelines.supply.layout import read_layout
from pipelines.tasks.generation.generation import TextGeneration
from pipelines.tasks.generation.serving.parallel import DeviceLoad, check_spread, proposed, room_of
from pipelines.tasks.memory import GIB, Device

NUMBERS, TOKEN = 14_800_000_000, 163_840
FACTS = {"context": 8192, "precision": "bfloat16", "flags": {}}
LARGE = DeviceLoad.of(NUMBERS, TOKEN, (40, 8), FACTS)
CARD = Device(24 * GIB, 24 * GIB)
assert LARGE is not None


def cards(n, near=(), memory=24, free=None):
    """So many devices, each linked to these."""
    return [Device(memory * GIB, (memory if free is None else free) * GIB, frozenset(near) - {i}) for i in range(n)]


@pytest.mark.parametrize(
    ("flags", "precision", "weights", "cache"),
    [
        ({}, "bfloat16", 2 * NUMBERS, TOKEN * 8192),
        ({}, "float32", 4 * NUMBERS, TOKEN * 8192),
        ({"quantization": "fp8", "kv-cache-dtype": "fp8_e4m3"}, "bfloat16", NUMBERS, TOKEN * 4096),
    ],
)
def test_what_is_held_is_counted_to_the_byte(flags, precision, weights, cache):
    """In the precision that serves."""
    load = DeviceLoad.of(NUMBERS, TOKEN, (40, 8), {**FACTS, "precision": precision, "flags": flags})
    assert load == DeviceLoad(weights, cache, 40, 8)


@pytest.mark.parametrize("facts", [{"flags": {"quantization": "awq"}}, {"precision": "other"}])
def test_what_is_not_known_is_not_counted(facts):
    """And nothing is refused for it."""
    assert DeviceLoad.of(NUMBERS, TOKEN, (40, 8), {**FACTS, **facts}) is None


def test_keys_are_not_dealt_out_beyond_their_heads():
    """Sixteen devices share the weights, and eight heads are kept twice."""
    load = DeviceLoad(1600, 800, 32, 8)
    assert [load.each(tensor) for tensor in (1, 8, 16)] == [2400, 300, 200]
    assert load.each(2, pipeline=2) == 600


@pytest.mark.parametrize(
    ("devices", "tensor"),
    [
        (cards(1, memory=80), 1),
        (cards(8), 2),
        (cards(8, memory=12), 4),  # three would be too few, and forty heads are not dealt out to three
        (cards(8, memory=2), None),
        (cards(1), None),
        (cards(8, free=20), None),  # others hold so much that none of them starts
        ([], None),
    ],
)
def test_the_least_that_fits_is_proposed(devices, tensor):
    """Of devices that an engine may take nine tenths of."""
    assert proposed(LARGE, devices, {}) == tensor


def test_every_replica_needs_devices_of_its_own():
    """Two of two are four."""
    assert [proposed(LARGE, cards(n), {}, replicas=2) for n in (3, 4)] == [None, 2]


def test_a_part_of_a_device_is_taken_where_it_is_said():
    """And none of one whose rest is held by others: the engine would not start."""
    assert room_of(CARD, {"gpu-memory-utilization": 0.5}) == 12 * GIB
    assert room_of(Device(24 * GIB, 11 * GIB), {"gpu-memory-utilization": 0.5}) == 0


def test_what_does_not_fit_is_refused_with_what_would():
    """It is never chosen for anybody."""
    with pytest.raises(BadInput) as caught:
        check_spread(LARGE, cards(4), {}, ParallelSpec())
    assert (caught.value.code, caught.value.field) == ("E_MEMORY", "serve.parallel")
    assert "27.57 GiB weights + 1.25 GiB cache for one conversation on one device" in caught.value.reason
    assert caught.value.hint == (
        "serve.parallel: {tensor: 2} would fit; its answers differ a little, so it is judged as a part of the release"
    )


@pytest.mark.parametrize(
    ("parallel", "number", "code", "hint"),
    [
        ({"tensor": 3}, 4, "E_ENGINE", "serve.parallel: {tensor: 2} would fit"),
        ({"tensor": 4}, 2, "E_ENGINE", "serve.parallel: {tensor: 2} would fit"),
        ({"tensor": 2, "replicas": 2}, 3, "E_ENGINE", "more devices"),
        ({"replicas": 2}, 4, "E_MEMORY", "serve.parallel: {tensor: 2, replicas: 2} would fit"),
        ({}, 1, "E_MEMORY", "a shorter max-model-len"),
    ],
)
def test_what_cannot_be_is_named(parallel, number, code, hint):
    """Before anything is started."""
    with pytest.raises(BadInput) as caught:
        check_spread(LARGE, cards(number), {}, ParallelSpec(**parallel))
    assert (caught.value.code, (caught.value.hint or "")[: len(hint)]) == (code, hint)


def test_a_pipeline_in_one_host_is_never_proposed():
    """It is carried out where somebody asks for it, and said to be slower."""
    *_, slower, fit = check_spread(LARGE, cards(8), {}, ParallelSpec(tensor=2, pipeline=2))
    assert "1.8 times slower" in slower
    assert fit == "serve.parallel: {tensor: 2} would fit"


@pytest.mark.parametrize(("near", "said"), [((0, 1), "joined by NVLink"), ((), "not joined by NVLink")])
def test_links_are_said(near, said):
    """They are waited for at every token."""
    sentence, links = check_spread(LARGE, cards(2, near), {}, ParallelSpec(tensor=2))
    assert links.startswith(said)
    assert sentence.endswith("14.41 GiB on each of 2 devices")


@pytest.mark.parametrize(("way", "is_counted"), [({"python": "/p"}, True), ({"url": "http://127.0.0.1:1"}, False)])
def test_only_what_shipway_starts_is_counted(tiny_generator, way, is_counted):
    """Nobody knows the devices behind a URL; without a driver there are none to count."""
    text = (
        "model: models:/chat/3\nservice: chat\nevaluate: {data: r.jsonl, gates: [{metric: finished, min: 0.5}]}\n"
        f"serve: {{api: openai, engine: vllm, {', '.join(f'{key}: {value!r}' for key, value in way.items())}}}\n"
    )
    layout, facts = read_layout(tiny_generator), {"context": 256, "precision": "float32", "flags": {}}
    memory = partial(TextGeneration().memory, layout, facts, parse_spec(text))
    assert (bool(memory([Device(GIB, GIB)]).spread), memory().spread) == (is_counted, ())
    if is_counted:
        with pytest.raises(BadInput, match="weights") as caught:
            memory([Device(1000, 1000)])
        assert caught.value.code == "E_MEMORY"
