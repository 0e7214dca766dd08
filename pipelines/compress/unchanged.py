"""How does a model run on an engine that reads what was registered? As it is."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.compress.technique import Compressed, size_bytes
from pipelines.supply.bundle import artifact_digest


@dataclass(frozen=True)
class Unchanged:
    """The source's own files, for another engine: the same gates judge what it makes of them."""

    engine: str

    @property
    def name(self) -> str:
        """What the files are."""
        return "safetensors"

    def compress(self, folder: Path, into: Path, facts: Mapping[str, Any]) -> Compressed:  # noqa: ARG002  nothing is made
        """The same files once more, without their bytes where the disk can do that."""
        shutil.rmtree(into, ignore_errors=True)
        shutil.copytree(folder, into, copy_function=_link)
        recipe = {"technique": self.name, "source": artifact_digest(folder)}
        return Compressed(into, self.engine, recipe, size_bytes(into))


def _link(file: str, copy: str) -> None:
    try:
        os.link(file, copy)
    except OSError:
        shutil.copyfile(file, copy)
