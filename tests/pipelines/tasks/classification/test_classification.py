"""What does a text classifier promise, and how is it asked?"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from evals.offline.suite import Suite
from pipelines.spec.serve import ServeSpec
from pipelines.stages.evaluate import source_subject
from pipelines.supply.layout import read_layout
from pipelines.tasks.classification.classification import Classification, asked_as
from pipelines.tasks.task import Subject
from tests.pipelines.model_folders import LABELS, edit_json


def promised(folder: Path) -> dict[str, object]:
    """By a folder."""
    return Classification().promises(read_layout(folder), ServeSpec())


def test_a_classifier_promises_its_labels_and_its_length(tiny_model):
    """And names no task: its bundles and their digests are those of before there were others."""
    assert json.dumps(promised(tiny_model)) == json.dumps({"labels": list(LABELS), "max_length": 64})
    assert json.dumps(source_subject(tiny_model, "m", ServeSpec()).facts) == json.dumps(
        {"engine": "torch", "labels": list(LABELS), "max_length": 64, "model": "m", "variant": "source"}
    )


def test_labels_follow_the_ids_not_the_file(tiny_copy):
    """Ten labels and more sort by number."""
    edit_json(tiny_copy / "config.json", id2label={str(i): f"label {i}" for i in reversed(range(11))})
    assert promised(tiny_copy)["labels"] == [f"label {i}" for i in range(11)]


def test_two_labels_need_no_names(tiny_copy):
    """Two is what transformers leaves out."""
    config = json.loads((tiny_copy / "config.json").read_text())
    (tiny_copy / "config.json").write_text(json.dumps({k: v for k, v in config.items() if k != "id2label"}))
    assert promised(tiny_copy)["labels"] == ["LABEL_0", "LABEL_1"]


@pytest.mark.parametrize(("variant", "batch_size"), [("source", 32), ("dynamic-int8", 1)])
def test_who_depends_on_the_batch_is_asked_alone(variant, batch_size):
    """As users ask; the source is asked as the spec says."""
    suite = Suite(("a", "b"), ("x", "y"), {}, ("accuracy",), (), 32)
    assert asked_as(Subject(variant, Path(), {"variant": variant}), suite) == replace(suite, batch_size=batch_size)
