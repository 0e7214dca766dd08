"""What must be in an image so that it serves as this installation does?

The same versions of every distribution that the server and its engine need, downloaded here with this machine's index,
certificates and credentials, so that none of those enters the build; Shipway's own packages as installed; and what an
engine's wheel takes from the system, for bases that lack it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from pipelines.errors import DependencyDown

OWN_PACKAGES = ("evals", "pipelines")
"""What a server imports; what decides about releases is not in its image."""

MODULES = {"llamacpp": "xllamacpp"}
"""What is imported of an engine's wheel, where it is not called as the engine is."""

LIBRARIES = {"llamacpp": ("libgomp.so.1",)}
"""Of the system: a wheel names them, and brings them not. `python:X.Y-slim` has no OpenMP."""

_FIND_LIBRARY = """
import ctypes, sys
ctypes.CDLL(sys.argv[1])
found = (line.split(maxsplit=5)[-1].strip() for line in open("/proc/self/maps"))
print(next(path for path in found if path.rpartition("/")[2].startswith(sys.argv[1])))
"""


def pins(engine: str) -> list[str]:
    """`name==version` of everything that Shipway with this engine needs, or with none, as it is installed here."""
    found: dict[str, str] = {}
    waiting = [("shipway", frozenset({engine}))]
    while waiting:
        name, extras = waiting.pop()
        for needed in _requirements(name, extras):
            key = _normal(needed.name)
            if key not in found:
                found[key] = metadata.version(needed.name).partition("+")[0]
                waiting.append((needed.name, frozenset(needed.extras)))
    return [f"{name}=={version}" for name, version in sorted(found.items())]


def _requirements(name: str, extras: frozenset[str]) -> Iterator[Requirement]:
    for line in metadata.requires(name) or ():
        needed = Requirement(line)
        if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras | {""}):
            yield needed


def libraries(engine: str) -> dict[str, Path]:
    """The files of the system that the engine's wheel needs, as far as this machine has them, by their name.

    Whether the image lacks one of them is seen when it is built: the engine is imported there.
    """
    return {name: found for name in LIBRARIES.get(engine, ()) if (found := _library(name))}


def _library(name: str) -> Path | None:
    """Where the loader finds it; asked of a child, as this process may have loaded another library's copy."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", _FIND_LIBRARY, name], capture_output=True, text=True, check=False
    )
    return Path(done.stdout.strip()) if done.returncode == 0 else None


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def own_files() -> dict[str, Path]:
    """Shipway's own Python files by their path below the import root."""
    found = {}
    for package in OWN_PACKAGES:
        spec = importlib.util.find_spec(package)
        folder = Path(str(spec.origin)).parent if spec is not None else Path(package)
        found.update({f"{package}/{file.relative_to(folder)}": file for file in sorted(folder.rglob("*.py"))})
    return found


def dockerfile() -> Path:
    """`serving.Dockerfile`: beside the package where it is installed, in `docker/` of a checkout."""
    package = Path(__file__).parents[2]
    installed = package / "serving.Dockerfile"
    return installed if installed.exists() else package.parent / "docker" / "serving.Dockerfile"


def runtime_key(engine: str, base: str) -> str:
    """What identifies a runtime image: its base, the Dockerfile, the versions, and all files that are copied."""
    content = hashlib.sha256()
    for part in (base, dockerfile().read_text(), *pins(engine)):
        content.update(part.encode() + b"\0")
    for name, file in (*own_files().items(), *libraries(engine).items()):
        content.update(name.encode() + b"\0" + file.read_bytes() + b"\0")
    return content.hexdigest()[:24]


def fill_context(folder: Path, engine: str) -> None:
    """Put wheels, their lists, libraries and Shipway's own packages into a build context. DependencyDown of pip's."""
    for name, file in own_files().items():
        (folder / "app" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, folder / "app" / name)
    (folder / "libraries").mkdir()
    for name, file in libraries(engine).items():
        shutil.copyfile(file, folder / "libraries" / name)
    _open_to_all(folder / "app")
    _open_to_all(folder / "libraries")
    shared = pins("")
    _download(folder / "shared", shared)
    _download(folder, [pin for pin in pins(engine) if pin not in shared])


def _download(folder: Path, listed: Sequence[str]) -> None:
    """These wheels, and the list of them."""
    (folder / "wheels").mkdir(parents=True)
    requirements = folder / "requirements.txt"
    requirements.write_text("".join(f"{pin}\n" for pin in listed))
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", "--no-deps"]
    where = ["--dest", str(folder / "wheels"), "--requirement", str(requirements)]
    done = subprocess.run([*command, *where], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        raise DependencyDown(
            f"the wheels for the image were not downloaded: {said[:300]}",
            code="E_BUILD",
            field="package.target",
            hint="pip needs an index, or a folder of wheels in PIP_FIND_LINKS",
        )


def _open_to_all(folder: Path) -> None:
    """A server in a container is another user than the builder, whose umask may keep everything to himself."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
