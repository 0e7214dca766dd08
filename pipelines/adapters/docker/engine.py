"""Where is the Docker Engine, and can it build with BuildKit?

The SDK runs, inspects and stops containers; it builds with the classic builder only, so building asks the command line.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.errors import DependencyDown

if TYPE_CHECKING:
    from docker import DockerClient

ASK_TIMEOUT_S = 30
BUNDLE_LABEL = "shipway.bundle_digest"
RUNTIME_LABEL = "shipway.runtime"
HOME_LABEL = "shipway.home"
UNIT_LABEL = "shipway.unit"
BUILDKIT_BUILT_IN = range(18, 23)
"""Major versions of the command line that hold BuildKit; newer ones want the buildx plugin."""


def engine() -> DockerClient:
    """The engine of DOCKER_HOST, or of this machine. DependencyDown E_DOCKER where it does not answer."""
    try:
        import docker
    except ModuleNotFoundError:
        raise DependencyDown("the Docker SDK is not installed", code="E_DOCKER", hint="pip install docker") from None
    try:
        client = docker.from_env(timeout=ASK_TIMEOUT_S)
        client.ping()
    except (docker.errors.DockerException, OSError) as error:
        raise _down(error) from None
    return client


def find_images(client: DockerClient, *labels: str) -> list[Any]:
    """The images that carry all of these `key=value` labels. DependencyDown where the engine does not answer."""
    import docker

    try:
        return list(client.images.list(filters={"label": list(labels)}))
    except (docker.errors.DockerException, OSError) as error:
        raise _down(error) from None


def image_id(client: DockerClient, ref: str) -> str:
    """The digest of an image that is on this machine, or "" where it is not."""
    import docker

    try:
        return str(client.images.get(ref).id)
    except docker.errors.ImageNotFound:
        return ""
    except (docker.errors.DockerException, OSError) as error:
        raise _down(error) from None


def remove_image(client: DockerClient, image: Any) -> None:
    """Remove it under all its names; one that is gone is fine. DependencyDown where a container needs it."""
    import docker

    try:
        for name in image.tags or [image.id]:
            client.images.remove(name)
    except docker.errors.ImageNotFound:
        return
    except (docker.errors.DockerException, OSError) as error:
        raise _down(error) from None


def build_image(context: Path, dockerfile: Path, *options: str) -> None:
    """Build with BuildKit. DependencyDown E_BUILD with the last thing that it said."""
    command = [_builder(), "build", "--progress=plain", "--file", str(dockerfile), *options, str(context)]
    environment = {**os.environ, "DOCKER_BUILDKIT": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise DependencyDown(
            f"the image was not built: {' | '.join(said[-3:])[:600]}", code="E_BUILD", field="package.target"
        )


def _builder() -> str:
    """The first `docker` of PATH that has BuildKit."""
    folders = [*os.environ.get("PATH", "").split(os.pathsep), "/usr/bin"]
    for path in dict.fromkeys(shutil.which("docker", path=folder) for folder in folders):
        if path is not None and _has_buildkit(path):
            return path
    raise DependencyDown(
        "no docker command with BuildKit was found",
        code="E_BUILD",
        field="package.target",
        hint="install docker-buildx-plugin (or Debian's docker.io), or use package: {target: process}",
    )


def _has_buildkit(path: str) -> bool:
    version = _said([path, "--version"])
    major = re.search(r"version (\d+)\.", version)
    return bool(_said([path, "buildx", "version"])) or (major is not None and int(major[1]) in BUILDKIT_BUILT_IN)


def _said(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=ASK_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _down(error: Exception) -> DependencyDown:
    return DependencyDown(
        f"the Docker Engine does not answer: {str(error)[:300]}",
        code="E_DOCKER",
        field="package.target",
        hint="start it, or set DOCKER_HOST; or use package: {target: process}",
    )
