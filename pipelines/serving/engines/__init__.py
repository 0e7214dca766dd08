"""Which engine answers for a bundle? One file an engine; all speak texts in, logits out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from pipelines.errors import BadInput

Logits = npt.NDArray[np.float32]

ENGINES = ("onnxruntime", "torch")


class Backend(Protocol):
    """A loaded model."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels in the order of the logits."""
        ...

    def predict(self, texts: Sequence[str]) -> Logits:
        """Logits of shape [texts, labels]."""
        ...


def load_backend(folder: Path, facts: Mapping[str, Any], threads: int = 0) -> Backend:
    """The engine that `facts["engine"]` names, with the folder's model. `threads` 0 lets the engine choose."""
    engine = facts["engine"]
    if engine == "onnxruntime":
        from pipelines.serving.engines.onnxruntime import OnnxRuntimeBackend

        return OnnxRuntimeBackend(folder, facts, threads)
    if engine == "torch":
        from pipelines.serving.engines.torch import TorchBackend

        return TorchBackend(folder, facts, threads)
    raise BadInput(f"the engine {engine!r} is not known", code="E_ENGINE", expected=", ".join(ENGINES))
