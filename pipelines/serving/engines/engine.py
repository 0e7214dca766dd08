"""What can an engine do with a bundle? All speak texts in, logits out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

Logits = npt.NDArray[np.float32]


class Engine(Protocol):
    """A loaded model."""

    def predict(self, texts: Sequence[str], *, whole: bool = False) -> Logits:
        """Logits of shape [texts, labels], in pieces of bounded memory, or all texts as one batch.

        NoTokens names the first text of which the tokenizer leaves nothing.
        """
        ...
