"""Answers with ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.serving.engines.engine import Logits
from pipelines.serving.engines.tokens import TextTokenizer


class OnnxRuntimeEngine:
    """Implements `Engine` for a bundle with `model.onnx`."""

    def __init__(self, folder: Path, facts: Mapping[str, Any], threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        # Spinning threads would take the cores from the other arm between requests.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        providers = ["CPUExecutionProvider"]
        self._session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=providers)
        self._inputs = {i.name for i in self._session.get_inputs()}
        self._tokenizer = TextTokenizer(folder, int(facts["max_length"]))
        self.labels = tuple(str(label) for label in facts["labels"])

    def predict(self, texts: Sequence[str]) -> Logits:
        """Logits of shape [texts, labels]."""
        arrays = self._tokenizer(texts)
        outputs = self._session.run(None, {k: v for k, v in arrays.items() if k in self._inputs})
        return np.asarray(outputs[0], dtype=np.float32)
