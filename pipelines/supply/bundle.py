"""Which bytes are these? Content-addressed folders that a server verifies before it loads them.

A bundle is `STORE/sha256-<hex>/`: the files, and a `manifest.json` that names each with its SHA-256 and size, next to
the facts a server needs. The bundle's digest is the SHA-256 of the manifest's bytes, which are canonical JSON; so the
same files and facts always have the same digest. Facts hold no registry version and no time for that reason.

The server imports this module: it stays free of heavy imports.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path
from typing import Any

from pipelines.errors import BadInput, DependencyDown, NotFound, UnsafeArtifact

FORMAT = 1
MANIFEST = "manifest.json"
_CLASSIFIER, _GENERATOR = ("labels", "max_length"), ("context", "precision", "slots")
_BROUGHT = ("context", "precision", "version")
ENGINES = {"llamacpp": _GENERATOR, "onnxruntime": _CLASSIFIER, "torch": _CLASSIFIER, "vllm": _BROUGHT}
"""The engines, and what a bundle tells each of them."""

FACTS = ("engine", "model", "variant")
"""What every bundle says about itself; more is allowed."""

UNFINISHED = ".sealing-"


def seal(folder: Path, facts: Mapping[str, Any], store: Path) -> tuple[str, Path]:
    """Which bundle holds these files and facts? Made once, by an atomic rename; a kill leaves no half of one."""
    check_facts(facts)
    with only_writer(store):
        unfinished = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=store))
        try:
            manifest = canonical_json(_manifest(_copy_all(folder, unfinished), facts))
            _write_durably(unfinished / MANIFEST, manifest)
            return _publish(unfinished, _sha256(manifest), store)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


def verify_bundle(path: Path, digest: str) -> dict[str, Any]:
    """Are these exactly the bytes of `digest`? Hashes everything again and returns the manifest."""
    raw = _read_manifest(path)
    if _sha256(raw) != digest:
        raise _altered(MANIFEST, f"the manifest has digest {_sha256(raw)}, not {digest}")
    manifest: dict[str, Any] = json.loads(raw)
    if manifest.get("format") != FORMAT:
        raise UnsafeArtifact(
            f"bundle format {manifest.get('format')!r} is not {FORMAT}", code="E_SCHEMA", field=MANIFEST
        )
    try:
        found = list_files(path)
    except UnsafeArtifact as error:
        raise _altered(error.field or "", error.reason) from error
    _compare(manifest["files"], {name: file for name, file in found.items() if name != MANIFEST})
    return manifest


def artifact_digest(folder: Path) -> str:
    """Which bytes does a source folder hold? Covers names and contents of every file."""
    return _sha256(canonical_json({name: _describe(file) for name, file in list_files(folder).items()}))


def bundle_digest(folder: Path, facts: Mapping[str, Any]) -> str:
    """Which digest would these files and facts have as a bundle? Writes nothing."""
    check_facts(facts)
    files = {name: _describe(file) for name, file in list_files(folder).items() if name != MANIFEST}
    return _sha256(canonical_json(_manifest(files, facts)))


def check_facts(facts: Mapping[str, Any]) -> None:
    """Raises BadInput where the facts do not tell a server what it needs."""
    engine = facts.get("engine")
    missing = [name for name in sorted({*FACTS, *ENGINES.get(str(engine), ())}) if not facts.get(name)]
    if missing:
        raise BadInput(f"a bundle without {', '.join(missing)} cannot be served", code="E_FACTS", field=missing[0])
    if engine not in ENGINES:
        raise BadInput(f"unknown engine {engine!r}", code="E_FACTS", field="engine", expected=", ".join(ENGINES))


def canonical_json(value: Any) -> bytes:
    """The one way to write a value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def list_files(folder: Path) -> dict[str, Path]:
    """Every file by its relative POSIX path. UnsafeArtifact where something is neither a plain file nor a folder."""
    if folder.is_symlink() or not folder.is_dir():
        raise NotFound(f"there is no folder {folder}", field=str(folder))
    found = sorted(
        ((Path(entry.path).relative_to(folder).as_posix(), entry) for entry in _walk(folder)), key=itemgetter(0)
    )
    for name, entry in found:
        if not entry.is_file(follow_symlinks=False):
            raise UnsafeArtifact(
                f"{name} is a link or a special file",
                code="E_ARTIFACT_TYPE",
                field=name,
                expected="plain files and folders",
                hint="copy the file itself into the folder",
            )
    return {name: Path(entry.path) for name, entry in found}


def _walk(folder: Path) -> Iterator[os.DirEntry[str]]:
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path))
        else:
            yield entry


@contextmanager
def only_writer(store: Path) -> Iterator[None]:
    """Holds the store, and clears what a killed writer left unfinished."""
    try:
        store.mkdir(parents=True, exist_ok=True)
        lock = (store / ".lock").open("w")
    except OSError as error:
        raise DependencyDown(f"cannot write to {store}: {error.strerror}", code="E_HOME", field=str(store)) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in store.glob(UNFINISHED + "*"):
            shutil.rmtree(left, ignore_errors=True)
        yield


def _publish(unfinished: Path, digest: str, store: Path) -> tuple[str, Path]:
    target = store / digest.replace(":", "-")
    if target.exists():
        verify_bundle(target, digest)
    else:
        unfinished.chmod(0o755)
        unfinished.rename(target)
        _sync_folder(store)
    return digest, target


def _manifest(files: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    return {"format": FORMAT, "facts": dict(facts), "files": dict(files)}


def _copy_all(folder: Path, into: Path) -> dict[str, dict[str, Any]]:
    """Copies every file and describes the copies: what is hashed is what is kept."""
    described = {}
    for name, file in list_files(folder).items():
        if name == MANIFEST:
            continue  # sealing a bundle's files again must give the same bundle
        copy = into / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
        described[name] = _describe(copy)
        _make_durable(copy)
    for inner in (path for path in into.rglob("*") if path.is_dir()):
        inner.chmod(0o755)  # a server in a container is another user, and what keeps others out is the home
        _sync_folder(inner)
    return described


def _write_durably(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    _make_durable(path)
    _sync_folder(path.parent)


def _make_durable(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
    path.chmod(0o444)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _describe(file: Path) -> dict[str, Any]:
    with file.open("rb") as opened:
        size = os.fstat(opened.fileno()).st_size
        return {"sha256": hashlib.file_digest(opened, "sha256").hexdigest(), "size": size}


def _read_manifest(path: Path) -> bytes:
    manifest = path / MANIFEST
    try:
        if not stat.S_ISREG(manifest.lstat().st_mode):
            raise _altered(MANIFEST, f"{manifest} is not a plain file")
        return manifest.read_bytes()
    except OSError as error:
        raise _altered(MANIFEST, f"{manifest} cannot be read: {error.strerror}") from error


def _compare(expected: Mapping[str, Any], found: Mapping[str, Path]) -> None:
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            raise _altered(name, f"{name} is missing")
        if name not in expected:
            raise _altered(name, f"{name} is not in the manifest")
        if _describe(found[name]) != expected[name]:
            raise _altered(name, f"{name} was changed")


def _altered(name: str, reason: str) -> UnsafeArtifact:
    return UnsafeArtifact(
        f"the bundle is not what was sealed: {reason}",
        code="E_DIGEST",
        field=name,
        expected="the bytes that were evaluated",
        hint="delete the bundle's folder and run the release again",
    )


def _sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()
