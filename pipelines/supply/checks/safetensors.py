"""Does a safetensors file hold exactly the tensors that its header says, and are they finite?

The header is parsed here and not only by the library: two tensors under one name, holes and trailing bytes are what a
second reader may see differently. Values are judged by their bits, in chunks through a memory map, so that half and
8-bit floats need no further library. Format: https://huggingface.co/docs/safetensors (Format).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.errors import UnsafeArtifact
from pipelines.supply.checks.strict_json import parse_strict

MAX_HEADER_BYTES = 100_000_000
_CHUNK_VALUES = 1 << 22
_LENGTH_BYTES = 8


@dataclass(frozen=True)
class Float:
    """How one float format lays out its bits: all `nonfinite` bits set mean NaN or Inf, `sign` is the top bit."""

    unsigned: str
    nonfinite: int
    sign: int


FLOATS: Mapping[str, Float] = {
    "F64": Float("<u8", 0x7FF0_0000_0000_0000, 1 << 63),
    "F32": Float("<u4", 0x7F80_0000, 1 << 31),
    "F16": Float("<u2", 0x7C00, 1 << 15),
    "BF16": Float("<u2", 0x7F80, 1 << 15),
    "F8_E5M2": Float("<u1", 0x7C, 1 << 7),
    "F8_E4M3": Float("<u1", 0x7F, 1 << 7),
}
WIDTHS: Mapping[str, int] = {
    **{name: int(layout.unsigned[-1]) for name, layout in FLOATS.items()},
    **dict.fromkeys(("I64", "U64"), 8),
    **dict.fromkeys(("I32", "U32"), 4),
    **dict.fromkeys(("I16", "U16"), 2),
    **dict.fromkeys(("I8", "U8", "BOOL"), 1),
}
UNSUPPORTED = frozenset({"F4", "F6_E2M3", "F6_E3M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "C64"})
"""Of the format, whose values nothing here can judge or serve (safetensors 0.8, `Dtype`)."""

MAY_BE_ZERO = ("token_type_embeddings", "position_ids", "lora_B", "_integer", "mm_input_projection_weight")
"""Matrices that are all zero in good models: a single unused segment, buffers, what was not trained and is not asked.

So are biases, which some architectures save for several heads or experts at once."""


@dataclass(frozen=True)
class Tensor:
    """One entry of the header; `begin` and `end` count bytes from the start of the data."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def check_safetensors(name: str, file: Path) -> tuple[Tensor, ...]:
    """The tensors of a file, once its header is true and its values are finite."""
    start, tensors = read_header(name, file)
    _check_with_library(name, file)
    for tensor in tensors:
        if tensor.dtype in FLOATS and tensor.end > tensor.begin:
            _check_values(file, start, tensor)
    return tensors


def read_header(name: str, file: Path) -> tuple[int, tuple[Tensor, ...]]:
    """Where the data starts, and the tensors in the order of their bytes. E_SAFETENSORS where the header is wrong."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        raw_length = opened.read(_LENGTH_BYTES)
        length = struct.unpack("<Q", raw_length)[0] if len(raw_length) == _LENGTH_BYTES else 0
        if not 2 <= length <= min(MAX_HEADER_BYTES, size - _LENGTH_BYTES):
            raise _bad(name, f"its header claims {length:,} bytes in a file of {size:,}: truncated or not safetensors")
        raw = opened.read(length)
    start = _LENGTH_BYTES + length
    tensors = sorted(_entries(name, raw), key=lambda tensor: (tensor.begin, tensor.end))
    _check_layout(name, tensors, size - start)
    return start, tuple(tensors)


def _entries(name: str, raw: bytes) -> list[Tensor]:
    try:
        header = parse_strict(raw.rstrip(b" "))
    except ValueError as error:
        text = str(error)
        raise _bad(name, text.replace("duplicate key", "duplicate tensor") if "duplicate" in text else text) from error
    if not isinstance(header, dict):
        raise _bad(name, "its header is not an object")
    return [_entry(name, key, value) for key, value in header.items() if key != "__metadata__"]


def _entry(name: str, key: str, value: Any) -> Tensor:
    try:
        begin, end = value["data_offsets"]
        tensor = Tensor(key, value["dtype"], tuple(value["shape"]), begin, end)
    except (KeyError, TypeError, ValueError) as error:
        raise _bad(name, f"tensor {key[:80]!r} lacks dtype, shape or data_offsets") from error
    if not isinstance(tensor.dtype, str):
        raise _bad(name, f"tensor {key[:80]!r} has a dtype that is no text")
    if tensor.dtype in UNSUPPORTED:
        raise _unsupported(name, tensor)
    whole = (*tensor.shape, begin, end)
    if tensor.dtype not in WIDTHS or any(type(n) is not int or not 0 <= n < 1 << 62 for n in whole):
        raise _bad(name, f"tensor {key[:80]!r} has dtype {str(tensor.dtype)[:20]!r} or numbers that are not known")
    if end - begin != math.prod(tensor.shape) * WIDTHS[tensor.dtype]:
        raise _bad(name, f"tensor {key[:80]!r} of shape {tensor.shape} does not fill its {end - begin:,} bytes")
    return tensor


def _check_layout(name: str, tensors: list[Tensor], data_bytes: int) -> None:
    """Is every byte of the data in exactly one tensor?"""
    at = 0
    for tensor in tensors:
        if tensor.begin != at:
            problem = "overlaps the one before" if tensor.begin < at else "leaves a hole before it"
            raise _bad(name, f"tensor {tensor.name[:80]!r} {problem}")
        at = tensor.end
    if at != data_bytes:
        problem = "truncated" if at > data_bytes else "trailing bytes"
        raise _bad(name, f"{problem}: its tensors need {at:,} bytes and the file has {data_bytes:,}")


def _check_with_library(name: str, file: Path) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy"):
            pass
    except (SafetensorError, OSError) as error:
        raise _bad(name, str(error)) from error


def _check_values(file: Path, start: int, tensor: Tensor) -> None:
    layout = FLOATS[tensor.dtype]
    count = (tensor.end - tensor.begin) // WIDTHS[tensor.dtype]
    bits: npt.NDArray[Any] = np.memmap(file, layout.unsigned, "r", offset=start + tensor.begin, shape=(count,))
    is_zero = True
    for first in range(0, count, _CHUNK_VALUES):
        chunk = bits[first : first + _CHUNK_VALUES]
        mask = chunk.dtype.type(layout.nonfinite)
        if ((chunk & mask) == mask).any():
            raise _bad_weights(tensor, "holds NaN or Inf")
        is_zero = is_zero and not (chunk & ~chunk.dtype.type(layout.sign)).any()
    if is_zero and len(tensor.shape) >= 2 and not _may_be_zero(tensor.name):
        raise _bad_weights(tensor, "is all zero")


def _may_be_zero(name: str) -> bool:
    return name.endswith("bias") or any(known in name for known in MAY_BE_ZERO)


def _bad_weights(tensor: Tensor, problem: str) -> UnsafeArtifact:
    return UnsafeArtifact(
        f"the tensor {tensor.name[:120]} {problem}",
        code="E_WEIGHTS_NONFINITE",
        field=tensor.name,
        expected="finite weights, and no matrix of zeros",
        hint="look at the training run: it diverged, or the weights were not loaded before saving",
    )


def _unsupported(name: str, tensor: Tensor) -> UnsafeArtifact:
    return UnsafeArtifact(
        f"{name}: the dtype {tensor.dtype} of tensor {tensor.name[:80]!r} is not supported",
        code="E_SAFETENSORS",
        field=name,
        expected=f"one of {', '.join(WIDTHS)}",
        hint="save the model in float32, float16 or bfloat16",
    )


def _bad(name: str, reason: str) -> UnsafeArtifact:
    return UnsafeArtifact(
        f"{name}: {reason}"[:300],
        code="E_SAFETENSORS",
        field=name,
        expected="a whole safetensors file",
        hint="upload it again, or save the model again with safe_serialization=True",
    )
