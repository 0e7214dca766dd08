"""Does every Builder keep the port's promises?"""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.adapters.folder_builder import FolderBuilder
from pipelines.adapters.memory_registry import MemoryBuilder
from pipelines.errors import BadInput
from pipelines.ports import Builder

FACTS = {"engine": "torch", "labels": ["no", "yes"], "max_length": 64, "model": "sentiment", "variant": "source"}


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
        assert bundle.engine == "torch"
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
