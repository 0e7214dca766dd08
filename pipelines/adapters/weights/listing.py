"""Which files of a place are taken, and is there room for them? Asked before the first byte is copied."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from pipelines.errors import BadInput, DependencyDown, NotFound, UnsafeArtifact
from pipelines.supply.checks.paths import FolderLimits, at_most, check_relative
from pipelines.supply.pointer import is_taken


def taken(listed: Iterable[tuple[str, int]], into: Path, limits: FolderLimits, uri: str) -> dict[str, int]:
    """The files of a listing that Shipway takes, with their sizes. E_PATH, E_LIMIT, E_SPACE, or NotFound for none."""
    found: dict[str, int] = {}
    for name, size in listed:
        if not is_taken(name):
            continue
        at_most(size, limits.max_file_bytes, "bytes", check_relative(name, "weights"))
        found[name] = size
        at_most(len(found), limits.max_files, "files", uri)
    total = sum(found.values())
    at_most(total, limits.max_total_bytes, "bytes in all", uri)
    if not found:
        raise NotFound(
            f"{uri} holds no files that Shipway takes",
            field="weights",
            expected="safetensors, JSON and tokenizer files at its root, or as mlflow.transformers writes them",
        )
    if total > shutil.disk_usage(into).free:
        raise DependencyDown(
            f"{uri} holds {total / 1e9:.1f} GB, and less is free in {into}",
            code="E_SPACE",
            field="weights",
            hint="make room, or set TMPDIR to a folder on a larger disk",
        )
    return found


def undeclared(host: str, kind: str, variable: str) -> BadInput:
    """The error for a host, or a bucket, from which whoever runs Shipway takes no weights."""
    return BadInput(
        f"{host} is no {kind} that weights are taken from",
        code="E_POINTER",
        field="weights",
        expected=f"a {kind} that is declared",
        hint=f"who runs Shipway sets {variable}={host}",
    )


def place_of(name: str, into: Path) -> Path:
    """Where a taken file is written; its folder is there then."""
    file = into / name
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


def other_size(name: str, size: int, uri: str) -> UnsafeArtifact:
    """The error for a file that is not as large as its place says."""
    return UnsafeArtifact(
        f"{name} at {uri} is not of {size:,} bytes, as was said of it",
        code="E_DIGEST",
        field=name,
        expected="files that do not change while they are copied",
    )
