"""How does a model whose files lie elsewhere get a version? By what is there now, read and scanned before."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from pipelines.adapters.registry_rules import check_model_name
from pipelines.ports import WEIGHTS_TAG, RegisteredVersion, Registry, Weights
from pipelines.stages.pointed import fetch_weights
from pipelines.supply.pointer import Pointer, parse_uri
from pipelines.supply.scan import scan


def point_at(
    name: str, uri: str, weights: Weights, registry: Callable[[], Registry]
) -> tuple[RegisteredVersion, Pointer]:
    """The version that points there, the one that does so already or a new one; the registry is opened last."""
    check_model_name(name)
    parse_uri(uri)
    with tempfile.TemporaryDirectory(prefix="shipway-") as work:
        folder = Path(work) / "pointed"
        pointer = Pointer(uri, fetch_weights(uri, weights, folder))
        scan(folder)
        said = pointer.write(Path(work) / "pointer")
        return registry().register(name, said, {WEIGHTS_TAG: pointer.said()}), pointer
