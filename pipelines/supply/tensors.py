"""Which tensors does a network take?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def tensors_of(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The tensors by a model's configuration: models with one kind of segment have no use for segment numbers.

    Some take them all the same, and look them up in the table of words: zeros are then another answer than none
    (https://github.com/huggingface/transformers/issues/5546).
    """
    has_segments = int(config.get("type_vocab_size") or 0) >= 2
    return ("input_ids", "attention_mask", *(("token_type_ids",) if has_segments else ()))
