"""What do callers of a classifier send and get?"""

from __future__ import annotations

import json

import numpy as np
import pytest

from pipelines.errors import BadInput
from pipelines.tasks.classification.wire import ClassificationWire, infer_body
from pipelines.tasks.wire import NotFinite

WIRE = ClassificationWire(("no", "yes"))
ONE = np.array([[0.0, 1.0]], dtype=np.float32)


def test_it_is_asked_in_two_protocols():
    """By its name, and as MLflow asks; both read the same texts."""
    infer, invocations = WIRE.doors("m", "7")
    assert (infer.path, invocations.path) == ("/v2/models/m/infer", "/invocations")
    assert infer.read(infer_body(["a", "b"])) == invocations.read({"inputs": ["a", "b"]}) == ["a", "b"]


def test_it_answers_in_both():
    """Label, probabilities and logits; or a label with its score."""
    infer, invocations = (json.loads(door.write(ONE)) for door in WIRE.doors("m", "7"))
    assert infer == {
        "model_name": "m",
        "model_version": "7",
        "outputs": [
            {"name": "label", "datatype": "BYTES", "shape": [1], "data": ["yes"]},
            {"name": "probabilities", "datatype": "FP32", "shape": [1, 2], "data": [0.2689414, 0.7310586]},
            {"name": "logits", "datatype": "FP32", "shape": [1, 2], "data": [0.0, 1.0]},
        ],
    }
    assert invocations == {"predictions": [{"label": "yes", "score": 0.7310586}]}


def test_what_is_no_number_is_no_answer():
    """In neither."""
    for door in WIRE.doors("m", "7"):
        with pytest.raises(NotFinite):
            door.write(ONE * np.nan)


def test_only_a_single_row_has_its_class_in_a_header():
    """Escaped, as headers are ASCII."""
    wire = ClassificationWire(("nein", "schön"))
    assert wire.headers(ONE) == {"x-shipway-class": "sch%C3%B6n"}
    assert wire.headers(np.vstack([ONE, ONE])) == {}


def test_a_model_with_other_outputs_is_not_served():
    """One number a label is expected."""
    WIRE.check(ONE)
    with pytest.raises(BadInput) as caught:
        WIRE.check(np.zeros((1, 3), dtype=np.float32))
    assert str(caught.value) == "E_CONFIG_MISMATCH: the model answers in shape (1, 3)"


def test_a_model_is_described_by_its_tensors():
    """As the Open Inference Protocol does."""
    assert WIRE.tensors() == {
        "inputs": [{"name": "text", "datatype": "BYTES", "shape": [-1]}],
        "outputs": [
            {"name": "label", "datatype": "BYTES", "shape": [-1]},
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, 2]},
        ],
    }
