"""Only PASS lets a release go on, and a server that never gets ready is an answer, too."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from evals.gate import Outcome, Reason, Verdict
from pipelines.errors import BadInput, DependencyDown
from pipelines.records.release import Phase, Release
from pipelines.records.unit import UnitStatus
from pipelines.services.units import server_name
from pipelines.stages.evaluate import evaluate
from pipelines.stages.stage import EXITS_AT_STAGING, READY_TIMEOUT_S, stage
from pipelines.stages.steps import STEPS, conclude, could_not
from pipelines.stages.workshop import Workshop
from tests.pipelines.model_folders import LABELS
from tests.pipelines.rollout.test_look import NEW, SPEC, World

STEP = {step.name: step for step in STEPS}


class Bench(World):
    """A world whose release stands before a step."""

    def before(self, phase: Phase) -> Release:
        """The release as it was when it entered a phase, with a record of its own."""
        entered = [i for i, e in enumerate(self.release.events) if e.data.get("phase", Phase.OPEN) == phase]
        events = self.release.events[: entered[-1] + 1]
        self.ports.ledger.chains["r1"] = events
        return Release.fold(events)

    def shop(self) -> Workshop:
        """A workshop whose waiting moves the clock."""
        return Workshop(self.ports, None, self.token, SPEC, Path(), Path(), self.now, self.sleep)

    def sleep(self, seconds: float) -> None:
        """Time goes by."""
        self.wall_s += seconds


@pytest.fixture
def bench() -> Bench:
    """A world before its steps."""
    return Bench()


def judged(outcome: Outcome) -> dict[str, object]:
    """Findings with one reason."""
    return {"verdict": Verdict.of([Reason(outcome, "g", "because")]).as_dict()}


@pytest.mark.parametrize("step", STEPS, ids=lambda s: s.name)
@pytest.mark.parametrize("outcome", [Outcome.FAIL, Outcome.INCONCLUSIVE, Outcome.ERROR])
def test_nothing_but_pass_goes_on(bench, step, outcome):
    """A proven failure rejects, anything else is held; the candidate is no longer wanted, and the reason is kept."""
    ended = conclude(bench.shop(), bench.before(step.before), step, judged(outcome))
    assert ended.phase is (Phase.REJECTED if outcome is Outcome.FAIL else Phase.HELD)
    assert ended.reason == "because"
    assert bench.ports.services.load("s").candidate is None
    assert bench.ports.ledger.load("r1").phase is ended.phase


def test_pass_goes_on(bench):
    """To the phase after the step."""
    assert conclude(bench.shop(), bench.before(Phase.OPEN), STEP["evaluate"], judged(Outcome.PASS)).phase == "evaluated"


def test_a_server_that_gets_ready_is_staged(bench):
    """Without a verdict: there is nothing to judge yet."""
    assert "verdict" not in stage(bench.shop(), bench.before(Phase.BUILT))


def test_a_server_that_never_gets_ready_is_held(bench):
    """It is not waited for for ever, and the reason names what was seen."""
    bench.ports.runtime.set(server_name("s", NEW, 0), UnitStatus("starting"))
    began_s = bench.wall_s
    findings = stage(bench.shop(), bench.before(Phase.BUILT))
    assert READY_TIMEOUT_S < bench.wall_s - began_s < READY_TIMEOUT_S + 1
    ended = conclude(bench.shop(), bench.before(Phase.BUILT), STEP["stage"], findings)
    assert (ended.phase, ended.reason) == (Phase.HELD, "the staged server did not get ready: starting")


def test_a_server_that_keeps_ending_is_not_waited_for(bench):
    """Three ends are enough."""
    name, began_s = server_name("s", NEW, 0), bench.wall_s
    bench.ports.runtime.set(name, UnitStatus("failed", reason="exit 3", restarts=EXITS_AT_STAGING))
    findings = stage(bench.shop(), bench.before(Phase.BUILT))
    assert findings["verdict"]["outcome"] == "error"
    assert bench.wall_s - began_s < 1


def test_a_gateway_that_is_away_says_nothing_about_the_candidate(bench, monkeypatch):
    """The release stays where it is, for whoever goes on with it."""

    def away(_: str) -> None:
        raise DependencyDown("no gateway", code="E_ROUTER")

    monkeypatch.setattr(bench.ports.router, "read", away)
    with pytest.raises(DependencyDown, match="no gateway"):
        stage(bench.shop(), bench.before(Phase.BUILT))


def test_a_step_that_raises_is_held(bench):
    """With what it said; nothing but PASS goes on."""
    findings = could_not(STEP["evaluate"], RuntimeError("rows 33 to 48: index out of range"))
    ended = conclude(bench.shop(), bench.before(Phase.OPEN), STEP["evaluate"], findings)
    assert (ended.phase, ended.reason) == (Phase.HELD, "evaluate failed: rows 33 to 48: index out of range")


def with_rows(bench, rows, folder, model):
    """A shop whose candidate is this model, and whose evaluation has these rows."""
    (folder / "d.csv").write_text(rows)
    shutil.copytree(model, folder / "work" / "source")
    return replace(bench.shop(), data_dir=folder, work=folder / "work")


def test_doubts_about_the_rows_are_recorded_with_what_was_judged(bench, tmp_path, tiny_model):
    """Rows that contradict each other are judged all the same."""
    rows = "text,label\n" + "".join(f"a text {n},{label}\na text {n},0\n" for n, label in enumerate(LABELS * 4))
    shop = with_rows(bench, rows, tmp_path, tiny_model)
    opened = bench.before(Phase.OPEN)
    data = {**opened.last("resolved").data, "data_digest": shop.rows(opened).digest, "champion": None}
    release = opened.record(2.0, "resolved", **data)
    first, second, third = evaluate(shop, release)["doubts"]
    assert first.startswith("4 rows repeat the text and the label of an earlier one: rows 1 and 2, 7 and 8, ")
    assert second.startswith("8 rows repeat the text of an earlier one, with another label: rows 3 and 4, ")
    assert third == f"labels are given by number: 0 is {LABELS[0]}"


def test_rows_that_were_changed_meanwhile_are_refused(bench, tmp_path, tiny_model):
    """Everything is judged on the rows that the release was opened with."""
    rows = "text,label\n" + "".join(f"a text {n},{label}\n" for n, label in enumerate(LABELS * 4))
    shop = with_rows(bench, rows, tmp_path, tiny_model)
    release = bench.before(Phase.OPEN)
    digest = shop.rows(release).digest
    opened = release.record(2.0, "resolved", **{**release.last("resolved").data, "data_digest": digest})
    assert shop.rows(opened).texts
    (tmp_path / "d.csv").write_text(rows + "one more,negative\n")
    with pytest.raises(BadInput) as caught:
        shop.rows(opened)
    assert (caught.value.code, caught.value.field) == ("E_DATASET", "evaluate.data")
