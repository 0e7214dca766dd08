"""Does a release begin with the files that a version points at, and with no others?"""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flows.orders.pointing import point_at
from pipelines.adapters.memory.records import MemoryServices
from pipelines.adapters.memory.registry import MemoryRegistry
from pipelines.adapters.memory.weights import MemoryWeights
from pipelines.adapters.mlflow.registry import MlflowRegistry
from pipelines.adapters.weights.mounted import MountedWeights
from pipelines.adapters.weights.schemes import SchemeWeights
from pipelines.errors import BadInput, DependencyDown, NotFound, ShipwayError, UnsafeArtifact
from pipelines.ports import Weights
from pipelines.spec.spec_file import parse_spec
from pipelines.stages.intake import Intake, take_in
from pipelines.stages.pointed import fetch_weights
from pipelines.supply.bundle import artifact_digest
from pipelines.supply.checks.paths import FolderLimits
from pipelines.supply.pointer import POINTER, Pointer
from tests.pipelines.model_folders import LABELS, edit_json
from tests.waiting import until

SPEC = """\
model: models:/m/1
service: s
bootstrap: true
evaluate: {data: rows.csv, gates: [{metric: accuracy, min: 0.5}]}
"""


class World:
    """A model in a folder that is mounted, and a registry of which each version points there."""

    def __init__(self, tmp_path: Path, model: Path) -> None:
        self.work, self.folder, self.model = tmp_path / "work", tmp_path, model
        self.registry = MemoryRegistry()
        self.weights: Weights | None = SchemeWeights({"file": MountedWeights([model.parent])})
        (tmp_path / "rows.csv").write_text(f"text,label\na good day,{LABELS[0]}\na bad day,{LABELS[1]}\n")

    @property
    def uri(self) -> str:
        """Where the model lies."""
        return self.model.as_uri()

    def point(self, uri: str = "") -> Pointer:
        """One more version."""
        return point_at("m", uri or self.uri, self.weights, lambda: self.registry)[1]

    def take_in(self) -> Intake:
        """What `plan` and `release` do with version 1."""
        return take_in(
            parse_spec(SPEC),
            self.registry,
            MemoryServices(),
            data_dir=self.folder,
            work=self.work,
            weights=self.weights,
        )

    def refused(self) -> ShipwayError:
        """The error; nothing that could be used is left."""
        with pytest.raises(ShipwayError) as caught:
            self.take_in()
        assert not (self.work / "pointed").exists()
        assert not (self.work / "source").exists()
        return caught.value


@pytest.fixture
def world(tmp_path: Path, tiny_copy: Path) -> World:
    """Nothing is registered yet."""
    (tmp_path / "mounted").mkdir()
    return World(tmp_path, tiny_copy.rename(tmp_path / "mounted" / "v1"))


def test_a_release_begins_with_what_lies_there(world):
    """And its record says where that was; what Shipway does not take stays there."""
    (world.model / "pytorch_model.bin").write_bytes(pickle.dumps({"a": print}))
    pointer = world.point()
    intake = world.take_in()
    assert intake.facts()["weights"] == {"uri": world.uri, "digest": pointer.digest}
    assert intake.left_behind == ()
    assert sorted(path.name for path in world.work.iterdir()) == ["source"]
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        assert (intake.folder / name).read_bytes() == (world.model / name).read_bytes()
    assert intake.candidate.artifact_digest == artifact_digest(intake.folder)


def test_the_same_files_in_the_registry_are_the_same_candidate(world):
    """A pointer changes nothing about what serves; the record of a version with files names no place."""
    world.point()
    pointed = world.take_in()
    world.registry = MemoryRegistry()
    world.registry.add("m", world.model)
    registered = world.take_in()
    assert pointed.candidate.artifact_digest == registered.candidate.artifact_digest
    assert "weights" not in registered.facts()


def test_other_bytes_are_refused(world):
    """Both digests are named, and nothing of them was read."""
    pointer = world.point()
    edit_json(world.model / "config.json", auto_map={"AutoModel": "evil.py"})
    error = world.refused()
    assert isinstance(error, UnsafeArtifact)
    assert (error.code, error.field) == ("E_DIGEST", "digest")
    assert pointer.digest in error.reason
    assert error.reason.count("sha256:") == 2


@pytest.mark.parametrize("name", ["vocab.txt", "model.safetensors"])
def test_a_file_more_or_less_is_refused(world, name):
    """The digest is that of all files."""
    world.point()
    path = world.model / name
    path.unlink() if path.exists() else path.write_text("a\n")
    assert world.refused().code == "E_DIGEST"


def test_a_file_that_is_not_taken_does_not_matter(world):
    """Nobody reads it."""
    world.point()
    (world.model / "README.md").write_text("# It")
    world.take_in()


def test_a_pickle_under_another_name_is_refused(world):
    """Also where its digest is the one that was registered."""
    (world.model / "vocab.txt").write_bytes(pickle.dumps({"a": print}))
    digest = fetch_weights(world.uri, world.weights, world.folder / "look")
    world.registry.add("m", Pointer(world.uri, digest).write(world.folder / "version"))
    with pytest.raises(UnsafeArtifact) as caught:
        world.take_in()
    assert caught.value.code == "E_CONTENT_MISMATCH"


def test_without_a_place_such_a_version_is_refused(world):
    """Which is so wherever nothing else is wired."""
    world.point()
    world.weights = None
    error = world.refused()
    assert (error.code, error.exit_code) == ("E_POINTER", 2)
    assert world.uri in error.reason


def test_a_pointer_that_is_unclear_asks_nobody(world):
    """A registry may hold what anybody wrote."""
    version = Pointer(world.uri, "sha256:0").write(world.folder / "version")
    world.registry.add("m", version)
    world.weights = MemoryWeights()
    assert world.refused().code == "E_POINTER"
    (version / POINTER).write_text(json.dumps({"weights": "hf://org/model@main", "digest": "sha256:" + "0" * 64}))
    world.registry = MemoryRegistry()
    world.registry.add("m", version)
    assert "tomorrow" in world.refused().reason


class Broken:
    """Weights of which half arrives; `error` ends it."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def fetch(self, uri: str, into: Path, limits: FolderLimits) -> None:
        """Half of it."""
        (into / "config.json").write_text("{}")
        raise self.error


@pytest.mark.parametrize(
    ("error", "seen"),
    [
        (DependencyDown("broke"), DependencyDown),
        (KeyboardInterrupt(), KeyboardInterrupt),
        (OSError(28, "No space left on device"), DependencyDown),
    ],
)
def test_what_is_interrupted_leaves_nothing(tmp_path, error, seen):
    """A half is of no use to anybody."""
    with pytest.raises(seen):
        fetch_weights("file:///m", Broken(error), tmp_path / "pointed")
    assert not (tmp_path / "pointed").exists()


def test_what_a_killed_process_left_is_not_used(world):
    """It is thrown away, not gone on with."""
    world.point()
    (world.work / "pointed").mkdir(parents=True)
    (world.work / "pointed" / "config.json").write_text("{")
    (world.work / "pointed" / "other.json").write_text("{}")
    world.take_in()


@pytest.mark.parametrize("name", ["deep", "too-many"])
def test_whatever_an_adapter_brings_is_within_the_limits(tmp_path, name):
    """They are looked at once more."""

    class Careless:
        """Heeds no limit."""

        def fetch(self, uri: str, into: Path, limits: FolderLimits) -> None:
            """Too much."""
            (into / "a" / "b").mkdir(parents=True)
            (into / "a" / "b" / "c.json").write_text("{}")

    limits = FolderLimits(max_depth=1) if name == "deep" else FolderLimits(max_files=0)
    with pytest.raises(UnsafeArtifact) as caught:
        fetch_weights("file:///m", Careless(), tmp_path / "pointed", limits)
    assert caught.value.code == "E_LIMIT"
    assert not (tmp_path / "pointed").exists()


def test_the_same_place_is_registered_once(world):
    """Other bytes there are another version; the first bytes again are the first version again."""
    config = (world.model / "config.json").read_bytes()

    def pointed() -> int:
        return point_at("m", world.uri, world.weights, lambda: world.registry)[0].version

    assert [pointed(), pointed()] == [1, 1]
    edit_json(world.model / "config.json", note="another")
    assert [pointed(), pointed()] == [2, 2]
    (world.model / "config.json").write_bytes(config)
    assert pointed() == 1


@pytest.mark.parametrize(
    ("name", "uri", "code"),
    [("a;b", "", "E_NAME"), ("m", "hf://org/m@main", "E_POINTER"), ("m", "file:///etc", "E_PATH")],
)
def test_a_wrong_word_registers_nothing(world, name, uri, code):
    """The registry is not opened."""

    def never() -> MemoryRegistry:
        raise AssertionError("it was opened")

    with pytest.raises(BadInput) as caught:
        point_at(name, uri or world.uri, world.weights, never)
    assert caught.value.code == code


def test_what_is_unsafe_is_not_registered(world):
    """It could never be released."""
    (world.model / "vocab.txt").write_bytes(pickle.dumps({"a": print}))
    with pytest.raises(UnsafeArtifact):
        world.point()
    with pytest.raises(NotFound):
        world.registry.resolve("models:/m/1")


@pytest.mark.integration
def test_a_version_of_mlflow_points_at_a_folder(world):
    """Registered by a real MLflow, once, and taken in from there."""
    world.registry = MlflowRegistry(f"sqlite:///{world.folder / 'mlflow.db'}", world.folder / "artifacts")
    pointer = world.point()
    assert world.point() == pointer
    with pytest.raises(NotFound):
        world.registry.resolve("models:/m/2")
    assert world.registry.resolve("models:/m/1").tags["shipway.weights"] == pointer.said()
    assert world.take_in().facts()["weights"] == pointer.as_dict()
    world.work = world.folder / "another"
    edit_json(world.model / "config.json", note="another")
    assert world.refused().code == "E_DIGEST"


def shipway(home: Path, mounts: Path | str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command in a home, where these folders are mounted."""
    environment = {**os.environ, "SHIPWAY_HOME": str(home), "SHIPWAY_MOUNTS": str(mounts)}
    command = [sys.executable, "-m", "flows.cli", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=240)


@pytest.mark.integration
def test_the_command_line_points_and_plans(world):
    """`point` says version and digest, `plan` says where the weights lie; a refusal makes no home."""
    home = world.folder / "home"
    done = shipway(home, "", "point", "m", world.uri, "--json")
    assert (done.returncode, json.loads(done.stdout)["error"]["code"]) == (2, "E_PATH")
    assert not home.exists()
    said = shipway(home, world.model.parent, "point", "m", world.uri).stdout
    digest = fetch_weights(world.uri, world.weights, world.folder / "look")
    assert said == f"m version 1 → {world.uri} {digest}\n"
    (world.folder / "release.yaml").write_text(SPEC)
    plan = shipway(home, world.model.parent, "plan", str(world.folder / "release.yaml"), "--json")
    assert plan.returncode == 0, plan.stderr
    assert json.loads(plan.stdout)["weights"] == {"uri": world.uri, "digest": digest}


@pytest.mark.integration
def test_a_process_that_is_killed_half_way_leaves_nothing_that_is_used(world):
    """The private folder is half full then; whoever comes next begins again."""
    world.point()
    program = (
        "import sys, time; from pathlib import Path;"
        "from pipelines.adapters.weights.mounted import MountedWeights as M;"
        "from pipelines.stages.pointed import fetch_weights;"
        "copy = M._copy;"
        "M._copy = lambda self, file, *rest: (copy(self, file, *rest), time.sleep(600));"
        "fetch_weights(sys.argv[1], M([Path(sys.argv[2])]), Path(sys.argv[3]))"
    )
    pointed = world.work / "pointed"
    arguments = [world.uri, str(world.model.parent), str(pointed)]
    child = subprocess.Popen([sys.executable, "-c", program, *arguments])
    try:
        until(lambda: pointed.is_dir() and any(file.stat().st_size for file in pointed.iterdir()))
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert 0 < len(list(pointed.iterdir())) < 4
    world.take_in()
