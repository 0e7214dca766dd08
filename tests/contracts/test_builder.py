"""Does every Builder keep the port's promises?"""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.adapters.docker.builder import DockerBuilder, remove_images
from pipelines.adapters.docker.engine import BUNDLE_LABEL, engine, image_id
from pipelines.adapters.memory.registry import MemoryBuilder
from pipelines.adapters.processes.folder_builder import FolderBuilder
from pipelines.errors import BadInput, DependencyDown
from pipelines.ports import Builder
from tests.systems.docker_engine import BASE_IMAGE

FACTS = {"engine": "onnxruntime", "labels": ["no", "yes"], "max_length": 64, "model": "sentiment", "variant": "source"}


class BuilderContract:
    """What a Builder must do."""

    @pytest.fixture
    def builder(self, tmp_path: Path) -> Builder:
        """The adapter under test."""
        raise NotImplementedError

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """Something to build."""
        folder = tmp_path / "prepared"
        (folder / "inner").mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        (folder / "inner" / "words.txt").write_text("hello")
        return folder

    def test_a_bundle_says_what_it_is(self, builder, folder):
        """Digest, folder, engine and size."""
        bundle = builder.build(folder, FACTS)
        assert bundle.digest.startswith("sha256:")
        assert (bundle.path / "inner" / "words.txt").read_text() == "hello"
        assert bundle.engine == "onnxruntime"
        assert bundle.size_bytes >= len("{}hello")

    def test_the_same_input_is_built_once(self, builder, folder):
        """Same files, same facts in another order: the same bundle at the same place."""
        assert builder.build(folder, FACTS) == builder.build(folder, dict(reversed(FACTS.items())))

    def test_other_files_are_another_bundle(self, builder, folder):
        """One changed letter changes the digest."""
        before = builder.build(folder, FACTS).digest
        (folder / "inner" / "words.txt").write_text("hellO")
        assert builder.build(folder, FACTS).digest != before

    def test_other_facts_are_another_bundle(self, builder, folder):
        """The facts are part of what is sealed."""
        assert builder.build(folder, FACTS).digest != builder.build(folder, {**FACTS, "max_length": 32}).digest

    @pytest.mark.parametrize("missing", sorted(FACTS))
    def test_a_missing_fact_is_named(self, builder, folder, missing):
        """A server could not start without it."""
        with pytest.raises(BadInput) as caught:
            builder.build(folder, {key: value for key, value in FACTS.items() if key != missing})
        assert (caught.value.code, caught.value.field) == ("E_FACTS", missing)


class TestFolderBuilder(BuilderContract):
    """Content-addressed folders."""

    @pytest.fixture
    def builder(self, tmp_path: Path) -> Builder:
        """On an empty store."""
        return FolderBuilder(tmp_path / "store")


class TestMemoryBuilder(BuilderContract):
    """The in-memory adapter."""

    @pytest.fixture
    def builder(self, tmp_path: Path) -> Builder:
        """A new one."""
        return MemoryBuilder()


@pytest.mark.integration
@pytest.mark.docker
@pytest.mark.usefixtures("docker_engine")
@pytest.mark.timeout(600)
class TestDockerBuilder(BuilderContract):
    """Images of a real engine."""

    @pytest.fixture
    def builder(self, tmp_path: Path) -> Builder:
        """On an empty store; the engine knows the base image."""
        return DockerBuilder(tmp_path / "store", "home", BASE_IMAGE)

    def test_the_image_is_found_by_the_digest_of_its_bundle(self, builder, folder):
        """One image, without a tag that could be moved, and nobody is root in it."""
        bundle = builder.build(folder, FACTS)
        image = engine().images.get(bundle.image)
        assert image.labels[BUNDLE_LABEL] == bundle.digest
        assert (image.id, image.attrs["Config"]["User"]) == (bundle.image, "10001:10001")
        assert "pipelines.serving.server.alive" in str(image.attrs["Config"]["Healthcheck"]["Test"])

    def test_an_image_goes_with_its_home(self, builder, tmp_path, folder):
        """Another home's image of the same bundle stays, and so does the runtime that it stands on."""
        other = DockerBuilder(tmp_path / "other", "elsewhere", BASE_IMAGE).build(folder, FACTS)
        ours = builder.build(folder, FACTS)
        assert ours.digest == other.digest
        remove_images("home", ours.digest)
        remove_images("home", ours.digest)
        assert image_id(engine(), ours.image) == ""
        assert image_id(engine(), other.image) == other.image
        assert builder.build(folder, FACTS).digest == ours.digest

    def test_an_unknown_base_is_said(self, tmp_path, folder):
        """E_BUILD with what the engine says; there is no bundle without an image in the record."""
        with pytest.raises(DependencyDown) as caught:
            DockerBuilder(tmp_path / "store", "home", "localhost:1/nobody/has-this:1.0").build(folder, FACTS)
        assert (caught.value.code, caught.value.field) == ("E_BUILD", "package.target")


def test_without_an_engine_it_says_what_to_do(tmp_path, monkeypatch):
    """E_DOCKER, with the way out."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody")
    (tmp_path / "prepared").mkdir()
    (tmp_path / "prepared" / "config.json").write_text("{}")
    with pytest.raises(DependencyDown, match="does not answer") as caught:
        DockerBuilder(tmp_path / "store", "home").build(tmp_path / "prepared", FACTS)
    assert caught.value.code == "E_DOCKER"
    assert "process" in caught.value.hint
