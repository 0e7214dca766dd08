"""Answers with ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.serving.engines.engine import Logits
from pipelines.serving.engines.pieces import in_pieces
from pipelines.serving.engines.tokens import Ids, TextTokenizer


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
        # A large request must not set the memory for good: its arena is given back after each piece.
        self._run_options = onnxruntime.RunOptions()
        self._run_options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        self._inputs = {i.name for i in self._session.get_inputs()}
        self._tokenizer = TextTokenizer(folder, int(facts["max_length"]))

    def predict(self, texts: Sequence[str], *, whole: bool = False) -> Logits:
        """Logits of shape [texts, labels]."""
        if whole:
            return self._answer(self._tokenizer(texts))
        return in_pieces(self._tokenizer, texts, self._answer)

    def _answer(self, arrays: Mapping[str, Ids]) -> Logits:
        feed = {name: value for name, value in arrays.items() if name in self._inputs}
        return np.asarray(self._session.run(None, feed, self._run_options)[0], dtype=np.float32)
