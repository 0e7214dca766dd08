"""What do callers of a server send and get, where one engine answers all rows of a request at once?

The server knows paths, threads and errors; what a body holds and what is written of an answer is the task's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


class NotFinite(Exception):
    """The model answered with NaN or infinity."""


@dataclass(frozen=True)
class Door:
    """A path that rows are posted to: `read` takes them from a body's JSON, `write` makes an answer of the outputs.

    `read` raises BadInput where they are none; `write` raises NotFinite.
    """

    path: str
    read: Callable[[Any], Sequence[Any]]
    write: Callable[[Any], bytes]


class Wire(Protocol):
    """What the callers of one model send and get."""

    @property
    def tried(self) -> Sequence[Any]:
        """Rows that are asked before a server is ready."""
        ...

    def check(self, outputs: Any) -> None:
        """BadInput E_CONFIG_MISMATCH where the answer to `tried` is none of such a model."""
        ...

    def doors(self, model: str, version: str) -> tuple[Door, ...]:
        """Where it is asked under this name, in the words of which protocols."""
        ...

    def tensors(self) -> Mapping[str, Any]:
        """`inputs` and `outputs`, as the Open Inference Protocol describes a model."""
        ...

    def headers(self, outputs: Any) -> Mapping[str, str]:
        """What a gateway may see of an answer without reading its body."""
        ...
