"""How do texts become arrays of token ids? By the model's own tokenizer file, without transformers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

Ids = npt.NDArray[np.int64]


class TextTokenizer:
    """Truncates to the model's context and pads to the longest text of a batch."""

    def __init__(self, folder: Path, max_length: int) -> None:
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        config = json.loads((folder / "config.json").read_text())
        pad_id = int(config.get("pad_token_id") or 0)
        self._tokenizer.enable_truncation(max_length)
        self._tokenizer.enable_padding(pad_id=pad_id, pad_token=self._tokenizer.id_to_token(pad_id) or "[PAD]")

    def __call__(self, texts: Sequence[str]) -> dict[str, Ids]:
        """`input_ids`, `attention_mask` and `token_type_ids`, each of shape [texts, longest]."""
        encoded = self._tokenizer.encode_batch(list(texts))
        return {
            "input_ids": np.array([e.ids for e in encoded], dtype=np.int64),
            "attention_mask": np.array([e.attention_mask for e in encoded], dtype=np.int64),
            "token_type_ids": np.array([e.type_ids for e in encoded], dtype=np.int64),
        }
