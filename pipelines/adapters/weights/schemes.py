"""Which adapter fetches from which kind of place?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipelines.errors import BadInput
from pipelines.ports import Weights
from pipelines.supply.checks.paths import FolderLimits
from pipelines.supply.pointer import parse_uri


class SchemeWeights:
    """Implements `ports.Weights` by one adapter for each scheme."""

    def __init__(self, adapters: Mapping[str, Weights]) -> None:
        self._adapters = adapters

    def fetch(self, uri: str, into: Path, limits: FolderLimits) -> None:
        """Fetch by the adapter of the URI's scheme. BadInput E_POINTER where there is none."""
        scheme = parse_uri(uri).scheme
        adapter = self._adapters.get(scheme)
        if adapter is None:
            raise BadInput(
                f"Shipway does not read {scheme}:// by itself",
                code="E_POINTER",
                field="weights",
                expected=", ".join(f"{known}://" for known in sorted(self._adapters)),
                hint="mount it as a folder, name the folder in SHIPWAY_MOUNTS, and point at file:///FOLDER",
            )
        adapter.fetch(uri, into, limits)
