"""Is everything in a model folder a plain file under a plain name, and is it within the limits?"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipelines.errors import NotFound, UnsafeArtifact


@dataclass(frozen=True)
class FolderLimits:
    """How much a model folder may hold."""

    max_files: int = 2000
    max_depth: int = 8
    max_file_bytes: int = 20 * 2**30
    max_total_bytes: int = 200 * 2**30
    max_text_bytes: int = 64 * 2**20


LIMITS = FolderLimits()

_ENCODED = re.compile(r"%(?:2e|2f|5c|00)", re.IGNORECASE)
_DRIVE = re.compile(r"[A-Za-z]:")


def check_relative(name: str, where: str) -> str:
    """Does this path stay inside the folder on every system? Returns it; UnsafeArtifact E_PATH otherwise."""
    parts = name.split("/")
    is_odd = "\\" in name or "#" in name or not name.isprintable() or _ENCODED.search(name) or _DRIVE.match(name)
    if is_odd or any(part in {"", ".", ".."} for part in parts):
        raise UnsafeArtifact(
            f"the path {name[:120]!r} may leave the artifact root",
            code="E_PATH",
            field=where,
            expected="relative paths of plain names",
            hint="rename the file and register the model again",
        )
    return name


def list_plain_files(folder: Path, limits: FolderLimits = LIMITS) -> dict[str, Path]:
    """Every file by its relative path, once names, types, links and sizes are in order."""
    if folder.is_symlink() or not folder.is_dir():
        raise NotFound(f"there is no folder {folder}", field=str(folder))
    found: dict[str, Path] = {}
    total_bytes = 0
    for entry in _walk(folder, 0, limits):
        name = check_relative(Path(entry.path).relative_to(folder).as_posix(), entry.name)
        total_bytes += _check_file(name, entry.stat(follow_symlinks=False), limits)
        found[name] = Path(entry.path)
        at_most(len(found), limits.max_files, "files", str(folder.name))
        at_most(total_bytes, limits.max_total_bytes, "bytes in all", str(folder.name))
    return dict(sorted(found.items()))


def _walk(folder: Path, depth: int, limits: FolderLimits) -> Iterator[os.DirEntry[str]]:
    at_most(depth, limits.max_depth, "folders deep", folder.name)
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path), depth + 1, limits)
        else:
            yield entry


def _check_file(name: str, status: os.stat_result, limits: FolderLimits) -> int:
    """The file's size, once it is a plain file with one name."""
    if not stat.S_ISREG(status.st_mode):
        raise _wrong_type(name, _kind(status.st_mode))
    if status.st_nlink > 1:
        raise _wrong_type(name, "a hard link: it has another name that could change it")
    at_most(status.st_size, limits.max_file_bytes, "bytes", name)
    return status.st_size


def _kind(mode: int) -> str:
    kinds = ((stat.S_ISLNK, "symbolic link"), (stat.S_ISFIFO, "FIFO"), (stat.S_ISSOCK, "socket"))
    return "a " + next((kind for is_kind, kind in kinds if is_kind(mode)), "device")


def _wrong_type(name: str, kind: str) -> UnsafeArtifact:
    return UnsafeArtifact(
        f"{name} is {kind}",
        code="E_ARTIFACT_TYPE",
        field=name,
        expected="plain files and folders",
        hint="put a copy of the file itself into the model folder",
    )


def at_most(count: int, limit: int, unit: str, name: str) -> None:
    """Raises UnsafeArtifact E_LIMIT where there is more than that."""
    if count > limit:
        raise UnsafeArtifact(
            f"{name} has more than {limit:,} {unit}",
            code="E_LIMIT",
            field=name,
            expected=f"at most {limit:,} {unit}",
            hint="register the model folder alone, without data or checkpoints",
        )
