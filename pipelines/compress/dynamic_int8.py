"""How does a classifier run with 8-bit weights on ONNX Runtime?

Weights of MatMul and Gemm become int8 with one scale a column; activations are quantized while it runs, so no
calibration data is needed. The embedding table stays fp32: it has one scale for all rows, and a single outlier row
would wreck the precision of every other. Int8 sums differ
by CPU: the variant is evaluated again where it will run.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pipelines.compress.onnx_export import OPSET, TOLERANCE, export_exact, quiet, strip_traces
from pipelines.compress.technique import Compressed, CompressionFailed, size_bytes
from pipelines.supply.layout import CONFIG, TOKENIZER_FILES

MODEL_FILE = "model.onnx"
QUANTIZED_OPS = ("MatMul", "Gemm")


class DynamicInt8:
    """Dynamic int8 by ONNX Runtime's own quantizer, from torch's dynamo exporter."""

    name: ClassVar[str] = "dynamic-int8"

    def compress(self, folder: Path, into: Path, facts: Mapping[str, Any]) -> Compressed:
        """Export, check against torch, quantize, and keep the tokenizer and the configuration beside it."""
        shutil.rmtree(into, ignore_errors=True)
        into.mkdir(parents=True)
        try:
            _make_model(folder, into)
        except Exception as error:  # exporters raise anything; the release goes on with the source
            raise CompressionFailed(f"{self.name} of {facts.get('model')}: {_one_line(error)}") from error
        for name in (CONFIG, *TOKENIZER_FILES):
            if (folder / name).is_file():
                shutil.copyfile(folder / name, into / name)
        return Compressed(into, "onnxruntime", _recipe(), size_bytes(into))


def _make_model(folder: Path, into: Path) -> None:
    """Writes the int8 model, once its fp32 export is seen to answer as torch does."""
    exact = into / "exact.onnx"
    export_exact(folder, exact)
    _quantize(exact, into / MODEL_FILE)
    exact.unlink()


def _quantize(exact: Path, into: Path) -> None:
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.quant_utils import add_pre_process_metadata

    model = onnx.load(str(exact))
    add_pre_process_metadata(model)  # torch's exporter has folded constants and inferred shapes already
    with quiet():
        quantize_dynamic(
            model,
            into,
            op_types_to_quantize=list(QUANTIZED_OPS),
            per_channel=True,
            weight_type=QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True},
        )
    strip_traces(into)


def _recipe() -> dict[str, Any]:
    """How it was made, for the bundle's facts: versions that decide the bytes, no time and no machine."""
    from importlib.metadata import version

    return {
        "technique": DynamicInt8.name,
        "file": MODEL_FILE,
        "opset": OPSET,
        "weights": "int8 per channel",
        "quantized_ops": list(QUANTIZED_OPS),
        "kept_fp32": "embeddings, layer norms, biases",
        "export_tolerance": TOLERANCE,
        "made_with": {name: version(name) for name in ("torch", "transformers", "onnx", "onnxruntime")},
    }


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
