"""Is a model folder safe to copy, to read and to serve?

The order matters for the reason that a person reads: names and types first, then code, then kinds, then contents.
Nothing is loaded or executed; the folder is left as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pipelines.errors import UnsafeArtifact
from pipelines.supply.checks import content
from pipelines.supply.checks.configuration import check_configuration
from pipelines.supply.checks.mlmodel import check_mlmodel, read_requirements
from pipelines.supply.checks.model_json import check_asks_no_code, load_json
from pipelines.supply.checks.paths import LIMITS, FolderLimits, check_relative, list_plain_files
from pipelines.supply.checks.safetensors import Tensor, check_safetensors
from pipelines.supply.checks.shapes import check_shapes
from pipelines.supply.checks.template import check_template, templates_of

INDEX = ".safetensors.index.json"


@dataclass(frozen=True)
class ScanReport:
    """What a folder holds: files that may be used, the Trainer's leftovers that may not, and what to record."""

    files: tuple[str, ...]
    left_behind: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def scan(folder: Path, limits: FolderLimits = LIMITS, kept: Path | None = None) -> ScanReport:
    """What is in the folder, if it is safe? UnsafeArtifact names the file and the reason otherwise.

    What libraries answered about such files before is looked up, and kept, in the private folder `kept`.
    """
    found = list_plain_files(folder, limits)
    left_behind = tuple(name for name in found if content.is_leftover(name))
    files = {name: file for name, file in found.items() if name not in left_behind}
    notes = _check_mlmodels(files, limits)
    for name, file in files.items():
        content.check_name(name)
        content.check_content(name, file)
    parsed = {name: _check_json(name, file, limits) for name, file in files.items() if file.suffix.lower() == ".json"}
    requirements = _check_texts(files, limits)
    _check_weights(files, parsed, kept)
    notes += tuple(f"left behind: {name}" for name in left_behind)
    return ScanReport(tuple(files), left_behind, requirements, notes)


def _check_mlmodels(files: Mapping[str, Path], limits: FolderLimits) -> tuple[str, ...]:
    notes = []
    for name, file in files.items():
        if PurePosixPath(name).name == "MLmodel":
            content.check_text(name, file, limits.max_text_bytes)
            notes.append(f"{name}: flavours {', '.join(check_mlmodel(name, file))}")
    return tuple(notes)


def _check_json(name: str, file: Path, limits: FolderLimits) -> Any:
    value = load_json(name, file, limits.max_text_bytes)
    check_asks_no_code(name, value)
    for template in templates_of(value):
        check_template(name, template)
    return value


def _check_texts(files: Mapping[str, Path], limits: FolderLimits) -> tuple[str, ...]:
    """Checks what is read as text, and returns the recorded requirements."""
    requirements: tuple[str, ...] = ()
    for name, file in files.items():
        if file.suffix.lower() in content.WEIGHTS | content.JSON_NAMES | content.SENTENCEPIECE:
            continue
        content.check_text(name, file, limits.max_text_bytes)
        if file.suffix == ".jinja":
            check_template(name, file.read_text("utf-8"))
        if file.name == "requirements.txt":
            requirements += read_requirements(name, file)
    return requirements


def _check_weights(files: Mapping[str, Path], parsed: Mapping[str, Any], kept: Path | None) -> None:
    weights = {
        name: check_safetensors(name, file) for name, file in files.items() if file.suffix.lower() in content.WEIGHTS
    }
    if not weights:
        raise UnsafeArtifact("the folder holds no weights", field="model.safetensors", expected="a .safetensors file")
    for name, index in parsed.items():
        if name.endswith(INDEX):
            _check_index(name, index, weights)
    for name in ("config.json", "model/config.json"):
        if isinstance(parsed.get(name), dict):
            check_configuration(parsed[name])
            tensors = _loaded_with(PurePosixPath(name).parent, parsed, weights)
            if tensors:
                check_shapes(name, tensors, parsed[name], kept)
            return  # what lies deeper is another module's, of which nothing is taken


def _loaded_with(
    folder: PurePosixPath, parsed: Mapping[str, Any], weights: Mapping[str, tuple[Tensor, ...]]
) -> tuple[Tensor, ...]:
    """The tensors that are loaded with the configuration of a folder: of one file, or of the shards of its index."""
    one = (folder / "model.safetensors").as_posix()
    if one in weights:
        return weights[one]
    index = parsed.get((folder / f"model{INDEX}").as_posix()) or {"weight_map": {}}
    shards = sorted({(folder / shard).as_posix() for shard in index["weight_map"].values()})
    return tuple(tensor for shard in shards for tensor in weights[shard])


def _check_index(name: str, index: Any, weights: Mapping[str, tuple[Tensor, ...]]) -> None:
    """Is every tensor where the index of a sharded model says?"""
    where = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(where, dict):
        raise UnsafeArtifact(f"{name} has no weight_map", code="E_CONFIG_MISMATCH", field="weight_map")
    held = {shard: {tensor.name for tensor in tensors} for shard, tensors in weights.items()}
    for tensor, shard in where.items():
        if not isinstance(shard, str):
            raise UnsafeArtifact(
                f"{name}: the shard of {tensor[:80]} is no file's name", code="E_CONFIG_MISMATCH", field="weight_map"
            )
        beside = PurePosixPath(name).parent / check_relative(shard, "weight_map")
        if tensor not in held.get(beside.as_posix(), ()):
            raise UnsafeArtifact(
                f"{name}: the tensor {tensor[:80]} is not in {shard}", code="E_CONFIG_MISMATCH", field="weight_map"
            )
