"""Is what a brought engine serves the model as it was registered?"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipelines.compress.unchanged import Unchanged
from pipelines.errors import BadInput
from pipelines.supply.bundle import artifact_digest, bundle_digest

TOLD = {"context": 512, "precision": "bfloat16", "version": "vllm 0.32.0", "flags": {"seed": 1}}
FACTS = {"engine": "vllm", "model": "m", "variant": "safetensors", **TOLD}


@pytest.fixture
def source(tmp_path) -> Path:
    """Some files."""
    (tmp_path / "source").mkdir()
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "source" / name).write_text(name)
    return tmp_path / "source"


@pytest.mark.parametrize("has_links", [True, False])
def test_the_files_are_the_sources(source, tmp_path, monkeypatch, has_links):
    """All of them, and nothing from a try before; on a disk without links they are copied."""
    if not has_links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError("no links here")))
    into = tmp_path / "into"
    into.mkdir()
    (into / "left").touch()
    made = Unchanged("vllm").compress(source, into, {})
    assert artifact_digest(made.folder) == artifact_digest(source) == made.recipe["source"]
    assert (made.engine, made.size_bytes) == ("vllm", len("config.jsonmodel.safetensors"))
    assert (source / "config.json").samefile(into / "config.json") == has_links


@pytest.mark.parametrize(
    "change", [{"version": "vllm 0.33.0"}, {"flags": {"seed": 2}}, {"context": 256}, {"precision": "float16"}]
)
def test_another_engine_is_another_bundle(source, change):
    """By its digest: version, flags, context and precision."""
    assert bundle_digest(source, {**FACTS, **change}) != bundle_digest(source, FACTS)


@pytest.mark.parametrize("missing", ["version", "context", "precision"])
def test_a_bundle_says_all_of_it(source, missing):
    """Or is none."""
    with pytest.raises(BadInput) as caught:
        bundle_digest(source, {key: value for key, value in FACTS.items() if key != missing})
    assert (caught.value.code, caught.value.field) == ("E_FACTS", missing)
