"""How is a release packed into an image? Its bundle on a runtime image that all versions with one engine share.

The bundle is sealed first, as without a container; it is then the last layer of the image, found again by its digest.
So the same bytes are built once, and a kill in between leaves layers that the next build uses.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.adapters.docker.context import MODULES, dockerfile, fill_context, runtime_key
from pipelines.adapters.docker.engine import (
    BUNDLE_LABEL,
    HOME_LABEL,
    RUNTIME_LABEL,
    build_image,
    engine,
    find_images,
    image_id,
    remove_image,
)
from pipelines.adapters.processes.folder_builder import FolderBuilder
from pipelines.errors import DependencyDown
from pipelines.ports import Bundle

if TYPE_CHECKING:
    from docker import DockerClient

DEFAULT_BASE = f"python:{sys.version_info.major}.{sys.version_info.minor}-slim-bookworm"
"""The Python that evaluated is the Python that serves."""


class DockerBuilder:
    """Builder on a Docker Engine with BuildKit."""

    def __init__(self, store: Path, home_id: str, base_image: str | None = None) -> None:
        self._folders = FolderBuilder(store)
        self._home_id = home_id
        self._base = base_image or DEFAULT_BASE

    def build(self, folder: Path, facts: Mapping[str, Any]) -> Bundle:
        """Seal the folder and put it into an image; the same files, facts and runtime are built once."""
        bundle = self._folders.build(folder, facts)
        client = engine()
        key = runtime_key(bundle.engine, image_id(client, self._base) or self._base)
        labels = (
            f"{RUNTIME_LABEL}={key}",
            f"{BUNDLE_LABEL}={bundle.digest}",
            f"{HOME_LABEL}={self._home_id}",
        )
        if not find_images(client, *labels):
            self._ensure_runtime(client, bundle.engine, key)
            self._build_serving(bundle, key, labels)
        return replace(bundle, image=_only(client, labels))

    def _ensure_runtime(self, client: DockerClient, engine_name: str, key: str) -> None:
        """Python, the engine and Shipway's server: everything but the model."""
        if image_id(client, _runtime_tag(key)):
            return
        with tempfile.TemporaryDirectory(prefix="shipway-image-") as folder:
            fill_context(Path(folder), engine_name)
            arguments = {"BASE_IMAGE": self._base, "ENGINE_MODULE": MODULES.get(engine_name, engine_name)}
            options = ("--target=runtime", f"--tag={_runtime_tag(key)}", f"--label={RUNTIME_LABEL}={key}")
            build_image(Path(folder), dockerfile(), *options, *_arguments(arguments), "--network=none")

    def _build_serving(self, bundle: Bundle, key: str, labels: tuple[str, ...]) -> None:
        arguments = {"BASE_IMAGE": self._base, "RUNTIME_IMAGE": _runtime_tag(key), "DIGEST": bundle.digest}
        tag = f"--tag=shipway-serving:{bundle.digest.removeprefix('sha256:')[:24]}-{key[:8]}-{self._home_id}"
        labelled = (f"--label={label}" for label in labels)
        options = ("--target=serving", tag, *labelled, *_arguments(arguments))
        build_image(bundle.path, dockerfile(), *options, "--network=none")


def remove_images(home_id: str, digest: str) -> None:
    """Remove a home's images of a bundle, and the runtime images that no other image stands on.

    Layers of what is left stay. DependencyDown E_DOCKER where the engine is down, or a container needs the image.
    """
    client = engine()
    ours = find_images(client, f"{HOME_LABEL}={home_id}", f"{BUNDLE_LABEL}={digest}")
    for image in ours:
        remove_image(client, image)
    for key in {image.labels[RUNTIME_LABEL] for image in ours}:
        left = find_images(client, f"{RUNTIME_LABEL}={key}")
        if not any(BUNDLE_LABEL in image.labels for image in left):
            for image in left:
                remove_image(client, image)


def _arguments(said: Mapping[str, str]) -> Iterator[str]:
    return (f"--build-arg={name}={value}" for name, value in said.items())


def _runtime_tag(key: str) -> str:
    return f"shipway-runtime:{key}"


def _only(client: DockerClient, labels: tuple[str, ...]) -> str:
    """The digest of the image with these labels."""
    found = find_images(client, *labels)
    if not found:
        raise DependencyDown("the image that was just built is gone", code="E_BUILD", field="package.target")
    return str(found[0].id)
