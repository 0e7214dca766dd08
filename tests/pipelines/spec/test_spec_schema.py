"""The published JSON Schema is the spec's own, and an editor that knows it accepts what Shipway accepts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from pipelines.spec.spec_file import schema_text

ROOT = Path(__file__).parents[3]
PUBLISHED = ROOT / "docs" / "release.schema.json"
ROLLOUT = json.loads(schema_text())["$defs"]["RolloutSpec"]["properties"]


def complaints(text: str) -> list[str]:
    """Where an editor would see something wrong."""
    found = Draft202012Validator(json.loads(schema_text())).iter_errors(yaml.safe_load(text))
    return sorted(error.json_path for error in found)


def test_the_published_schema_is_current():
    """After a change of the spec: `shipway init --schema > docs/release.schema.json`."""
    assert PUBLISHED.read_text() == schema_text()


@pytest.mark.parametrize("name", ["starter", "demo", "demo/llm"])
def test_the_published_specs_are_right_in_an_editor(name):
    """Durations with a unit and steps that are bare numbers, too."""
    assert complaints((ROOT / "flows" / name / "release.yaml").read_text()) == []


def test_former_keys_are_known_to_an_editor_as_former():
    """They are accepted, struck through, and say what they are called now."""
    starter = (ROOT / "flows" / "starter" / "release.yaml").read_text()
    assert complaints(starter.replace("  hold: 5m", "  hold_s: 5m")) == []
    assert ROLLOUT["hold_s"] == {"deprecated": True, "description": "now hold"}


def test_a_wrong_duration_or_key_is_seen_in_an_editor():
    """Before Shipway is asked."""
    starter = (ROOT / "flows" / "starter" / "release.yaml").read_text()
    wrong = starter.replace("  hold: 5m", "  hold: 5 parsecs").replace("  bake: 15m", "  bakes: 15m")
    assert complaints(wrong) == ["$.rollout", "$.rollout.hold"]
