"""Where does the base image of the tests come from? There is no registry to pull from: Debian's archive, made once.

It takes a minute of waiting for the network, so a session begins with it in the background, and keeps it for the next.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

PACKAGES = "python3,python3-venv,ca-certificates"
NAME = "base-bookworm.tar"
PATIENCE_S = 900.0


class CannotMake(Exception):
    """Nothing to make a base image of can be downloaded."""


def cache_folder() -> Path:
    """SHIPWAY_TEST_CACHE, or a folder among the user's caches."""
    chosen = os.environ.get("SHIPWAY_TEST_CACHE")
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(chosen) if chosen else caches / "shipway-tests"


@dataclass
class BaseImage:
    """The archive of a small Debian with Python; other sessions and workers may make it at the same time."""

    folder: Path
    program: str = "mmdebstrap"
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def path(self) -> Path:
        """The whole archive. Raises CannotMake."""
        kept = self.folder / NAME
        with self._alone():
            if not kept.exists():
                self._make(kept)
        return kept

    def begin(self) -> None:
        """Make it in the background. Who needs it and does not find it is told why."""
        threading.Thread(target=self._try, daemon=True).start()

    def stop(self) -> None:
        """Nothing of it stays behind."""
        process = self.process
        if process is not None and process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()

    def _try(self) -> None:
        with suppress(CannotMake, OSError):
            self.path()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{NAME}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _make(self, kept: Path) -> None:
        folder = Path(tempfile.mkdtemp(prefix="making-", dir=self.folder))
        try:
            made, said = folder / NAME, folder / "said"
            command = [self.program, "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(made)]
            with said.open("wb") as log:
                self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(PATIENCE_S)
            if self.process.returncode != 0:
                raise CannotMake(f"no base image can be made here: {said.read_text(errors='replace')[-300:]}")
            made.replace(kept)
        finally:
            self.stop()
            shutil.rmtree(folder, ignore_errors=True)
