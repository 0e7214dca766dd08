"""Weights in a folder of this machine: a volume that is mounted, or a disk that several machines share.

Only folders that the operator names are read. A link is followed where it stays in one of them (the Hub's own cache is
made of links); what was opened is asked where it lies, so that nobody changes a link in between.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipelines.adapters.weights.listing import other_size, place_of, taken
from pipelines.errors import BadInput, DependencyDown, NotFound, UnsafeArtifact
from pipelines.supply.checks.paths import FolderLimits
from pipelines.supply.pointer import TAKEN_FROM, is_taken, parse_uri

_CHUNK = 1 << 20


class MountedWeights:
    """Implements `ports.Weights` for `file://`, inside of `mounts`."""

    def __init__(self, mounts: Sequence[Path]) -> None:
        self._mounts = tuple(mounts)

    def fetch(self, uri: str, into: Path, limits: FolderLimits) -> None:
        """Copy what a folder holds. E_PATH where it lies, or a link leads, outside of the folders that are allowed."""
        with _readable(uri):
            folder = self._folder(uri)
            sizes = taken(_listed(folder), into, limits, uri)
            for name, size in sizes.items():
                self._copy(folder / name, place_of(name, into), size, uri)

    def _folder(self, uri: str) -> Path:
        for mount in self._mounts:
            if not mount.is_absolute():
                raise BadInput(
                    f"SHIPWAY_MOUNTS names {str(mount)[:120]!r}",
                    code="E_PATH",
                    field="SHIPWAY_MOUNTS",
                    expected="/FOLDER:/OTHER",
                )
        path = Path(parse_uri(uri).name).resolve()
        if not self._is_allowed(path):
            raise _outside(uri, "")
        if not path.is_dir():
            raise NotFound(f"there is no folder {uri}", field="weights", hint="is it mounted?")
        return path

    def _is_allowed(self, path: Path) -> bool:
        return any(path.is_relative_to(mount.resolve()) for mount in self._mounts)

    def _copy(self, file: Path, copy: Path, size: int, uri: str) -> None:
        """Copy one file, whole; a FIFO is not waited for."""
        opened = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(opened, "rb") as source, copy.open("xb") as target:
            if not self._is_allowed(Path(f"/proc/self/fd/{opened}").readlink()):
                raise _outside(uri, f"{file.name} of ")
            if not stat.S_ISREG(os.fstat(opened).st_mode):
                raise UnsafeArtifact(f"{file.name} of {uri} is no plain file", code="E_ARTIFACT_TYPE", field=file.name)
            left = size
            while left and (chunk := source.read(min(_CHUNK, left))):
                target.write(chunk)
                left -= len(chunk)
            if left or source.read(1):
                raise other_size(file.name, size, uri)


def _listed(folder: Path) -> Iterator[tuple[str, int]]:
    """The files that may be taken, and their sizes where links lead."""
    for inner in sorted(TAKEN_FROM):
        if (folder / inner).is_dir():
            for entry in os.scandir(folder / inner):
                name = inner + entry.name
                if is_taken(name) and not entry.is_dir():
                    yield name, entry.stat().st_size


@contextmanager
def _readable(uri: str) -> Iterator[None]:
    """Of a link into nowhere, a volume that hangs or is gone, and rights that are missing: a sentence."""
    try:
        yield
    except FileNotFoundError as error:
        raise NotFound(f"{uri} is not whole: a file or a link of it leads nowhere", field="weights") from error
    except (OSError, RuntimeError) as error:  # RuntimeError: a circle of links
        why = getattr(error, "strerror", None) or "it cannot be followed"
        raise DependencyDown(f"{uri} cannot be read: {why}", code="E_WEIGHTS", field="weights") from error


def _outside(uri: str, what: str) -> BadInput:
    return BadInput(
        f"{what}{uri} lies outside of the folders that weights are taken from",
        code="E_PATH",
        field="weights",
        expected="a folder below one of SHIPWAY_MOUNTS, also where links lead",
        hint="who runs Shipway sets SHIPWAY_MOUNTS=/FOLDER:/OTHER",
    )
