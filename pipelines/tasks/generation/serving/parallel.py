"""Over how many devices must a language model be spread, and does it fit on them?

Counted from bytes and links, and only ever proposed: tensor parallelism adds up in another order, so that logits differ
(by 6.7 % of their size where it was measured, transformers 5.17 on two H200), and is a part of what is released. Stages
of a pipeline inside one host are never proposed: their answers are the same to the bit, and one stage waits for the
other (1.8 times slower with one stream in the same measurement).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.errors import BadInput
from pipelines.spec.engine import ParallelSpec
from pipelines.tasks.memory import Device, shown

UTILIZATION, USUAL_UTILIZATION = "gpu-memory-utilization", 0.9
"""The part of a device that vLLM takes (0.26: 0.9, 0.32: 0.92)."""

BYTES = {"float32": 4.0, "float16": 2.0, "bfloat16": 2.0, "fp8": 1.0}
"""Of one number. A quantization that is not named here is not counted."""


@dataclass(frozen=True)
class DeviceLoad:
    """What an engine must hold: bytes of all `weights`, and of the `cache` of one conversation as long as its context.

    Without room for that cache it does not start. Devices are dealt whole `heads`; where there are more of them than
    heads that are kept (`kept_heads`), some keep the same ones.
    """

    weights: int
    cache: int
    heads: int
    kept_heads: int

    @classmethod
    def of(cls, numbers: int, token: int, heads: tuple[int, int], facts: Mapping[str, Any]) -> DeviceLoad | None:
        """Of so many numbers, and bytes of a token in the cache in 16 bits; None where that cannot be counted."""
        flags = facts["flags"]
        precision = str(flags.get("quantization") or facts["precision"])
        if precision not in BYTES or not token or not all(heads):
            return None
        kept = token // 2 if str(flags.get("kv-cache-dtype", "")).startswith("fp8") else token
        return cls(int(numbers * BYTES[precision]), kept * int(facts["context"]), *heads)

    def each(self, tensor: int, pipeline: int = 1) -> int:
        """Bytes on each device."""
        return -(-self.weights // (tensor * pipeline)) - (-self.cache // (min(tensor, self.kept_heads) * pipeline))

    def sentence(self, tensor: int, pipeline: int) -> str:
        """For a person."""
        where = f", {shown(self.each(tensor, pipeline))} on each of {tensor * pipeline} devices"
        together = f"{shown(self.weights)} weights + {shown(self.cache)} cache for one conversation"
        return together + (where if tensor * pipeline > 1 else " on one device")


def proposed(load: DeviceLoad, devices: Sequence[Device], flags: Mapping[str, Any], replicas: int = 1) -> int | None:
    """The least tensor parallelism with which every replica fits; None where none does."""
    for tensor in range(1, len(devices) // replicas + 1):
        fitting = sum(room_of(device, flags) >= load.each(tensor) for device in devices)
        if load.heads % tensor == 0 and fitting >= tensor * replicas:
            return tensor
    return None


def check_spread(
    load: DeviceLoad, devices: Sequence[Device], flags: Mapping[str, Any], parallel: ParallelSpec
) -> tuple[str, ...]:
    """What `plan` says of it. BadInput E_ENGINE or E_MEMORY where it cannot be so, with what could be."""
    tensor, pipeline, number = parallel.tensor, parallel.pipeline, parallel.devices
    better = proposed(load, devices, flags, parallel.replicas)
    fit = f"serve.parallel: {_words(better, parallel.replicas)} would fit" if better else ""
    if load.heads % tensor:
        reason = f"{load.heads} heads are not dealt out to {tensor} devices"
        raise BadInput(reason, code="E_ENGINE", field="serve.parallel.tensor", hint=fit or None)
    if number > len(devices):
        reason = f"serve.parallel takes {number} devices, and there are {len(devices)}"
        raise BadInput(reason, code="E_ENGINE", field="serve.parallel", hint=fit or "more devices")
    room = sorted((room_of(device, flags) for device in devices), reverse=True)[number - 1]
    if room < load.each(tensor, pipeline):
        reason = f"{load.sentence(tensor, pipeline)}, and {shown(room)} of one may be taken"
        hint = f"{fit}; its answers differ a little, so it is judged as a part of the release" if fit else NOTHING_FITS
        raise BadInput(reason, code="E_MEMORY", field="serve.parallel", expected="what fits", hint=hint)
    said = [load.sentence(tensor, pipeline)]
    if tensor > 1:
        said.append(_links(devices, tensor))
    if pipeline > 1:
        said.append("stages in one host wait for each other: 1.8 times slower than one device where it was measured")
    if better and better < tensor * pipeline:
        said.append(fit)
    return tuple(said)


NOTHING_FITS = "a shorter max-model-len, quantization: fp8, another gpu-memory-utilization, or more devices"


def room_of(device: Device, flags: Mapping[str, Any]) -> int:
    """The bytes of a device that an engine takes; none where others hold so much of it that it does not start."""
    said = flags.get(UTILIZATION, USUAL_UTILIZATION)
    taken = int(device.memory * (said if isinstance(said, int | float) else USUAL_UTILIZATION))
    return taken if taken <= device.free else 0


def _links(devices: Sequence[Device], tensor: int) -> str:
    is_close = any(len(device.near) + 1 >= tensor for device in devices)
    return "joined by NVLink" if is_close else "not joined by NVLink, and every token waits for what joins them"


def _words(tensor: int, replicas: int) -> str:
    return f"{{tensor: {tensor}, replicas: {replicas}}}" if replicas > 1 else f"{{tensor: {tensor}}}"
