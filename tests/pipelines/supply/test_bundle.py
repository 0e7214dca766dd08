"""Is a bundle exactly what was sealed?"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.errors import BadInput, DependencyDown, UnsafeArtifact
from pipelines.supply.bundle import artifact_digest, bundle_digest, seal, verify_bundle

FACTS = {"engine": "onnxruntime", "labels": ["no", "yes"], "max_length": 64, "model": "m", "variant": "dynamic-int8"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two files, one of them deeper."""
    folder = tmp_path / "prepared"
    (folder / "deep").mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"weights")
    (folder / "deep" / "words.txt").write_text("hello")
    return folder


@pytest.fixture
def sealed(folder: Path, tmp_path: Path) -> tuple[str, Path]:
    """The folder as a bundle."""
    return seal(folder, FACTS, tmp_path / "store")


def test_the_digest_is_that_of_the_manifest_on_disk(sealed):
    """Anybody can check it with sha256sum."""
    digest, path = sealed
    raw = (path / "manifest.json").read_bytes()
    assert "sha256:" + hashlib.sha256(raw).hexdigest() == digest
    assert path.name == digest.replace(":", "-")


def test_the_manifest_names_every_file_and_fact(sealed):
    """Format, facts, and a hash and size for each file."""
    manifest = verify_bundle(sealed[1], sealed[0])
    assert manifest["facts"] == FACTS
    assert manifest["format"] == 1
    assert manifest["files"] == {
        "deep/words.txt": {"sha256": hashlib.sha256(b"hello").hexdigest(), "size": 5},
        "model.onnx": {"sha256": hashlib.sha256(b"weights").hexdigest(), "size": 7},
    }


def test_the_same_input_gives_the_same_digest_elsewhere(folder, sealed, tmp_path):
    """Neither the place, the time nor the order of facts matters."""
    (folder / "model.onnx").touch()
    assert seal(folder, dict(reversed(FACTS.items())), tmp_path / "other")[0] == sealed[0]
    assert bundle_digest(folder, FACTS) == sealed[0]


def test_sealing_a_bundle_again_is_the_same_bundle(sealed, tmp_path):
    """A bundle that was registered and fetched again has its manifest inside; it does not count twice."""
    assert seal(sealed[1], FACTS, tmp_path / "other")[0] == sealed[0]


def test_sealing_again_reuses_what_is_there(folder, sealed, tmp_path):
    """The existing folder is verified and kept."""
    inode = (sealed[1] / "model.onnx").stat().st_ino
    assert seal(folder, FACTS, tmp_path / "store") == sealed
    assert (sealed[1] / "model.onnx").stat().st_ino == inode


def test_sealing_over_a_damaged_bundle_says_so(folder, sealed, tmp_path):
    """Bit rot in the store is not covered up."""
    _overwrite(sealed[1] / "model.onnx", b"wEights")
    with pytest.raises(UnsafeArtifact, match=r"model\.onnx was changed"):
        seal(folder, FACTS, tmp_path / "store")


def test_files_are_read_only(sealed):
    """Nobody changes a bundle by accident."""
    assert {oct(p.stat().st_mode & 0o777) for p in sealed[1].rglob("*") if p.is_file()} == {"0o444"}


def test_folders_within_can_be_read_by_a_server_of_another_user(tmp_path):
    """In a container, under whatever umask it was sealed."""
    (tmp_path / "source" / "inner").mkdir(parents=True)
    (tmp_path / "source" / "inner" / "vocab.txt").write_text("a")
    before = os.umask(0o077)
    try:
        _, sealed = seal(tmp_path / "source", FACTS, tmp_path / "store")
    finally:
        os.umask(before)
    assert [(sealed / name).stat().st_mode & 0o777 for name in (".", "inner")] == [0o755, 0o755]


def test_a_later_change_of_the_source_does_not_reach_the_bundle(folder, sealed):
    """The bundle is a copy."""
    (folder / "model.onnx").write_bytes(b"other")
    assert verify_bundle(sealed[1], sealed[0])["facts"] == FACTS


def _overwrite(path: Path, data: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(data)


def _change(path: Path) -> None:
    _overwrite(path / "model.onnx", b"wEights")


def _remove(path: Path) -> None:
    (path / "deep" / "words.txt").unlink()


def _add(path: Path) -> None:
    (path / "deep" / "extra.txt").write_text("more")


def _link(path: Path) -> None:
    (path / "model.onnx").unlink()
    (path / "model.onnx").symlink_to("/etc/hostname")


def _forge(path: Path) -> None:
    manifest = json.loads((path / "manifest.json").read_text())
    _overwrite(path / "manifest.json", json.dumps(manifest | {"facts": {}}).encode())


def _lose_manifest(path: Path) -> None:
    (path / "manifest.json").unlink()


def _link_manifest(path: Path) -> None:
    (path / "manifest.json").rename(path.parent / "elsewhere.json")
    (path / "manifest.json").symlink_to(path.parent / "elsewhere.json")


@pytest.mark.parametrize(
    ("damage", "field", "code"),
    [
        (_change, "model.onnx", "E_DIGEST"),
        (_remove, "deep/words.txt", "E_DIGEST"),
        (_add, "deep/extra.txt", "E_DIGEST"),
        (_link, "model.onnx", "E_DIGEST"),
        (_forge, "manifest.json", "E_DIGEST"),
        (_lose_manifest, "manifest.json", "E_DIGEST"),
        (_link_manifest, "manifest.json", "E_DIGEST"),
    ],
)
def test_every_change_is_refused_by_name(sealed, damage, field, code):
    """Changed, missing, extra, linked, or another manifest."""
    damage(sealed[1])
    with pytest.raises(UnsafeArtifact) as caught:
        verify_bundle(sealed[1], sealed[0])
    assert (caught.value.code, caught.value.field) == (code, field)


def test_another_digest_is_refused(sealed):
    """A good bundle is not any bundle."""
    with pytest.raises(UnsafeArtifact) as caught:
        verify_bundle(sealed[1], "sha256:" + "0" * 64)
    assert caught.value.code == "E_DIGEST"


def test_a_link_is_not_sealed(folder, tmp_path):
    """What a link points to may change after the hash."""
    (folder / "link.txt").symlink_to("model.onnx")
    with pytest.raises(UnsafeArtifact) as caught:
        seal(folder, FACTS, tmp_path / "store")
    assert (caught.value.code, caught.value.field) == ("E_ARTIFACT_TYPE", "link.txt")
    assert [p.name for p in (tmp_path / "store").iterdir()] == [".lock"]


@pytest.mark.parametrize("missing", sorted(FACTS))
def test_a_missing_fact_is_refused_before_anything_is_written(folder, tmp_path, missing):
    """The store is not even made."""
    with pytest.raises(BadInput, match=missing):
        seal(folder, {**FACTS, missing: None}, tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_an_unknown_engine_is_refused(folder, tmp_path):
    """The error lists the known ones."""
    with pytest.raises(BadInput) as caught:
        seal(folder, {**FACTS, "engine": "abacus"}, tmp_path / "store")
    assert caught.value.expected == "llamacpp, onnxruntime, torch, vllm"


@pytest.mark.parametrize("missing", ["context", "precision", "slots"])
def test_a_bundle_that_generates_says_other_things(folder, tmp_path, missing):
    """No labels, but how long and how many its answers may be."""
    facts = {"engine": "llamacpp", "context": 8, "slots": 1, "precision": "f16", "model": "m", "variant": "gguf-f16"}
    assert seal(folder, facts, tmp_path / "store")[0].startswith("sha256:")
    with pytest.raises(BadInput, match=f"without {missing} cannot be served"):
        seal(folder, {**facts, missing: None}, tmp_path / "store")


def test_a_store_that_cannot_be_written_is_a_dependency(folder, tmp_path):
    """A file stands where the store should be."""
    (tmp_path / "file").write_text("")
    with pytest.raises(DependencyDown) as caught:
        seal(folder, FACTS, tmp_path / "file" / "store")
    assert caught.value.code == "E_HOME"


def test_what_a_killed_writer_left_is_cleared(folder, tmp_path):
    """The next writer holds the lock, so whatever is unfinished has no owner."""
    left = tmp_path / "store" / ".sealing-dead"
    left.mkdir(parents=True)
    (left / "half").write_text("x")
    _, path = seal(folder, FACTS, tmp_path / "store")
    assert sorted(p.name for p in path.parent.iterdir()) == [".lock", path.name]


def test_writers_at_once_make_one_bundle(folder, tmp_path):
    """Four processes seal the same folder; all get the same answer."""
    context = multiprocessing.get_context("fork")
    with context.Pool(4) as pool:
        results = pool.starmap(seal, [(folder, FACTS, tmp_path / "store")] * 8)
    assert len(set(results)) == 1


def test_the_artifact_digest_covers_names_and_bytes(folder):
    """A rename and a changed byte both show."""
    before = artifact_digest(folder)
    (folder / "model.onnx").rename(folder / "model2.onnx")
    renamed = artifact_digest(folder)
    (folder / "model2.onnx").write_bytes(b"wEights")
    assert len({before, renamed, artifact_digest(folder)}) == 3


def test_it_imports_nothing_heavy():
    """The server reads bundles before it loads anything else."""
    heavy = ("numpy", "mlflow", "torch", "pydantic")
    code = f"import sys, pipelines.supply.bundle; print([m for m in {heavy} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ))
    assert run.stdout.strip() == "[]"
