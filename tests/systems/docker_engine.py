"""A real Docker Engine for the tests: the one that answers, or one that the session starts; and a base image for it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.adapters.docker.engine import engine, image_id
from pipelines.errors import DependencyDown
from tests.systems.base_image import BaseImage, CannotMake, cache_folder
from tests.waiting import HANG_S, until

BASE_IMAGE = "shipway-test-base:bookworm"


def missing() -> str:
    """Why no engine can be had here, or ""."""
    programs = ["mmdebstrap"] if _answers() else ["mmdebstrap", "dockerd", "iptables"]
    absent = next((name for name in programs if shutil.which(name) is None), "")
    if absent:
        return f"{absent} is not there (apt-get install docker.io iptables mmdebstrap)"
    return "" if _answers() or os.getuid() == 0 else "no Docker Engine answers, and only root may start one"


class CannotRun(Exception):
    """This machine allows no engine, or nothing to make a base image of can be downloaded."""


@dataclass
class Engine:
    """An engine of this session's own; `folder` None where it is another's."""

    folder: Path | None = None
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Begin, and wait until it answers. What it runs survives its restarts."""
        assert self.folder is not None
        for left in ("pid", "exec/containerd/containerd.pid"):
            (self.folder / left).unlink(missing_ok=True)
        folders = [f"--data-root={self.folder / 'data'}", f"--exec-root={self.folder / 'exec'}"]
        lasting = ["--live-restore", "--userland-proxy=false"]
        command = ["dockerd", *lasting, f"--pidfile={self.folder / 'pid'}", f"--host={self.host}", *folders]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        until(lambda: _answers() or self.process.poll() is not None)
        if not _answers():
            raise CannotRun(f"no Docker Engine can run here: {(self.folder / 'log').read_text()[-300:]}")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it; its containers go on."""
        assert self.process is not None
        self.process.send_signal(how)
        self.process.wait(HANG_S)

    @property
    def host(self) -> str:
        """What DOCKER_HOST says."""
        return f"unix://{self.folder}/sock"


@contextmanager
def running() -> Iterator[Engine]:
    """An engine with the base image, for as long as the block."""
    before = os.environ.get("DOCKER_HOST")
    own = Engine(None if _answers() else Path(tempfile.mkdtemp(prefix="shipway-docker-")))
    try:
        if own.folder is not None:
            os.environ["DOCKER_HOST"] = own.host
            own.start()
        _ensure_base()
        yield own
    finally:
        if own.folder is not None:
            _end(own)
            os.environ.pop("DOCKER_HOST", None)
            if before is not None:
                os.environ["DOCKER_HOST"] = before


def _end(own: Engine) -> None:
    """Nothing of it stays behind."""
    if own.process is not None and own.process.poll() is None:
        with suppress(DependencyDown):
            for container in engine().containers.list(all=True):
                container.remove(force=True)
        own.stop()
    for path in _mounts_below(own.folder):
        subprocess.run(["umount", "--lazy", path], check=False)
    shutil.rmtree(own.folder or "", ignore_errors=True)


def _mounts_below(folder: Path | None) -> list[str]:
    """What an engine that was restarted leaves mounted: a network of its own would answer for the next container."""
    mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    return [path for path in reversed(mounted) if Path(path).is_relative_to(folder or "/nowhere")]


def _answers() -> bool:
    try:
        engine().close()
    except DependencyDown:
        return False
    return True


def _ensure_base() -> None:
    """The base image is there."""
    client = engine()
    if image_id(client, BASE_IMAGE):
        return
    try:
        kept = BaseImage(cache_folder()).path()
    except CannotMake as error:
        raise CannotRun(str(error)) from error
    repository, tag = BASE_IMAGE.split(":")
    client.api.import_image(str(kept), repository=repository, tag=tag)
