"""The published JSON Schema is the spec's own."""

from __future__ import annotations

from pathlib import Path

from pipelines.spec.spec_file import schema_text

PUBLISHED = Path(__file__).parents[3] / "docs" / "release.schema.json"


def test_the_published_schema_is_current():
    """After a change of the spec: `shipway init --schema > docs/release.schema.json`."""
    assert PUBLISHED.read_text() == schema_text()
