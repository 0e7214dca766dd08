"""Is the task of a bundle, and of a model, found?"""

from __future__ import annotations

import pytest

from pipelines.errors import BadInput
from pipelines.tasks.known import task_for, task_of, wire_of
from tests.pipelines.model_folders import LABELS

OLD = {"engine": "torch", "labels": list(LABELS), "max_length": 64, "model": "m", "variant": "source"}
"""As every bundle said before there was a word for tasks."""


def test_a_bundle_that_names_no_task_classifies():
    """Old bundles and records are read."""
    assert task_of(OLD).name == task_of({}).name == task_of({**OLD, "task": "classification"}).name == "classification"


@pytest.mark.parametrize("find", [task_of, wire_of])
def test_an_unknown_task_is_refused(find):
    """A bundle of a later Shipway, with what this one knows."""
    with pytest.raises(BadInput) as caught:
        find({**OLD, "task": "juggling"})
    assert str(caught.value) == "E_TASK (task): the task 'juggling' is not known"
    assert caught.value.expected == "classification, generation"


@pytest.mark.parametrize("config", [{}, {"architectures": []}, {"architectures": ["BertForSequenceClassification"]}])
def test_a_model_without_an_architecture_is_taken_for_a_classifier(config):
    """Whether it is one is checked before."""
    assert task_for(config).name == "classification"


def test_a_server_knows_its_callers_without_who_judges():
    """By the bundle's labels, whatever they are in its JSON."""
    assert wire_of({**OLD, "labels": ["no", 1]}).labels == ("no", "1")
