"""Does a demo clear away only what is its own, and show how its spec changes from release to release?"""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from flows.demo.stage import Stage
from flows.demo.telling import show_spec
from flows.wiring import wire
from pipelines.errors import BadInput
from pipelines.home import Home
from pipelines.records.service import Service


@pytest.fixture
def stage(tmp_path):
    """A stage in a fresh home, with a screen that can be read."""
    home = Home.open(tmp_path / "home")
    return Stage(home, "sentiment", "production.csv", 40, tmp_path / "demo.json", Console(file=io.StringIO(), width=80))


def files_of(stage):
    """What lies in the home and beside it, and holds something."""
    return {str(path.relative_to(stage.result.parent)) for path in stage.result.parent.rglob("*") if path.is_file()}


def test_a_home_with_somebody_elses_services_is_left_alone(stage):
    """Also where the demo's own is among them."""
    for name in ("sentiment", "payments"):
        wire(stage.home).services.save(Service(name))
    (stage.folder).mkdir()
    (stage.folder / "release.yaml").touch()
    before = files_of(stage)
    with pytest.raises(BadInput) as refused:
        stage.begin_again()
    assert (refused.value.code, refused.value.field) == ("E_DEMO", "SHIPWAY_HOME")
    assert files_of(stage) >= before


def test_a_home_without_a_demo_is_left_as_it_is(stage):
    """Nothing of an earlier one is there to be cleared away."""
    wire(stage.home).services.save(Service("sentiment"))
    (stage.home.root / "logs" / "up.log").write_text("kept")
    before = files_of(stage)
    stage.begin_again()
    assert files_of(stage) == before


@pytest.mark.integration
def test_an_earlier_demo_is_cleared_away_and_its_models_stay(stage):
    """Records, registry, logs and the result go; models took minutes to train, and rows are written anew."""
    wire(stage.home).services.save(Service("sentiment"))
    kept = {"home/demo/models/v1/config.json", "home/demo/release.yaml"}
    gone = {"home/logs/up.log", "home/bundles/sha256-1/facts.json", "home/mlflow.db", "demo.json"}
    for name in (*kept, *gone):
        path = stage.result.parent / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    stage.begin_again()
    assert not files_of(stage) & (gone | {"home/ledger.db"})
    assert files_of(stage) >= kept
    assert wire(stage.home).services.names() == ()


def test_a_spec_is_shown_once_and_then_what_changed(stage):
    """A reader sees what one release says that the one before it did not."""
    first, second = "model: m\nserve:\n  args: {slots: 4}\n", "model: m\nserve:\n  args: {slots: 4, batch: 1}\n"
    shown = []
    for before, text in (("", first), (first, first), (first, second)):
        stage.console.file = io.StringIO()
        show_spec(stage, before, text)
        shown.append(stage.console.file.getvalue())
    assert all(line in shown[0] for line in first.splitlines())
    assert shown[1] == ""
    assert "model" not in shown[2]
    assert "-   args: {slots: 4}\n+   args: {slots: 4, batch: 1}\n" in shown[2]
