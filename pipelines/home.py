"""Where does everything of one Shipway live on this machine?"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pipelines.errors import BadInput

SOCKET_PATH_MAX = 100
"""Linux limits the path of a Unix socket to 107 bytes."""

SHORT_ROOT = Path("/tmp")  # noqa: S108  the folder below it is made private and checked
"""Not TMPDIR: a CI job and the `up` that serves it may differ in that, and must find the same socket."""

FOLDERS = ("bundles", "work", "units", "run", "logs", "mlartifacts", "feedback", "records", "pages")


@dataclass(frozen=True)
class Home:
    """The folder that SHIPWAY_HOME names. Everything in it is private to its user.

    It holds `ledger.db`, `mlflow.db`, `up.json`, and the folders of `FOLDERS`.
    """

    root: Path

    @classmethod
    def open(cls, root: Path) -> Home:
        """The home, made where it is missing. BadInput where it cannot be written; then nothing was made."""
        root = root.expanduser().resolve()
        _check_writable(root)
        try:
            root.mkdir(parents=True, exist_ok=True, mode=0o700)
            for name in FOLDERS:
                (root / name).mkdir(exist_ok=True, mode=0o700)
            if root.stat().st_mode & 0o077:
                root.chmod(0o700)  # it was made by somebody else's hand: what lies in it is for nobody else
        except OSError as error:
            raise _unusable(error.filename or root, error.strerror) from None
        return cls(root)

    @classmethod
    def find(cls, root: Path) -> Home:
        """The home for who only reads: nothing is made. BadInput where something else than a folder is there."""
        root = root.expanduser().resolve()
        if root.exists() and not root.is_dir():
            raise _unusable(root, "it is not a folder")
        return cls(root)

    @property
    def id(self) -> str:
        """Eight hex digits that name this home beside others, where its path would say too much."""
        return hashlib.sha256(os.fsencode(self.root)).hexdigest()[:8]

    def folder(self, name: str) -> Path:
        """One of the home's folders."""
        return self.root / name

    def record(self, service: str) -> Path:
        """Where a service's recorded requests are kept."""
        return self.root / "records" / f"{service}.db"

    def admin_socket(self, service: str) -> Path:
        """The Unix socket of a service's gateway: in the home, or in a private folder where that path is too long."""
        path = self.root / "run" / f"{service}.sock"
        if len(os.fsencode(path)) <= SOCKET_PATH_MAX:
            return path
        digest = hashlib.sha256(os.fsencode(self.root)).hexdigest()[:16]
        short = SHORT_ROOT / f"shipway-{os.getuid()}-{digest}"
        _make_private(short)
        return short / f"{hashlib.sha256(service.encode()).hexdigest()[:16]}.sock"


def _check_writable(root: Path) -> None:
    """Try the nearest folder that exists, before anything is made."""
    nearest = root
    try:
        nearest = next(p for p in (root, *root.parents) if p.exists())
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise _unusable(nearest, error.strerror) from None
    blocked = next((root / name for name in FOLDERS if (root / name).exists() and not (root / name).is_dir()), None)
    if blocked is not None:
        raise _unusable(blocked, "it is not a folder")


def _make_private(folder: Path) -> None:
    """Make it, or accept it where it is a real folder that only we can enter: others can write beside it."""
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise _unusable(folder, "it is not a private folder of yours")


def _unusable(path: Path | str, reason: str | None) -> BadInput:
    return BadInput(
        f"{path} cannot be used: {reason or 'it cannot be written'}",
        code="E_HOME",
        field="SHIPWAY_HOME",
        hint="name a folder that you may write to",
    )
