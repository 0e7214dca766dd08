"""Which engine answers for a bundle? One file an engine: texts in, logits out; or a stream (`streaming.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.errors import BadInput
from pipelines.serving.engines.engine import Engine
from pipelines.serving.engines.streaming import EnginePlace, StreamingEngine

ENGINES = ("onnxruntime", "torch")
STREAMING = ("llamacpp", "vllm")


def load_engine(folder: Path, facts: Mapping[str, Any], threads: int = 0) -> Engine:
    """The engine that `facts["engine"]` names, with the folder's model. `threads` 0 lets the engine choose."""
    engine = facts["engine"]
    if engine == "onnxruntime":
        from pipelines.serving.engines.onnxruntime import OnnxRuntimeEngine

        return OnnxRuntimeEngine(folder, facts, threads)
    if engine == "torch":
        from pipelines.serving.engines.torch import TorchEngine

        return TorchEngine(folder, facts, threads)
    raise BadInput(f"the engine {engine!r} is not known", code="E_ENGINE", expected=", ".join(ENGINES))


def streaming_engine(folder: Path, facts: Mapping[str, Any], place: EnginePlace, name: str) -> StreamingEngine:
    """The engine that `facts["engine"]` names, for the folder's model; it does not run yet, and calls itself `name`."""
    engine = facts["engine"]
    if engine == "llamacpp":
        from pipelines.serving.engines.llamacpp import LlamaCppEngine

        return LlamaCppEngine(folder, facts, place.threads, name)
    if engine == "vllm":
        if place.at.startswith("http"):
            from pipelines.serving.engines.endpoint import EndpointEngine

            return EndpointEngine(folder, facts, place, name)
        if place.is_image:
            from pipelines.serving.engines.vllm_image import ContainedVllm

            return ContainedVllm(folder, facts, place, name)
        from pipelines.serving.engines.vllm import VllmEngine

        return VllmEngine(folder, facts, place, name)
    raise BadInput(f"the engine {engine!r} is not known", code="E_ENGINE", expected=", ".join(STREAMING))
