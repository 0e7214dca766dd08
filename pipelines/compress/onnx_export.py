"""How does a torch classifier become one ONNX file that any machine writes byte for byte alike?"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.compress.technique import CompressionFailed
from pipelines.supply.layout import read_layout

OPSET = 18
OUTPUT = "logits"
TOLERANCE = 1e-3
"""Largest difference of a logit from torch's; both compute in fp32, in another order."""

_NOISY = ("torch.onnx", "torch.export", "onnxscript", "onnx_ir", "transformers")
_CHECKED_SHAPES = ((1, 2), (3, 7), (2, 33))

Tensors = dict[str, npt.NDArray[np.int64]]


def load_classifier(folder: Path) -> Any:
    """The torch model of a flat folder in evaluation mode; no code and no pickle is loaded."""
    import torch
    from transformers import AutoModelForSequenceClassification

    with quiet():
        model = AutoModelForSequenceClassification.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
        )
    model.config.return_dict = True
    return model.eval()


def export_exact(folder: Path, into: Path) -> None:
    """Write a flat folder's model as fp32 ONNX. CompressionFailed where that does not answer as torch does."""
    layout = read_layout(folder)
    model = load_classifier(folder)
    export(model, layout.tensors, into)
    difference = largest_difference(model, into, layout.tensors)
    if not difference <= TOLERANCE:
        raise CompressionFailed(f"the ONNX export's logits differ from torch's by {difference:g}")


def export(model: Any, tensors: tuple[str, ...], file: Path) -> None:
    """Write the model as ONNX: `tensors` in (batch × sequence, both free), logits out (batch × labels)."""
    import torch

    class Logits(torch.nn.Module):  # type: ignore[misc]  # torch is heavy: mypy skips it
        """Only the logits, by positional tensors."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *values: Any) -> Any:
            return self.model(**dict(zip(tensors, values, strict=True))).logits

    axes = {0: torch.export.Dim("batch", min=1, max=1 << 16), 1: torch.export.Dim("sequence", min=1, max=1 << 16)}
    example = tuple(torch.from_numpy(row) for row in example_tensors(tensors, 2, 8, vocabulary=2, seed=0).values())
    with quiet(), torch.no_grad():
        torch.onnx.export(
            Logits().eval(),
            example,
            str(file),
            input_names=list(tensors),
            output_names=[OUTPUT],
            opset_version=OPSET,
            dynamo=True,
            dynamic_shapes=(tuple(axes for _ in tensors),),
            external_data=False,
            verbose=False,
        )
    strip_traces(file)


def strip_traces(file: Path) -> None:
    """Take out what depends on the machine: stack traces with paths, documentation, the producer's version."""
    import onnx

    model = onnx.load(str(file))
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer, *graph.value_info):
        for field in ("metadata_props", "doc_string"):
            part.ClearField(field)
    for field in ("producer_name", "producer_version", "model_version"):
        model.ClearField(field)
    graph.name = "classifier"
    onnx.checker.check_model(model)
    file.write_bytes(model.SerializeToString(deterministic=True))


def largest_difference(model: Any, file: Path, tensors: tuple[str, ...]) -> float:
    """How far are the ONNX file's logits from torch's on a few random rows of several shapes, padded ones included?"""
    import onnxruntime
    import torch

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    worst = 0.0
    for seed, (batch, length) in enumerate(_CHECKED_SHAPES):
        feed = example_tensors(tensors, batch, length, vocabulary=_vocabulary(model.config), seed=seed)
        _end_as_texts_do(feed, model.config)
        with torch.no_grad():
            expected = model(**{name: torch.from_numpy(value) for name, value in feed.items()}).logits.numpy()
        found = session.run([OUTPUT], feed)[0]
        worst = max(worst, float(np.abs(found - expected).max()) if np.isfinite(found).all() else np.inf)
    return worst


def _vocabulary(config: Any) -> int:
    """How many tokens there are; models that read characters name none, and have these at least."""
    return int(getattr(config.get_text_config(), "vocab_size", 256))


def _end_as_texts_do(feed: Tensors, config: Any) -> None:
    """Each row's last token is the end, where there is one, and none before it; the rest is padding as it comes.

    Some architectures read the class at the only end, and some have zeros for padding, which not every kernel bears.
    """
    ids, is_read = feed["input_ids"], feed["attention_mask"] == 1
    end, pad = (getattr(config.get_text_config(), name, None) for name in ("eos_token_id", "pad_token_id"))
    if isinstance(end, int):
        ids[ids == end] = (end + 1) % _vocabulary(config)
        ids[np.arange(len(ids)), is_read.sum(axis=1) - 1] = end
    if pad is not None:
        ids[~is_read] = pad


def example_tensors(tensors: tuple[str, ...], batch: int, length: int, *, vocabulary: int, seed: int) -> Tensors:
    """Random token ids; the second half of the last row is padding."""
    ids = np.random.default_rng(seed).integers(0, vocabulary, (batch, length), dtype=np.int64)
    mask = np.ones_like(ids)
    mask[-1, max(1, length // 2) :] = 0
    known = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    return {name: known[name] for name in tensors}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps the exporters' warnings, log lines and progress bars off the screen; errors still come through."""
    from transformers.utils import logging as transformers_logging

    loggers = [logging.getLogger(name) for name in _NOISY]
    levels = [logger.level for logger in loggers]
    transformers_logging.disable_progress_bar()
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers_logging.enable_progress_bar()
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
