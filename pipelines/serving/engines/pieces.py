"""How is a request of many texts answered with the memory of a few?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from pipelines.serving.engines.engine import Logits
from pipelines.serving.engines.tokens import Ids, TextTokenizer


def in_pieces(tokenizer: TextTokenizer, texts: Sequence[str], answer: Callable[[Mapping[str, Ids]], Logits]) -> Logits:
    """Logits of shape [texts, labels] in the order of the texts, each piece answered for itself."""
    rows: list[int] = []
    logits: list[Logits] = []
    for piece, arrays in tokenizer.pieces(texts):
        rows.extend(piece)
        logits.append(answer(arrays))
    found = np.concatenate(logits)
    ordered = np.empty_like(found)
    ordered[rows] = found
    return ordered
