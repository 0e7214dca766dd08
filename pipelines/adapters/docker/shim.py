"""One process for each container: it starts or adopts it, passes its log on, and ends as it ends.

    python -m pipelines.adapters.docker_keeper --name N --image sha256:… --port P --settings FILE -- server options
    python -m pipelines.adapters.docker_keeper --remove N

So `up` supervises containers as it supervises processes: what it sees die, it starts again; a killed `up` leaves both,
and the next one finds them. An engine that hangs holds up its containers' shims and nothing else. A shim that was
killed leaves its container serving; the next shim of that name adopts it, so there are never two.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.adapters.docker.engine import BUNDLE_LABEL, HOME_LABEL, UNIT_LABEL, engine
from pipelines.errors import BadInput, DependencyDown
from pipelines.records.settings import ServerSettings
from pipelines.serving.settings_file import read_settings

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

INNER_PORT = 8080
USER = "10001:10001"
END_S = 1
"""A server drains after SIGTERM, and then has so long to end."""
ASK_AGAIN_S = 0.5
ENGINE_ENDS_S = 3.0
"""An engine that ends stops its containers first: one that ended is not accused before the engine was asked again."""
LOG_TAIL_S = 2.0
NOT_ITS_OWN_END = {0, 143}
"""A server that was asked to end, and not by its shim."""
KILLED = 137
EXIT_INPUT, EXIT_CANNOT_START = 2, 3


@dataclass(frozen=True)
class Wanted:
    """The container that must run."""

    name: str
    image: str
    port: int
    home: str
    digest: str
    settings: ServerSettings
    server: tuple[str, ...] = ()
    """What the server calls itself."""

    @property
    def options(self) -> tuple[str, ...]:
        """What the server is told, which sees no file of ours: only what is not usual, since an image may be older."""
        settings, usual = self.settings, ServerSettings()
        threads = ("--threads", str(settings.threads)) if settings.cpus else ()
        drain = ("--drain-s", str(settings.drain_s)) if settings.drain_s != usual.drain_s else ()
        return *self.server, *threads, *drain

    def container(self) -> dict[str, Any]:
        """What the engine is told: limits, nothing writable but /tmp, no capability, loopback only."""
        return {
            "name": self.name,
            "command": list(self.options),
            "labels": {HOME_LABEL: self.home, UNIT_LABEL: self.name, BUNDLE_LABEL: self.digest},
            "ports": {f"{INNER_PORT}/tcp": ("127.0.0.1", self.port)},
            "mem_limit": f"{self.settings.memory_mb}m",
            "memswap_limit": f"{self.settings.memory_mb}m",
            "nano_cpus": round(self.settings.cpus * 1e9) if self.settings.cpus else None,
            "pids_limit": self.settings.pids,
            "read_only": True,
            "tmpfs": {"/tmp": "rw,noexec,nosuid,nodev,size=64m"},  # noqa: S108  the container's own
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges:true"],
            "user": USER,
        }

    def is_run_by(self, container: Container) -> bool:
        """Whether this container is what is wanted: the image, the port and the options."""
        bound = container.attrs["HostConfig"]["PortBindings"].get(f"{INNER_PORT}/tcp") or [{}]
        return (
            container.attrs["Image"] == self.image
            and bound[0].get("HostPort") == str(self.port)
            and tuple(container.attrs["Config"]["Cmd"] or ()) == self.options
        )


class _Stopped(Exception):
    """SIGTERM: drain, and end."""


class CannotStart(Exception):
    """The engine answers, and refuses: the image is gone, the port is taken."""


def keep(wanted: Wanted, connect: Callable[[], DockerClient] = engine) -> int:
    """Run the container until it ends by itself; its exit code. _Stopped passes through."""
    while True:
        client = _patiently(connect)
        container = ensure(client, wanted)
        code = _watch(container)
        if code is not None and (_outgrew(container, wanted) or not _engine_ended(connect, code)):
            stop(client, wanted.name, wanted.settings.drain_s)
            return code
        print("the engine went away, or stopped the container: waiting for it", flush=True)  # noqa: T201  the log


def ensure(client: DockerClient, wanted: Wanted) -> Container:
    """The running container of that name: the one there is, or a new one. CannotStart where the engine refuses."""
    import docker

    try:
        found = client.containers.list(all=True, filters={"name": f"^/{wanted.name}$"})
        for container in found:
            if container.status == "running" and wanted.is_run_by(container):
                return container
            container.remove(force=True)
        created = client.containers.create(wanted.image, **wanted.container())
        created.start()
    except docker.errors.ImageNotFound:
        raise CannotStart(f"E_IMAGE: image {wanted.image[:19]} is not on this machine") from None
    except docker.errors.APIError as error:
        raise CannotStart(f"E_START: {error.explanation}") from None
    return created


def stop(client: DockerClient, name: str, drain_s: float = ServerSettings.drain_s) -> None:
    """Drain the container of that name and remove it; one that is absent is fine."""
    import docker

    with suppress(docker.errors.NotFound):
        container = client.containers.get(name)
        container.stop(timeout=round(drain_s) + END_S)
        container.remove(force=True)


def _patiently(connect: Callable[[], DockerClient]) -> DockerClient:
    """The engine, waited for: that it is down accuses no candidate."""
    said = False
    while True:
        try:
            return connect()
        except DependencyDown as error:
            if not said:
                print(f"waiting: {error}", flush=True)  # noqa: T201
            said = True
            time.sleep(ASK_AGAIN_S)


def _watch(container: Container) -> int | None:
    """Pass the log on until the container ends: its exit code, or None where the engine was lost."""
    import docker
    import requests

    reader = threading.Thread(target=_pass_on, args=(container, int(time.time())), daemon=True)
    reader.start()
    try:
        code = int(container.wait(timeout=None)["StatusCode"])
    except (docker.errors.DockerException, requests.exceptions.RequestException, OSError):
        return None
    reader.join(LOG_TAIL_S)
    return code


def _pass_on(container: Container, since_s: int) -> None:
    with suppress(Exception):  # the log is not worth the container
        for chunk in container.logs(stream=True, follow=True, since=since_s - 1):
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()


def _engine_ended(connect: Callable[[], DockerClient], code: int) -> bool:
    """Whether a container that ended with this code was ended by an engine that is going away."""
    if code in NOT_ITS_OWN_END:
        return True
    deadline_s = time.monotonic() + (ENGINE_ENDS_S if code == KILLED else 0.0)
    while True:
        try:
            connect()
        except DependencyDown:
            return True
        if time.monotonic() > deadline_s:
            return False
        time.sleep(ASK_AGAIN_S)


def _outgrew(container: Container, wanted: Wanted) -> bool:
    """Whether the kernel ended it for its memory; said in the log before anyone asks the shim to end."""
    import docker
    import requests

    try:
        container.reload()
    except (docker.errors.DockerException, requests.exceptions.RequestException, OSError):
        return False
    if not container.attrs["State"]["OOMKilled"]:
        return False
    print(f"out of memory: killed at its limit of {wanted.settings.memory_mb} MB", flush=True)  # noqa: T201
    return True


def _parsed(arguments: Sequence[str]) -> Wanted:
    parser = argparse.ArgumentParser(prog="python -m pipelines.adapters.docker_keeper", description=__doc__)
    parser.add_argument("--name", required=True)
    parser.add_argument("--image", required=True, help="sha256:… of an image on this machine")
    parser.add_argument("--port", type=int, required=True, help="on loopback")
    parser.add_argument("--home", default="", help="the id of the home whose container it is")
    parser.add_argument("--digest", default="", help="the bundle's")
    parser.add_argument("--settings", type=Path, required=True, help="a file of mode 0600: how the server behaves")
    parser.add_argument("server", nargs="*", help="what it calls itself, after --")
    read = vars(parser.parse_args(arguments))
    settings = read_settings(read["settings"], ServerSettings)
    return Wanted(**{**read, "settings": settings, "server": tuple(read["server"])})


def _raise_stopped(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise _Stopped


def main(arguments: Sequence[str] | None = None) -> int:
    """Keep one container; 0 where it was asked to stop."""
    asked = sys.argv[1:] if arguments is None else list(arguments)
    if asked[:1] == ["--remove"]:
        stop(_patiently(engine), asked[1])
        return 0
    signal.signal(signal.SIGTERM, _raise_stopped)
    try:
        wanted = _parsed(asked)
    except BadInput as error:
        print(error, flush=True)  # noqa: T201
        return EXIT_INPUT
    try:
        return keep(wanted)
    except _Stopped:
        stop(_patiently(engine), wanted.name, wanted.settings.drain_s)
        return 0
    except CannotStart as error:
        print(error, flush=True)  # noqa: T201
        return EXIT_CANNOT_START
