"""What is read of folders that are mounted, and what is not?"""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipelines.adapters.weights import listing, mounted
from pipelines.adapters.weights.mounted import MountedWeights
from pipelines.errors import BadInput, DependencyDown, NotFound, ShipwayError, UnsafeArtifact
from pipelines.supply.checks.paths import LIMITS


@pytest.fixture
def mount(tmp_path: Path) -> Path:
    """A folder that is allowed, and holds one model; beside it lie secrets that are not."""
    for folder in (tmp_path / "mount" / "m", tmp_path / "outside"):
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(folder.name)
    (tmp_path / "into").mkdir()
    return tmp_path / "mount"


def fetched(mount: Path, uri: str, mounts: list[Path] | None = None) -> dict[str, str]:
    """What is copied from there."""
    into = mount.parent / "into"
    MountedWeights([mount] if mounts is None else mounts).fetch(uri, into, LIMITS)
    return {file.name: file.read_text() for file in into.iterdir()}


def refused(mount: Path, uri: str, mounts: list[Path] | None = None) -> ShipwayError:
    """The error; nothing of the outside was copied."""
    with pytest.raises(ShipwayError) as caught:
        fetched(mount, uri, mounts)
    assert not any(file.stat().st_size for file in (mount.parent / "into").iterdir())
    return caught.value


@pytest.mark.parametrize("path", ["{root}/outside", "{root}/mount/../outside", "{root}/mount/out", "/proc/self", "/"])
def test_what_lies_outside_is_not_read(mount, path):
    """By a path, by dots, or by a link."""
    (mount / "out").symlink_to("../outside")
    error = refused(mount, f"file://{path.format(root=mount.parent)}")
    assert isinstance(error, BadInput)
    assert (error.code, error.field) == ("E_PATH", "weights")


def test_nothing_is_read_where_no_folder_is_allowed(mount):
    """Which is so until who runs Shipway says otherwise."""
    error = refused(mount, (mount / "m").as_uri(), [])
    assert (error.code, "SHIPWAY_MOUNTS" in str(error.hint)) == ("E_PATH", True)


def test_a_relative_folder_is_no_allowed_one(mount, monkeypatch):
    """It would be another one for each command."""
    monkeypatch.chdir(mount.parent)
    error = refused(mount, (mount / "m").as_uri(), [Path("mount")])
    assert (error.code, error.field) == ("E_PATH", "SHIPWAY_MOUNTS")


def test_a_link_out_of_the_folder_is_refused(mount):
    """It is found out from the file that was opened."""
    (mount / "m" / "vocab.txt").symlink_to("../../outside/config.json")
    assert refused(mount, (mount / "m").as_uri()).code == "E_PATH"


def test_a_link_that_is_changed_meanwhile_is_refused(mount, monkeypatch):
    """Between the listing and the copy: whatever was opened is asked where it lies."""
    (mount / "blob").write_text("outside")
    (mount / "m" / "vocab.txt").symlink_to("../blob")

    def changed(*asked: object) -> dict[str, int]:
        sizes = listing.taken(*asked)
        (mount / "m" / "vocab.txt").unlink()
        (mount / "m" / "vocab.txt").symlink_to("../../outside/config.json")
        return sizes

    monkeypatch.setattr(mounted, "taken", changed)
    with pytest.raises(BadInput) as caught:
        fetched(mount, (mount / "m").as_uri())
    assert caught.value.code == "E_PATH"
    assert (mount.parent / "into" / "vocab.txt").read_text() == ""


def test_links_inside_are_followed(mount):
    """The Hub's own cache is made of them, and so are volumes of Kubernetes."""
    (mount / "blobs").mkdir()
    (mount / "blobs" / "abc").write_text("weights")
    (mount / "m" / "model.safetensors").symlink_to("../blobs/abc")
    assert fetched(mount, (mount / "m").as_uri()) == {"config.json": "m", "model.safetensors": "weights"}


def test_a_link_into_nowhere_is_named(mount):
    """The folder is not whole."""
    (mount / "m" / "vocab.txt").symlink_to("gone")
    error = refused(mount, (mount / "m").as_uri())
    assert isinstance(error, NotFound)
    assert "leads nowhere" in error.reason


def test_a_circle_of_links_is_told(mount):
    """In a sentence."""
    (mount / "round").symlink_to("round")
    assert refused(mount, (mount / "round").as_uri()).exit_code in {2, 7}


@pytest.mark.timeout(20)
def test_a_fifo_is_not_waited_for(mount):
    """It is no plain file."""
    os.mkfifo(mount / "m" / "vocab.txt")
    with pytest.raises(UnsafeArtifact) as caught:
        fetched(mount, (mount / "m").as_uri())
    assert caught.value.code == "E_ARTIFACT_TYPE"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_rights_that_are_missing_are_told(mount):
    """Not as a traceback."""
    (mount / "m" / "config.json").chmod(0)
    assert isinstance(refused(mount, (mount / "m").as_uri()), DependencyDown)


@pytest.mark.parametrize("change", [b"longer than before", b""])
def test_a_file_that_changes_meanwhile_is_refused(mount, monkeypatch, change):
    """What was counted is what is copied."""

    def changed(*asked: object) -> dict[str, int]:
        sizes = listing.taken(*asked)
        (mount / "m" / "config.json").write_bytes(change)
        return sizes

    monkeypatch.setattr(mounted, "taken", changed)
    with pytest.raises(UnsafeArtifact) as caught:
        fetched(mount, (mount / "m").as_uri())
    assert caught.value.code == "E_DIGEST"


def test_a_disk_that_is_too_small_is_told_before(mount, monkeypatch):
    """Not after an hour of copying."""
    monkeypatch.setattr(listing.shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    error = refused(mount, (mount / "m").as_uri())
    assert (error.code, error.exit_code) == ("E_SPACE", 7)
