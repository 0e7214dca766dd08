"""Generates with a vLLM that lives in an image: a container of this machine's Docker Engine, asked on loopback.

The image is somebody else's, named by its digest. The container sees the model, which it cannot change, and nothing
else of this machine. Its first process is `leash.py`, whose standard input is held by this process: whatever this one
dies of, the Docker Engine closes it, and the container ends. What outlived that, as the engine itself was away, is
removed at the next start.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.errors import BadInput
from pipelines.serving.engines.endpoint import other_version
from pipelines.serving.engines.vllm import (
    ASK_VERSION,
    LEASH,
    MOST_SAID,
    STOP_S,
    VERSION_S,
    VllmEngine,
    environment,
    free_port,
)

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

ENGINE_LABEL, OWNER_LABEL = "shipway.engine", "shipway.owner"
PYTHON, MODEL, INNER_LEASH, INNER_PORT = "python3", "/model", "/leash.py", 8000
CONFINED: Mapping[str, Any] = {
    "read_only": True,
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges:true"],
    "tmpfs": {"/tmp": "rw,exec,nosuid,nodev,size=8g"},  # noqa: S108  the container's own: what vLLM compiles is run
}
KNOWN: Mapping[str, str] = {"HOME": "/tmp", "USER": "shipway"}  # noqa: S108
"""Libraries look for the user's name, and the number may have none in the image."""

SHARED_MEMORY = "8g"
"""Between the processes of one engine."""


class ContainedVllm(VllmEngine):
    """Implements `StreamingEngine` for a folder of safetensors. `place.at` is `NAME@sha256:…`.

    Facts: as of `VllmEngine`, and `image`, the digest.
    """

    _container: Container | None = None
    _held: Any = None
    _over: threading.Event
    _said: bytes = b""

    def start(self, port: int) -> str:
        """Start it and wait until it answers. BadInput E_ENGINE where it is not what was released, or ends before."""
        found = digest_of(self._place.at)
        if found != self._facts["image"]:
            raise other_version(self._place.at, found, str(self._facts["image"]))
        client = connect()
        sweep(client)
        port = port or free_port()
        self._over = threading.Event()
        self._container = _create(client, self._options(client, port))
        try:
            self._held = self._container.attach_socket(params={"stdin": 1, "stream": 1})
            said = self._container.attach(stdout=True, stderr=True, stream=True, logs=True, demux=True)
            threading.Thread(target=self._hear, args=(said,), daemon=True).start()
            self._container.start()
            return self._meet(self._ready(f"http://127.0.0.1:{port}"))
        except BaseException:
            self.stop(0.0)
            raise

    def _options(self, client: DockerClient, port: int) -> dict[str, Any]:
        """What the Docker Engine is told."""
        from docker.types import Mount

        seen = {str(self._folder.absolute()): MODEL, LEASH: INNER_LEASH}
        return {
            **CONFINED,
            "image": local_image(client, self._place.at),
            "entrypoint": [PYTHON, "-I", INNER_LEASH],
            "command": [PYTHON, *self.told(MODEL, "0.0.0.0", INNER_PORT)],  # noqa: S104  published on loopback only
            "environment": {**environment({}, self._place.threads), **KNOWN},
            "labels": {ENGINE_LABEL: "vllm", OWNER_LABEL: owner(os.getpid())},
            "ports": {f"{INNER_PORT}/tcp": ("127.0.0.1", port)},
            "mounts": [Mount(inside, outside, type="bind", read_only=True) for outside, inside in seen.items()],
            "user": f"{os.getuid()}:{os.getgid()}",
            "shm_size": SHARED_MEMORY,
            "device_requests": _devices(client),
            "stdin_open": True,
            "auto_remove": True,
        }

    def _hear(self, said: Any) -> None:
        """Pass the log on until the container ends, or its engine does; on its output stands what went wrong."""
        with suppress(Exception):  # the log is not worth the engine
            for out, err in said:
                self._said = (self._said + (out or b""))[-4096:]
                os.write(sys.stderr.fileno(), err or b"")
        self._over.set()

    def has_ended(self) -> bool:
        """Whether it is gone, was never there, or nobody could say."""
        return self._container is None or self._over.is_set()

    def _last_words(self) -> str:
        return " ".join(self._said.decode(errors="replace").split())[:MOST_SAID] or "it ended"

    def stop(self, within_s: float = STOP_S) -> None:
        """Ask it to end, and kill what of it is left; answers that are still open have its shutdown-timeout."""
        super().stop(within_s)
        container, self._container = self._container, None
        if container is None:
            return
        from docker.errors import DockerException

        with suppress(DockerException, OSError):
            container.stop(timeout=round(within_s))
        with suppress(DockerException, OSError):
            container.remove(force=True)
        with suppress(DockerException, OSError):  # what has ended is removed in the Docker Engine's own time
            container.wait(condition="removed", timeout=round(STOP_S))
        if self._held is not None:
            self._held.close()


def connect() -> DockerClient:
    """The Docker Engine of this machine. BadInput E_ENGINE where it does not answer, or is another machine's."""
    hint, host = "start it, or set DOCKER_HOST=unix://…", os.environ.get("DOCKER_HOST", "unix://")
    if not host.startswith("unix://"):
        reason = "serve.image needs the Docker Engine that sees the model's folder, and DOCKER_HOST names another one"
        raise BadInput(reason, code="E_ENGINE", field="serve.image", hint=hint)
    try:
        import docker
    except ModuleNotFoundError:
        reason = "the Docker SDK is not installed"
        raise BadInput(reason, code="E_ENGINE", field="serve.image", hint="pip install docker") from None
    try:
        client = docker.from_env(timeout=int(VERSION_S))
        client.ping()
    except (docker.errors.DockerException, OSError) as error:
        reason = f"no Docker Engine answers: {error}"[:MOST_SAID]
        raise BadInput(reason, code="E_ENGINE", field="serve.image", hint=hint) from error
    return client


def digest_of(image: str) -> str:
    """The digest of `NAME@sha256:…`."""
    return image.partition("@")[2]


def local_image(client: DockerClient, image: str) -> str:
    """The id of an image on this machine: one that was pulled by this digest, or was built here and has this id.

    BadInput E_ENGINE where there is none: nothing is pulled.
    """
    from docker.errors import ImageNotFound

    name = image.partition("@")[0]
    with suppress(ImageNotFound):
        return str(client.images.get(image).id)
    with suppress(ImageNotFound):
        found = client.images.get(digest_of(image))
        if any(tag.rpartition(":")[0] == name for tag in found.tags):
            return str(found.id)
    reason = f"{image} is not on this machine"
    raise BadInput(reason, code="E_ENGINE", field="serve.image", hint=f"docker pull {image}")


def contained_version(image: str) -> str:
    """Which distribution of vLLM does this image have, and which version? BadInput E_ENGINE where it has none."""
    from docker.errors import DockerException

    client = connect()
    asked = {"entrypoint": [PYTHON, "-I", "-c", ASK_VERSION], "network_mode": "none", "remove": True}
    found = local_image(client, image)
    try:
        said = client.containers.run(found, **asked, **CONFINED, environment={**environment({}, 1), **KNOWN})
    except (DockerException, OSError):
        said = b""
    if not said.strip():
        reason = f"{image} has no vLLM that could be asked for its version"
        expected = f"an image whose {PYTHON} has vLLM"
        raise BadInput(reason[:MOST_SAID], code="E_ENGINE", field="serve.image", expected=expected)
    return str(said.decode(errors="replace")).strip()


def sweep(client: DockerClient) -> None:
    """Remove the containers of processes of this machine that are gone."""
    from docker.errors import DockerException

    for container in client.containers.list(all=True, filters={"label": ENGINE_LABEL}):
        place, _, process = container.labels.get(OWNER_LABEL, "").rpartition("/")
        number = process.partition("@")[0]
        if place == _place() and number.isdecimal() and owner(int(number)) != f"{place}/{process}":
            with suppress(DockerException, OSError):
                container.remove(force=True)


def owner(pid: int) -> str:
    """A process of this machine, so that no other one is taken for it; one that is gone has no time of its start."""
    try:
        began = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        began = ""
    return f"{_place()}/{pid}@{began}"


def _place() -> str:
    """Where numbers of processes mean the same: this boot, and this namespace of them."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"


def _create(client: DockerClient, options: dict[str, Any]) -> Container:
    from docker.errors import DockerException

    try:
        return client.containers.create(**options)
    except (DockerException, OSError) as error:
        raise BadInput(f"the container was not made: {error}"[:MOST_SAID], code="E_ENGINE") from error


def _devices(client: DockerClient) -> list[Any]:
    """The accelerators that this process may use, where the Docker Engine can lend them."""
    from docker.types import DeviceRequest

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if "nvidia" not in client.info().get("Runtimes", {}) or visible == "":
        return []
    named = {"device_ids": visible.split(",")} if visible else {"count": -1}
    return [DeviceRequest(capabilities=[["gpu"]], **named)]
