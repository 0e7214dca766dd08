"""Is every architecture with which transformers classifies texts accepted as transformers saves it?

The whole walk takes ten minutes of CPU, most of them for exports:
`SHIPWAY_WALK=1 python -m pytest tests/pipelines/architectures -m integration`. Its result is `walk.json`, which it
writes anew.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.pipelines.architectures.exported import (
    FIVE_EXPORTED,
    CannotBeExported,
    exported_difference,
    walk_exported,
)
from tests.pipelines.architectures.walk import FIVE, difference, make, names, refusal, walk
from tests.pipelines.model_folders import read_tensors, write_tensors
from tests.pipelines.supply.asking import ask_here
from tests.pipelines.supply.refusals import refusal as refused

pytestmark = pytest.mark.integration

RECORD = Path(__file__).with_name("walk.json")
LEAST_ACCEPTED = 0.95


@pytest.fixture(autouse=True)
def _asked_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the program that a child runs, without importing transformers anew for each."""
    monkeypatch.setattr("pipelines.supply.oracle.child.ask", ask_here)


@pytest.mark.parametrize("name", FIVE)
def test_a_family_is_accepted(name, tmp_path):
    """Made, saved and loaded by transformers; scanned, and laid out with a length that it takes."""
    assert refusal(make(name, tmp_path / name)) == ""


@pytest.mark.parametrize("name", FIVE)
def test_a_family_is_answered_as_by_transformers(name, tmp_path):
    """Alone and together, short and cut."""
    assert difference(make(name, tmp_path / name)) == ""


@pytest.mark.parametrize("name", FIVE_EXPORTED)
def test_an_exported_family_is_answered_as_by_transformers(name, tmp_path):
    """By ONNX Runtime, before anything is quantized."""
    assert exported_difference(make(name, tmp_path / name)) == ""


def test_what_cannot_be_exported_says_why(tmp_path):
    """By the first reason, and not by the exporter's step."""
    with pytest.raises(CannotBeExported, match=r"No ONNX function found for .*grouped_mm"):
        exported_difference(make("mixtral", tmp_path / "mixtral"))


@pytest.mark.parametrize("name", FIVE)
def test_a_part_of_another_model_is_refused(name, tmp_path):
    """The tensor that is missing is named as the file would name it, whatever transformers makes of it."""
    folder = make(name, tmp_path / name)
    header, data = read_tensors(folder / "model.safetensors")
    header.pop("__metadata__", None)
    last = max(header, key=lambda tensor: header[tensor]["data_offsets"][1])
    begin, _ = header.pop(last)["data_offsets"]
    write_tensors(folder / "model.safetensors", header, data[:begin])
    error = refused(folder)
    assert (error.code, error.exit_code, last in error.reason) == ("E_CONFIG_MISMATCH", 2, True)


def test_an_expert_of_another_shape_is_named(tmp_path):
    """Transformers joins the experts of a layer into one tensor before it looks at shapes."""
    folder = make("mixtral", tmp_path / "mixtral")
    header, data = read_tensors(folder / "model.safetensors")
    expert = "model.layers.1.block_sparse_moe.experts.2.w1.weight"
    header[expert]["shape"] = header[expert]["shape"][::-1]
    write_tensors(folder / "model.safetensors", header, data)
    assert refused(folder).reason == f"{expert} has shape (32, 64), config.json makes it (64, 32)"


@pytest.mark.skipif(not os.environ.get("SHIPWAY_WALK"), reason="SHIPWAY_WALK=1 asks all of them")
@pytest.mark.timeout(3600)
def test_the_whole_mapping_is_walked(tmp_path):
    """At least 95 % of what transformers itself makes tiny; the result is recorded beside this file."""
    walked = walk(tmp_path)
    figures = {**walked.figures(), "exported": walk_exported(tmp_path, walked.accepted).figures()}
    RECORD.write_text(json.dumps(figures, indent=2) + "\n")
    assert figures["accepted"] >= LEAST_ACCEPTED * figures["tried"]


def test_the_record_is_of_this_mapping():
    """Every architecture is accounted for: accepted, refused or omitted."""
    figures = json.loads(RECORD.read_text())
    omitted = sum(map(len, figures["omitted_by_reason"].values()))
    refusals = sum(map(len, figures["refused_by_reason"].values()))
    assert figures["in_mapping"] == figures["tried"] + omitted == figures["accepted"] + refusals + omitted
    assert figures["in_mapping"] == len(names())
    assert figures["accepted"] >= LEAST_ACCEPTED * figures["tried"]


def test_the_record_accounts_for_every_export():
    """Of what is accepted, each is equal, or left out by its reason."""
    figures = json.loads(RECORD.read_text())
    exported = figures["exported"]
    assert exported["tried"] == figures["accepted"]
    assert exported["tried"] == exported["exported"] + sum(map(len, exported["omitted_by_reason"].values()))
    assert exported["exported"] == exported["equal"] + sum(map(len, exported["unlike_by_reason"].values()))
