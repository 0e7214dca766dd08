"""Does a variant ship only where the gates accept it and it wins something, judged as users ask?"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from evals.gate import Outcome, Reason, Verdict
from flows.show.screen import _said
from pipelines.compress.search import depends_on_batch
from pipelines.compress.technique import Compressed, CompressionFailed
from pipelines.ports import Now
from pipelines.records.release import Release
from pipelines.stages import compress as stage
from pipelines.stages.evaluate import Judged
from pipelines.stages.steps import STEPS
from pipelines.tasks.classification import classification
from pipelines.tasks.classification.rows import Rows
from pipelines.tasks.task import Subject

GOLDEN = {"rows": [0]}
ROWS = Rows(tuple(f"text {n}" for n in range(90)), ("x",) * 90, {}, "sha256:0", tuple(range(1, 91)))
COMPRESS = next(step for step in STEPS if step.name == "compress")


class Shop:
    """A source of 1000 bytes, and a technique whose variant has a size and a speed."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.spec = SimpleNamespace(compress="dynamic-int8", model_name="m", serve=SimpleNamespace(cpus=2))
        self.work, self.source, self.now_s = root, root / "source", 0.0
        self.size, self.times_ms, self.judged = 500, {"source": 8.0, "dynamic-int8": 8.0}, Outcome.PASS
        self.source.mkdir()
        (self.source / "weights").write_bytes(bytes(1000))
        facts = {"engine": "torch", "labels": ["x"], "max_length": 8, "model": "m", "variant": "source"}
        monkeypatch.setattr(stage, "source_of", lambda *_: Subject("candidate", self.source, facts))
        monkeypatch.setattr(classification, "techniques_for", lambda name: () if name == "none" else (self,))
        monkeypatch.setattr(stage, "judge_subject", lambda *_: self.verdict())
        monkeypatch.setattr(classification, "load_engine", self.engine)
        self.threads: list[int] = []

    name = "dynamic-int8"

    def compress(self, _folder: Path, into: Path, _facts: object) -> Compressed:
        """A technique."""
        if not self.size:
            raise CompressionFailed("no such operator")
        into.mkdir()
        (into / "weights").write_bytes(bytes(self.size))
        return Compressed(into, "onnxruntime", {"technique": self.name}, self.size)

    def verdict(self) -> Judged:
        """The gates'."""
        return Judged(Verdict.of([Reason(self.judged, "accuracy", "accuracy is what it is")]), None, {"rows": [1]})

    def engine(self, _folder, facts, threads):
        """One that takes its time."""

        def predict(_texts):
            self.now_s += self.times_ms[facts["variant"]] / 1000

        self.threads.append(threads)
        return SimpleNamespace(predict=predict)

    def clock(self) -> Now:
        """Its own."""
        return Now(0.0, self.now_s)

    def rows(self, _release: Release) -> Rows:
        """The evaluation's."""
        return ROWS

    def found(self):
        """What the step finds."""
        release = Release().record(1.0, "opened", id="r", service="s", spec={}, spec_digest="")
        return stage.compress(self, release.enter("evaluated", 2.0, golden=GOLDEN))


@pytest.fixture
def shop(tmp_path, monkeypatch) -> Shop:
    """Before its step."""
    return Shop(tmp_path, monkeypatch)


def test_a_variant_that_wins_ships(shop):
    """The gain is in the record, and among the reasons of the verdict."""
    found = shop.found()
    assert (found["variant"], found["folder"], found["golden"]) == ("dynamic-int8", "dynamic-int8", {"rows": [1]})
    assert (found["gain"]["source_mb"], found["gain"]["variant_mb"], found["gain"]["n"]) == (0.001, 0.0005, 45)
    assert [(r["outcome"], r["gate"]) for r in found["verdict"]["reasons"]] == [("pass", "accuracy"), ("pass", "gain")]
    assert found["verdict"]["reasons"][1]["sentence"].startswith("dynamic-int8 ships: it is smaller (0.0005 instead of")
    assert json.loads(json.dumps(found))["gain"] == found["gain"]
    assert shop.threads == [2, 2]


def test_a_variant_that_wins_nothing_does_not_ship(shop):
    """The source ships: the record, the report and the terminal say why."""
    shop.size, shop.times_ms["dynamic-int8"] = 940, 104.0
    found = shop.found()
    assert (found["variant"], found["folder"], found["golden"]) == ("source", "source", GOLDEN)
    why = (
        "dynamic-int8 does not ship: it is neither smaller nor faster (0.00094 instead of 0.001 MB, "
        "104 instead of 8 ms for one text, n=45; 10% smaller or 5% faster is required)"
    )
    assert [r["sentence"] for r in found["verdict"]["reasons"]] == [why]
    assert found["verdict"]["outcome"] == "pass"
    assert _said(COMPRESS, found) == f"source ships.  {why}"


def test_a_variant_that_is_only_faster_ships(shop):
    """Its file may be larger."""
    shop.size, shop.times_ms["dynamic-int8"] = 1100, 4.0
    assert shop.found()["variant"] == "dynamic-int8"


@pytest.mark.parametrize(("size", "why"), [(500, "accuracy is what it is"), (0, "it failed: no such operator")])
def test_what_the_gates_or_the_exporter_refuse_is_not_timed(shop, size, why):
    """The first reason is told."""
    shop.size, shop.judged = size, Outcome.FAIL
    found = shop.found()
    assert (found["variant"], shop.now_s) == ("source", 0.0)
    assert found["rejected"] == [{"technique": "dynamic-int8", "why": why}]


def test_without_a_technique_there_is_nothing_to_say(shop):
    """As in older records: no verdict."""
    shop.spec.compress = "none"
    assert sorted(shop.found()) == ["facts", "folder", "golden", "rejected", "variant"]


def test_a_bundle_without_a_variant_does_not_depend_on_the_batch():
    """Nor does a source."""
    assert [depends_on_batch(facts) for facts in ({}, {"variant": "source"}, {"variant": "dynamic-int8"})] == [
        False, False, True,
    ]  # fmt: skip
