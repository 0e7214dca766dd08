"""Weights that lie nowhere: files by place, for tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pipelines.adapters.weights.listing import place_of, taken
from pipelines.errors import NotFound
from pipelines.supply.checks.paths import FolderLimits


@dataclass
class MemoryWeights:
    """Implements `ports.Weights`: `held` says which files lie at which place."""

    held: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def fetch(self, uri: str, into: Path, limits: FolderLimits) -> None:
        """Write what lies there."""
        if uri not in self.held:
            raise NotFound(f"{uri} is not there", field="weights")
        files = self.held[uri]
        for name in taken(((name, len(data)) for name, data in files.items()), into, limits, uri):
            place_of(name, into).write_bytes(files[name])
