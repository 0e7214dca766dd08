"""Does every place of weights keep the port's promises?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pipelines.adapters.memory.weights import MemoryWeights
from pipelines.adapters.weights.hub import HubWeights
from pipelines.adapters.weights.mounted import MountedWeights
from pipelines.adapters.weights.oci import OciWeights
from pipelines.adapters.weights.s3 import S3Weights
from pipelines.adapters.weights.schemes import SchemeWeights
from pipelines.errors import BadInput, NotFound, UnsafeArtifact
from pipelines.ports import NoWeights, Weights
from pipelines.supply.checks.paths import LIMITS, FolderLimits
from tests.systems.weight_places import COMMIT, REPOSITORY, Bucket, Hub, OciRegistry, set_aws

TAKEN = {
    "model.safetensors": b"weights " * 40_000,
    "config.json": b"{}",
    "tokenizer.json": b'{"a": 1}',
    "vocab.txt": b"a\nb\n",
    "spiece.model": b"\x0a\x0b",
    "chat_template.jinja": b"{{ messages }}",
    "model/config.json": b"[]",
    "components/tokenizer/tokenizer.json": b"[1]",
    "a name with spaces, and 100 %.json": b"1",
    "empty.txt": b"",
}
LEFT = {
    "pytorch_model.bin": b"\x80\x04.",
    "README.md": b"# It",
    ".gitattributes": b"*",
    ".hidden.json": b"{}",
    "run.py": b"print()",
    "original/model.safetensors": b"another form",
    "model/deeper/config.json": b"{}",
}


def held(folder: Path) -> dict[str, bytes]:
    """The files of a folder."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


class WeightsContract:
    """What a place of weights must do; an adapter gives `weights` and `hold`."""

    @pytest.fixture
    def weights(self) -> Weights:
        """The adapter under test."""
        raise NotImplementedError

    @pytest.fixture
    def hold(self) -> Callable[[dict[str, bytes]], str]:
        """Puts files there, and returns the URI."""
        raise NotImplementedError

    @pytest.fixture
    def absent(self) -> str:
        """A URI at which nothing is."""
        raise NotImplementedError

    @pytest.fixture
    def into(self, tmp_path: Path) -> Path:
        """An empty folder."""
        (tmp_path / "into").mkdir()
        return tmp_path / "into"

    def test_what_shipway_takes_is_copied(self, weights, hold, into):
        """By kind and by folder: a pickle, code and other forms of the weights stay where they are."""
        weights.fetch(hold(TAKEN | LEFT), into, LIMITS)
        assert held(into) == TAKEN

    def test_what_is_not_there_is_not_found(self, weights, absent, into):
        """And nothing is written."""
        with pytest.raises(NotFound):
            weights.fetch(absent, into, LIMITS)
        assert held(into) == {}

    def test_a_place_without_a_model_is_not_found(self, weights, hold, into):
        """Whatever else lies there."""
        with pytest.raises(NotFound, match="no files that Shipway takes"):
            weights.fetch(hold(LEFT), into, LIMITS)

    @pytest.mark.parametrize(
        "limits",
        [FolderLimits(max_files=9), FolderLimits(max_file_bytes=319_999), FolderLimits(max_total_bytes=320_000)],
    )
    def test_too_much_is_refused_before_anything_is_copied(self, weights, hold, into, limits):
        """Too many files, one that is too large, or too much in all."""
        with pytest.raises(UnsafeArtifact) as caught:
            weights.fetch(hold(TAKEN), into, limits)
        assert caught.value.code == "E_LIMIT"
        assert held(into) == {}

    def test_what_may_be_as_large_as_it_is(self, weights, hold, into):
        """The limits themselves are allowed."""
        total = sum(map(len, TAKEN.values()))
        weights.fetch(hold(TAKEN), into, FolderLimits(max_files=10, max_file_bytes=320_000, max_total_bytes=total))
        assert held(into) == TAKEN

    @pytest.mark.parametrize("name", ["a#b.json", "a\\b.json", "%2e%2e.json", "c:x.json"])
    def test_an_odd_name_is_refused(self, weights, hold, into, name):
        """As in a folder that was registered."""
        with pytest.raises(BadInput) as caught:
            weights.fetch(hold(TAKEN | {name: b"{}"}), into, LIMITS)
        assert caught.value.code == "E_PATH"
        assert held(into) == {}


class TestMemoryWeights(WeightsContract):
    """In memory."""

    @pytest.fixture
    def weights(self) -> Weights:
        """Empty."""
        return MemoryWeights()

    @pytest.fixture
    def hold(self, weights) -> Callable[[dict[str, bytes]], str]:
        """By a name that is an address."""
        return lambda files: weights.held.update({"file:///m": files}) or "file:///m"

    @pytest.fixture
    def absent(self) -> str:
        """Another one."""
        return "file:///other"


class TestMountedWeights(WeightsContract):
    """In a folder that the operator allows, by a link in it."""

    @pytest.fixture
    def weights(self, tmp_path) -> Weights:
        """Two folders are allowed; the second one is not there."""
        return MountedWeights([tmp_path / "mounted", tmp_path / "unplugged"])

    @pytest.fixture
    def hold(self, tmp_path) -> Callable[[dict[str, bytes]], str]:
        """Below the first one."""

        def put(files: dict[str, bytes]) -> str:
            folder = tmp_path / "mounted" / "v 1"
            for name, data in files.items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(data)
            (tmp_path / "mounted" / "link").symlink_to("v 1")
            return (tmp_path / "mounted" / "link").as_uri()

        return put

    @pytest.fixture
    def absent(self, tmp_path) -> str:
        """The folder that is not there."""
        return (tmp_path / "unplugged" / "m").as_uri()


class TestHubWeights(WeightsContract):
    """Over HTTP, from a Hub that pages its listing and keeps large files elsewhere."""

    @pytest.fixture
    def hub(self) -> Iterator[Hub]:
        """Nothing lies there yet."""
        with closing(Hub()) as hub:
            yield hub

    @pytest.fixture
    def weights(self, hub) -> Weights:
        """The adapter."""
        return HubWeights(hub.front.url, pause_s=0.001)

    @pytest.fixture
    def hold(self, hub) -> Callable[[dict[str, bytes]], str]:
        """In its only repository."""
        return lambda files: hub.files.update(files) or f"hf://{REPOSITORY}@{COMMIT}"

    @pytest.fixture
    def absent(self) -> str:
        """Another commit."""
        return f"hf://{REPOSITORY}@{'b' * 40}"


class TestOciWeights(WeightsContract):
    """From an OCI registry that gives a token to whoever asks."""

    @pytest.fixture
    def registry(self) -> Iterator[OciRegistry]:
        """Nothing lies there yet."""
        with closing(OciRegistry()) as registry:
            yield registry

    @pytest.fixture
    def weights(self, registry) -> Weights:
        """The adapter."""
        return OciWeights({registry.front.host: ""}, pause_s=0.001)

    @pytest.fixture
    def hold(self, registry) -> Callable[[dict[str, bytes]], str]:
        """As the layers of its only artifact."""
        return lambda files: registry.files.update(files) or registry.uri

    @pytest.fixture
    def absent(self, registry) -> str:
        """Another artifact."""
        return f"oci://{registry.front.host}/models/tiny@sha256:{'0' * 64}"


class TestS3Weights(WeightsContract):
    """From a bucket that pages its listing, by somebody whom AWS's settings name."""

    @pytest.fixture
    def bucket(self) -> Iterator[Bucket]:
        """Nothing lies there yet."""
        with closing(Bucket(key="AKID")) as bucket:
            yield bucket

    @pytest.fixture
    def weights(self, bucket, monkeypatch) -> Weights:
        """The adapter."""
        set_aws(monkeypatch, bucket.front.url, "AKID")
        return S3Weights(["models"], pause_s=0.001)

    @pytest.fixture
    def hold(self, bucket) -> Callable[[dict[str, bytes]], str]:
        """Below a prefix, with what stands for its folder, and a model beside it."""

        def put(files: dict[str, bytes]) -> str:
            bucket.files |= {f"chat/v1/{name}": data for name, data in files.items()}
            bucket.files |= {"chat/v1/": b"", "chat/v10/config.json": b"another one"}
            return "s3://models/chat/v1"

        return put

    @pytest.fixture
    def absent(self) -> str:
        """Another prefix."""
        return "s3://models/nothing"


def test_a_scheme_chooses_the_adapter(tmp_path):
    """And one that nobody reads is refused, with a way around."""
    weights = SchemeWeights({"file": MemoryWeights({"file:///m": {"config.json": b"{}"}})})
    weights.fetch("file:///m", tmp_path, LIMITS)
    assert held(tmp_path) == {"config.json": b"{}"}
    with pytest.raises(BadInput, match="does not read s3://") as caught:
        weights.fetch("s3://bucket/prefix", tmp_path, LIMITS)
    assert (caught.value.code, caught.value.expected) == ("E_POINTER", "file://")


def test_without_a_place_nothing_is_fetched(tmp_path):
    """The port's default."""
    with pytest.raises(BadInput) as caught:
        NoWeights().fetch("file:///m", tmp_path, LIMITS)
    assert caught.value.code == "E_POINTER"
