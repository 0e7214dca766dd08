"""What is a way to make a model smaller or faster?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


class CompressionFailed(RuntimeError):
    """This technique cannot make a variant of this model; the reason says why."""


@dataclass(frozen=True)
class Compressed:
    """A variant that can be sealed: its files, the engine that runs them, and how they were made."""

    folder: Path
    engine: str
    recipe: Mapping[str, Any]
    size_bytes: int
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What its engine has to be told besides."""


class Technique(Protocol):
    """One way. `name` is the variant's name in facts, tags and the record."""

    @property
    def name(self) -> str:
        """Such as `dynamic-int8`."""
        ...

    def compress(self, folder: Path, into: Path, facts: Mapping[str, Any]) -> Compressed:
        """Make the variant of a flat model folder in `into`. The same folder gives the same bytes.

        `facts` are those of the source's bundle. Raises CompressionFailed where it does not work.
        """
        ...


def size_bytes(folder: Path) -> int:
    """How large is everything in a folder?"""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
