"""Answers with transformers on torch: the reference engine, and the one for what is not compressed."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.serving.engines.engine import Logits
from pipelines.serving.engines.pieces import in_pieces
from pipelines.serving.engines.tokens import Ids, TextTokenizer
from pipelines.supply.tensors import tensors_of


@cache
def _usual_threads() -> int:
    """What torch chooses by itself; asked before it is told otherwise, which holds for the whole process."""
    import torch

    return int(torch.get_num_threads())


class TorchEngine:
    """Implements `Engine` for a folder with safetensors and a config. No code of the model is executed."""

    def __init__(self, folder: Path, facts: Mapping[str, Any], threads: int) -> None:
        import torch
        from transformers import AutoModelForSequenceClassification
        from transformers.utils import logging

        logging.disable_progress_bar()
        usual = _usual_threads()
        torch.set_num_threads(threads or usual)
        self._model = AutoModelForSequenceClassification.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
        ).eval()
        self._model.config.return_dict = True  # whatever was saved: what is answered has names here
        accepted = inspect.signature(self._model.forward).parameters
        config = json.loads((folder / "config.json").read_bytes())
        self._inputs = [name for name in tensors_of(config) if name in accepted]
        self._tokenizer = TextTokenizer(folder, int(facts["max_length"]))

    def predict(self, texts: Sequence[str], *, whole: bool = False) -> Logits:
        """Logits of shape [texts, labels]."""
        if whole:
            return self._answer(self._tokenizer(texts))
        return in_pieces(self._tokenizer, texts, self._answer)

    def _answer(self, arrays: Mapping[str, Ids]) -> Logits:
        import torch

        with torch.inference_mode():
            logits = self._model(**{name: torch.from_numpy(arrays[name]) for name in self._inputs}).logits
        return np.asarray(logits.float().numpy(), dtype=np.float32)
