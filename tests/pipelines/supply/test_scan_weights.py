"""Are weights what their header and their configuration say, and finite?

Rows 14 to 17 of the bad-input matrix.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest

from pipelines.errors import BadInput
from pipelines.supply.scan import scan
from tests.pipelines.model_folders import edit_json, read_tensors, write_tensors
from tests.pipelines.supply.refusals import refusal

WEIGHTS = "model.safetensors"


def fill_tensor(folder: Path, tensor: str, value: float, index: int | slice = slice(None)) -> None:
    """Set values of one fp32 tensor in a copy of the model."""
    header, data = read_tensors(folder / "model.safetensors")
    begin, end = header[tensor]["data_offsets"]
    values = np.frombuffer(data[begin:end], "<f4").copy()
    values[index] = value
    write_tensors(folder / "model.safetensors", header, data[:begin] + values.tobytes() + data[end:])


def test_half_precision_weights_are_accepted(tiny_copy):
    """Values of bf16 are judged by their bits, without a further library."""
    header, data = read_tensors(tiny_copy / WEIGHTS)
    halved = {name: {**e, "dtype": "BF16", "data_offsets": [o // 2 for o in e["data_offsets"]]}
              for name, e in header.items() if name != "__metadata__"}  # fmt: skip
    write_tensors(tiny_copy / WEIGHTS, halved, np.frombuffer(data, "<u2")[1::2].tobytes())
    assert WEIGHTS in scan(tiny_copy).files


def test_zero_biases_and_segments_are_normal(tiny_copy):
    """Only a matrix of zeros is suspicious, and a lone segment's table may be one."""
    fill_tensor(tiny_copy, "bert.embeddings.token_type_embeddings.weight", 0.0)
    fill_tensor(tiny_copy, "classifier.bias", 0.0)
    assert WEIGHTS in scan(tiny_copy).files


def _one(dtype: str = "F32", shape: tuple[int, ...] = (2,), offsets: tuple[int, int] = (0, 8)) -> dict[str, object]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


EIGHT = np.ones(2, "<f4").tobytes()


@pytest.mark.parametrize(
    ("header", "data", "reason"),
    [
        ({"a": _one()}, EIGHT[:-1], "truncated"),
        ({"a": _one()}, EIGHT + b"x", "trailing"),
        ({"a": _one(), "b": _one(offsets=(4, 12))}, EIGHT + b"1234", "overlaps"),
        ({"a": _one(), "b": _one(offsets=(12, 20))}, EIGHT * 3, "hole"),
        ({"a": _one(shape=(3,))}, EIGHT, "does not fill"),
        ({"a": _one(shape=(-2,))}, EIGHT, "not known"),
        ({"a": _one(shape=(True, 2))}, EIGHT, "not known"),
        ({"a": _one(dtype="X99")}, EIGHT, "not known"),
        ({"a": _one(shape=(2**40, 2**40))}, EIGHT, "does not fill"),
        ({"a": {**_one(), "dtype": ["F32"]}}, EIGHT, "no text"),
        ({"a": {"dtype": "F32"}}, EIGHT, "lacks"),
        ({"a": 3}, EIGHT, "lacks"),
        ('{"a": %s, "a": %s}' % ((json.dumps(_one()),) * 2), EIGHT, "duplicate tensor"),
        ('{"a": NaN}', EIGHT, "NaN"),
        ("{" + '"a":{' * 9000, EIGHT, "strict|deep|Expecting"),
        ('{"a"', EIGHT, "Expecting"),
    ],
)
def test_a_false_header_is_refused(tiny_copy, header, data, reason):
    """Truncated, trailing, overlapping, with holes, twice the same name, or no header at all."""
    write_tensors(tiny_copy / WEIGHTS, header, data)
    error = refusal(tiny_copy)
    assert error.code == "E_SAFETENSORS"
    assert any(word in error.reason for word in reason.split("|")), error.reason


@pytest.mark.parametrize("dtype", ["F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "C64", "F4", "F6_E2M3", "F6_E3M2"])
def test_a_dtype_of_the_format_that_is_not_served_is_said_so(tiny_copy, dtype):
    """The file is whole, so the advice is to save it in another precision, not to upload it again."""
    write_tensors(tiny_copy / WEIGHTS, {"scales": _one(dtype, (8,))}, EIGHT)
    error = refusal(tiny_copy)
    assert error.code == "E_SAFETENSORS"
    assert f"the dtype {dtype} of tensor 'scales' is not supported" in error.reason
    assert "bfloat16" in str(error.hint)


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 100_000_001, 0, 10**6])
def test_a_false_header_length_is_refused(tiny_copy, length):
    """Without reading that much."""
    (tiny_copy / WEIGHTS).write_bytes(struct.pack("<Q", length) + b"{}" + EIGHT)
    assert refusal(tiny_copy).code == "E_SAFETENSORS"


@pytest.mark.parametrize("size", [0, 3, 8, 9, 1000])
def test_a_file_that_was_cut_off_is_refused(tiny_copy, size):
    """At any byte."""
    whole = (tiny_copy / WEIGHTS).read_bytes()
    (tiny_copy / WEIGHTS).write_bytes(whole[:size])
    assert refusal(tiny_copy).code == "E_SAFETENSORS"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_bad_weight_is_found(tiny_copy, value):
    """The tensor is named."""
    fill_tensor(tiny_copy, "classifier.weight", value, index=17)
    error = refusal(tiny_copy)
    assert (error.code, error.field) == ("E_WEIGHTS_NONFINITE", "classifier.weight")


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_a_matrix_of_zeros_is_found(tiny_copy, zero):
    """Weights that were never loaded."""
    fill_tensor(tiny_copy, "bert.encoder.layer.1.output.dense.weight", zero)
    error = refusal(tiny_copy)
    assert (error.code, error.field) == ("E_WEIGHTS_NONFINITE", "bert.encoder.layer.1.output.dense.weight")


@pytest.mark.parametrize(
    ("dtype", "bits"),
    [("F16", 0x7C00), ("BF16", 0xFF80), ("F64", 0x7FF8 << 48), ("F8_E4M3", 0x7F), ("F8_E5M2", 0x7C), ("F8_E5M2", 0xFF)],
)
def test_bad_values_of_every_float_format_are_found(tiny_copy, dtype, bits):
    """NaN and Inf by their bits."""
    width = {"F16": 2, "BF16": 2, "F64": 8}.get(dtype, 1)
    data = (1).to_bytes(width, "little") + bits.to_bytes(width, "little")
    write_tensors(tiny_copy / WEIGHTS, {"a": _one(dtype, (2,), (0, 2 * width))}, data)
    assert refusal(tiny_copy).code == "E_WEIGHTS_NONFINITE"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("vocab_size", 30522),
        ("hidden_size", 64),
        ("max_position_embeddings", 512),
        ("intermediate_size", 32),
        ("num_hidden_layers", 3),
        ("id2label", {"0": "no", "1": "yes"}),
    ],
)
def test_a_configuration_of_another_model_is_refused(tiny_copy, key, value):
    """The first tensor that does not fit is named."""
    edit_json(tiny_copy / "config.json", **{key: value})
    error = refusal(tiny_copy)
    assert (error.code, error.field) == ("E_CONFIG_MISMATCH", "num_labels" if key == "id2label" else key)


@pytest.mark.parametrize(
    ("shard", "code"), [("other.safetensors", "E_CONFIG_MISMATCH"), ("../x", "E_PATH"), ("/etc/passwd", "E_PATH")]
)
def test_an_index_that_points_elsewhere_is_refused(tiny_copy, shard, code):
    """Each tensor is where the index says."""
    (tiny_copy / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"classifier.bias": shard}}))
    assert refusal(tiny_copy).code == code


def test_damaged_files_never_end_in_a_traceback(tiny_copy):
    """Bytes flipped or cut at random: the folder is accepted or refused with a code."""
    random = np.random.default_rng(0)
    whole = {name: (tiny_copy / name).read_bytes() for name in (WEIGHTS, "config.json", "tokenizer_config.json")}
    outcomes = set()
    for _ in range(300):
        name = random.choice(list(whole))
        raw = bytearray(whole[name])
        for at in random.integers(0, min(len(raw), 4000), 3):
            raw[at] = random.integers(256)
        (tiny_copy / name).write_bytes(raw[: random.integers(1, len(raw) + 1)] if random.random() < 0.2 else raw)
        try:
            scan(tiny_copy)
            outcomes.add("accepted")
        except BadInput as error:
            outcomes.add(error.code)
        (tiny_copy / name).write_bytes(whole[name])
    assert {"E_SAFETENSORS", "E_JSON"} <= outcomes
