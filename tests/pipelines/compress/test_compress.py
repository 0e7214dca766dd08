"""Does the compressed variant answer like the model, alike on every run?"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from pipelines.compress.dynamic_int8 import DynamicInt8
from pipelines.compress.onnx_export import example_tensors, export_exact, largest_difference, load_classifier
from pipelines.compress.search import techniques_for
from pipelines.compress.technique import Compressed, CompressionFailed
from pipelines.errors import BadInput
from pipelines.supply.layout import gather, read_layout
from tests.pipelines.architectures.walk import make
from tests.pipelines.model_folders import edit_json, read_tensors, write_tensors

FACTS = {"model": "tiny"}


@pytest.fixture(scope="module")
def flat(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as intake leaves it."""
    return gather(read_layout(tiny_model), tmp_path_factory.mktemp("flat"))


@pytest.fixture(scope="module")
def compressed(flat: Path, tmp_path_factory: pytest.TempPathFactory) -> Compressed:
    """The tiny model in int8; exporting takes seconds, once."""
    return DynamicInt8().compress(flat, tmp_path_factory.mktemp("int8") / "out", FACTS)


def test_no_technique_means_the_source_ships():
    """`compress: none` tries nothing."""
    assert techniques_for("none") == ()


def test_the_spec_s_name_is_the_variant_s_name():
    """What is asked for is what the record calls it."""
    assert [t.name for t in techniques_for("dynamic-int8")] == ["dynamic-int8"]


def test_an_unknown_technique_lists_the_known():
    """For callers that do not come through the spec."""
    with pytest.raises(BadInput) as caught:
        techniques_for("int3")
    assert caught.value.expected == "none or dynamic-int8"


@pytest.mark.integration
def test_the_variant_is_complete(compressed):
    """One engine file beside tokenizer and configuration, nothing left over."""
    assert compressed.engine == "onnxruntime"
    assert sorted(p.name for p in compressed.folder.iterdir()) == [
        "config.json", "model.onnx", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip
    assert compressed.size_bytes == sum(p.stat().st_size for p in compressed.folder.iterdir())


@pytest.mark.integration
def test_matrices_are_int8_and_embeddings_are_not(compressed):
    """Every weight of MatMul and Gemm is quantized; the embedding table is fp32."""
    import onnx

    graph = onnx.load(str(compressed.folder / "model.onnx")).graph
    types = {i.name: i.data_type for i in graph.initializer}
    ops = {n.op_type for n in graph.node}
    assert "MatMulInteger" in ops
    constants = [n for n in graph.node if n.op_type in {"MatMul", "Gemm"} and n.input[1] in types]
    assert constants == []
    tables = [n.input[0] for n in graph.node if n.op_type == "Gather" and "word_embeddings" in n.input[0]]
    assert [types[name] for name in tables] == [onnx.TensorProto.FLOAT]


@pytest.mark.integration
def test_the_variant_answers_like_the_model(compressed, flat):
    """Any batch and length, padding included, close to torch's logits."""
    tensors = read_layout(flat).tensors
    difference = largest_difference(load_classifier(flat), compressed.folder / "model.onnx", tensors)
    assert 0 < difference < 0.02


@pytest.mark.integration
def test_padding_does_not_change_an_answer(compressed, flat):
    """A row alone and the same row in a longer batch give nearly the same logits."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(compressed.folder / "model.onnx"), providers=["CPUExecutionProvider"])
    alone = example_tensors(read_layout(flat).tensors, 1, 6, vocabulary=140, seed=3)
    alone["attention_mask"][:] = 1
    padded = {name: np.pad(value, ((0, 0), (0, 5))) for name, value in alone.items()}
    expected, found = session.run(["logits"], alone)[0], session.run(["logits"], padded)[0]
    assert np.abs(found - expected).max() < 0.02


@pytest.mark.integration
def test_the_same_model_gives_the_same_bytes(compressed, flat, tmp_path):
    """Otherwise every release of one model would be another digest."""
    again = DynamicInt8().compress(flat, tmp_path / "again", FACTS)
    assert _hashes(again.folder) == _hashes(compressed.folder)
    assert again.recipe == compressed.recipe


@pytest.mark.integration
def test_the_file_says_nothing_about_the_machine(compressed):
    """No path, no stack trace, no documentation inside."""
    raw = (compressed.folder / "model.onnx").read_bytes()
    assert [word for word in (b"site-packages", b".py", b"stack_trace", b"/home", b"/tmp") if word in raw] == []


@pytest.mark.integration
def test_the_recipe_is_plain_data(compressed):
    """It goes into the bundle's facts."""
    assert json.loads(json.dumps(compressed.recipe)) == compressed.recipe
    assert compressed.recipe["technique"] == "dynamic-int8"


@pytest.mark.integration
def test_a_model_that_cannot_be_exported_fails_with_a_reason(tiny_copy, tmp_path):
    """The release goes on with the source, so the reason must be one line."""
    edit_json(tiny_copy / "config.json", model_type="no-such-architecture")
    with pytest.raises(CompressionFailed, match=r"dynamic-int8 of tiny: .*no-such-architecture") as caught:
        DynamicInt8().compress(tiny_copy, tmp_path / "out", FACTS)
    assert "\n" not in str(caught.value)


@pytest.mark.integration
def test_an_export_that_answers_otherwise_is_refused(tiny_copy, flat, compressed, tmp_path):
    """The check really compares: another model's file is far away."""
    header, data = read_tensors(tiny_copy / "model.safetensors")
    entry = header["classifier.bias"]
    begin, end = entry["data_offsets"]
    changed = data[:begin] + np.array([5, 0, -5], "<f4").tobytes() + data[end:]
    write_tensors(tiny_copy / "model.safetensors", header, changed)
    tensors = read_layout(flat).tensors
    difference = largest_difference(load_classifier(tiny_copy), compressed.folder / "model.onnx", tensors)
    assert difference > 4


@pytest.mark.integration
def test_a_model_that_is_read_at_its_end_token_is_checked_with_one(tmp_path):
    """BART refuses rows without exactly one, which random tokens may have."""
    export_exact(make("bart", tmp_path / "bart"), tmp_path / "exact.onnx")


@pytest.mark.integration
def test_an_export_that_does_not_bear_padding_is_refused(tmp_path):
    """Helium's embedding of the padding is zeros, which ONNX Runtime's normalization turns into NaN."""
    with pytest.raises(CompressionFailed, match="differ from torch's by inf"):
        export_exact(make("helium", tmp_path / "helium"), tmp_path / "exact.onnx")


def _hashes(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}
