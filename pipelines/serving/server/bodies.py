"""What does a request body ask, and how is the answer written? Open Inference Protocol v2 and MLflow's scoring."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from pipelines.errors import BadInput

MAX_ROWS = 256
MAX_CHARACTERS = 100_000


class NotFinite(Exception):
    """The model answered with NaN or infinity."""


def parse_json(body: bytes) -> Any:
    """The JSON of a body. BadInput where it is empty, not JSON, nested too deep, or holds text that is no text."""
    if not body.strip():
        raise BadInput("the body is empty", code="E_BODY", field="body", expected="JSON")
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadInput(f"the body is not JSON: {error}"[:200], code="E_BODY", field="body", expected="JSON") from None


def infer_texts(payload: Any) -> list[str]:
    """The texts of an Open Inference Protocol request: one BYTES tensor of shape [n] or [n, 1]."""
    inputs = payload.get("inputs") if isinstance(payload, Mapping) else None
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], Mapping):
        raise BadInput(
            "one input tensor is expected", code="E_INPUTS", field="inputs", expected='[{"name": "text", …}]'
        )
    tensor = inputs[0]
    if tensor.get("datatype") != "BYTES":
        raise BadInput(
            f"datatype {tensor.get('datatype')!r}", code="E_DATATYPE", field="inputs.0.datatype", expected="BYTES"
        )
    texts = checked_texts(_flat(tensor.get("data")), "inputs.0.data")
    shape = tensor.get("shape")
    if not isinstance(shape, list) or shape not in ([len(texts)], [len(texts), 1]):
        raise BadInput(
            "shape does not fit the data", code="E_SHAPE", field="inputs.0.shape", expected=f"[{len(texts)}]"
        )
    return texts


def invocation_texts(payload: Any) -> list[str]:
    """The texts of an MLflow scoring request: `inputs`, `instances`, `dataframe_records` or `dataframe_split`."""
    if not isinstance(payload, Mapping):
        raise BadInput("an object is expected", code="E_BODY", field="body", expected='{"inputs": ["…"]}')
    for key in ("inputs", "instances", "dataframe_records"):
        if key in payload:
            return checked_texts(_rows(payload[key]), key)
    split = payload.get("dataframe_split")
    if isinstance(split, Mapping):
        return checked_texts(_rows(split.get("data")), "dataframe_split.data")
    raise BadInput("no rows are found", code="E_INPUTS", field="body", expected="inputs, instances or dataframe_split")


def checked_texts(values: Any, field: str) -> list[str]:
    """The values, all texts, neither too many nor too long."""
    if not isinstance(values, list) or not values:
        raise BadInput("a list of texts is expected", code="E_INPUTS", field=field)
    if len(values) > MAX_ROWS:
        raise BadInput(f"{len(values)} rows", code="E_LIMIT", field=field, expected=f"at most {MAX_ROWS}")
    for i, value in enumerate(values):
        if not isinstance(value, str):
            raise BadInput(f"a {type(value).__name__} is not a text", code="E_TYPE", field=f"{field}.{i}")
        if len(value) > MAX_CHARACTERS:
            limit = f"at most {MAX_CHARACTERS}"
            raise BadInput(f"{len(value)} characters", code="E_LIMIT", field=f"{field}.{i}", expected=limit)
        if "\0" in value:
            raise BadInput("the text holds a NUL character", code="E_TEXT", field=f"{field}.{i}")
    return values


def _flat(data: Any) -> Any:
    """[[text], …] as [text, …]."""
    if isinstance(data, list) and data and all(isinstance(row, list) and len(row) == 1 for row in data):
        return [row[0] for row in data]
    return data


def _rows(data: Any) -> Any:
    """Rows as texts: a row is a text, a list of one, or an object with one value."""
    if isinstance(data, Mapping) and len(data) == 1:
        data = next(iter(data.values()))
    if isinstance(data, list) and data and all(isinstance(row, Mapping) and len(row) == 1 for row in data):
        return [next(iter(row.values())) for row in data]
    return _flat(data)


def probabilities(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Softmax by row. NotFinite where a logit is no number."""
    if not np.isfinite(logits).all():
        raise NotFinite
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def infer_answer(model: str, version: str, labels: Sequence[str], logits: npt.NDArray[np.float32]) -> bytes:
    """The Open Inference Protocol answer: label, probabilities and logits, row by row."""
    probs = probabilities(logits)
    n, k = logits.shape
    outputs = [
        {"name": "label", "datatype": "BYTES", "shape": [n], "data": [labels[i] for i in logits.argmax(axis=1)]},
        {"name": "probabilities", "datatype": "FP32", "shape": [n, k], "data": probs.round(7).ravel().tolist()},
        {"name": "logits", "datatype": "FP32", "shape": [n, k], "data": logits.ravel().tolist()},
    ]
    return orjson.dumps({"model_name": model, "model_version": version, "outputs": outputs})


def invocation_answer(labels: Sequence[str], logits: npt.NDArray[np.float32]) -> bytes:
    """MLflow's answer: a label with its score for every row."""
    probs = probabilities(logits)
    best = logits.argmax(axis=1)
    rows = [{"label": labels[k], "score": round(float(probs[i, k]), 7)} for i, k in enumerate(best)]
    return orjson.dumps({"predictions": rows})


def error_answer(error: BadInput) -> bytes:
    """An error's JSON; what cannot be written as UTF-8 is escaped."""
    return json.dumps({"error": error.as_dict()}).encode()
