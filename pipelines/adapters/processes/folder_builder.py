"""How is a release packed without a container? As a content-addressed folder in a store on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.errors import DependencyDown
from pipelines.ports import Bundle
from pipelines.supply.bundle import list_files, seal


class FolderBuilder:
    """Builder on a folder of bundles. The bundle is the build context of `docker/serving.Dockerfile` too."""

    def __init__(self, store: Path) -> None:
        self._store = store

    def build(self, folder: Path, facts: Mapping[str, Any]) -> Bundle:
        """Seal the folder; the same files and facts give the same digest and are built once."""
        try:
            digest, path = seal(folder, facts, self._store)
        except OSError as error:
            raise DependencyDown(
                f"cannot seal a bundle in {self._store}: {error.strerror}",
                code="E_HOME",
                field=str(self._store),
                hint="free some space, or set SHIPWAY_HOME to another disk",
            ) from error
        size_bytes = sum(file.stat().st_size for file in list_files(path).values())
        return Bundle(digest, path, str(facts["engine"]), size_bytes)
