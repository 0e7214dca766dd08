"""What does a body ask of a classifier, and how is its answer written? Open Inference Protocol v2, MLflow's scoring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
import orjson

from pipelines.errors import BadInput
from pipelines.serving.engines.engine import Logits
from pipelines.tasks.wire import Door, NotFinite

MAX_ROWS = 256
MAX_CHARACTERS = 100_000


@dataclass(frozen=True)
class ClassificationWire:
    """Texts in; a label, probabilities and logits out, in the order of `labels`."""

    labels: tuple[str, ...]
    tried: tuple[str, ...] = ("ready?",)

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> ClassificationWire:
        """As a bundle says it."""
        return cls(tuple(str(label) for label in facts["labels"]))

    def check(self, outputs: Logits) -> None:
        """BadInput E_CONFIG_MISMATCH where there is not one number a label."""
        if outputs.shape != (len(self.tried), len(self.labels)):
            raise BadInput(f"the model answers in shape {outputs.shape}", code="E_CONFIG_MISMATCH")

    def doors(self, model: str, version: str) -> tuple[Door, ...]:
        """Open Inference Protocol v2 and MLflow's scoring."""
        return (
            Door(infer_path(model), infer_texts, lambda logits: infer_answer(model, version, self.labels, logits)),
            Door("/invocations", invocation_texts, lambda logits: invocation_answer(self.labels, logits)),
        )

    def tensors(self) -> dict[str, Any]:
        """One text a row; its label and the probability of each."""
        outputs = [{"name": "label", "datatype": "BYTES", "shape": [-1]}]
        outputs.append({"name": "probabilities", "datatype": "FP32", "shape": [-1, len(self.labels)]})
        return {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [-1]}], "outputs": outputs}

    def headers(self, outputs: Logits) -> dict[str, str]:
        """The predicted class of a single row, so that a gateway sees a drift without reading any body.

        How sure the model is stays inside: that changes with every training, and is no drift of what users get.
        """
        if len(outputs) != 1:
            return {}
        return {"x-shipway-class": quote(self.labels[int(outputs[0].argmax())][:64])}


def infer_path(model: str) -> str:
    """Where the Open Inference Protocol asks a model."""
    return f"/v2/models/{model}/infer"


def infer_body(texts: Sequence[str]) -> dict[str, Any]:
    """Texts as the Open Inference Protocol asks them."""
    return {"inputs": [{"name": "text", "shape": [len(texts)], "datatype": "BYTES", "data": list(texts)}]}


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


def probabilities(logits: Logits) -> npt.NDArray[np.float64]:
    """Softmax by row. NotFinite where a logit is no number."""
    if not np.isfinite(logits).all():
        raise NotFinite
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def infer_answer(model: str, version: str, labels: Sequence[str], logits: Logits) -> bytes:
    """The Open Inference Protocol answer: label, probabilities and logits, row by row."""
    probs = probabilities(logits)
    n, k = logits.shape
    outputs = [
        {"name": "label", "datatype": "BYTES", "shape": [n], "data": [labels[i] for i in logits.argmax(axis=1)]},
        {"name": "probabilities", "datatype": "FP32", "shape": [n, k], "data": probs.round(7).ravel().tolist()},
        {"name": "logits", "datatype": "FP32", "shape": [n, k], "data": logits.ravel().tolist()},
    ]
    return orjson.dumps({"model_name": model, "model_version": version, "outputs": outputs})


def invocation_answer(labels: Sequence[str], logits: Logits) -> bytes:
    """MLflow's answer: a label with its score for every row."""
    probs = probabilities(logits)
    best = logits.argmax(axis=1)
    rows = [{"label": labels[k], "score": round(float(probs[i, k]), 7)} for i, k in enumerate(best)]
    return orjson.dumps({"predictions": rows})
