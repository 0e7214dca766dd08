"""Answers with transformers on torch: the reference engine, and the one for what is not compressed."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.serving.engines.engine import Logits
from pipelines.serving.engines.tokens import TextTokenizer


class TorchEngine:
    """Implements `Engine` for a folder with safetensors and a config. No code of the model is executed."""

    def __init__(self, folder: Path, facts: Mapping[str, Any], threads: int) -> None:
        import torch
        from transformers import AutoModelForSequenceClassification
        from transformers.utils import logging

        logging.disable_progress_bar()
        if threads:
            torch.set_num_threads(threads)
        self._model = AutoModelForSequenceClassification.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
        ).eval()
        self._inputs = set(inspect.signature(self._model.forward).parameters)
        self._tokenizer = TextTokenizer(folder, int(facts["max_length"]))
        self.labels = tuple(str(label) for label in facts["labels"])

    def predict(self, texts: Sequence[str]) -> Logits:
        """Logits of shape [texts, labels]."""
        import torch

        arrays = self._tokenizer(texts)
        with torch.inference_mode():
            inputs = {k: torch.from_numpy(v) for k, v in arrays.items() if k in self._inputs}
            logits = self._model(**inputs).logits
        return np.asarray(logits.float().numpy(), dtype=np.float32)
