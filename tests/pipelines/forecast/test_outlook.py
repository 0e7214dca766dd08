"""Does `shipway plan` say what a release would do, and whether its traffic can decide it?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from evals.planning.usual import Usual
from flows.cli.release import _plan_text
from flows.show.needs import plan_lines
from pipelines.forecast.outlook import outlook
from pipelines.ports import RegisteredVersion
from pipelines.records.release import Candidate
from pipelines.records.service import Deployment, Service
from pipelines.spec.spec_file import parse_spec
from pipelines.stages.intake import Intake
from pipelines.tasks.classification.rows import read_rows
from tests.pipelines.model_folders import LABELS

SPEC = """\
model: models:/m/2
service: s
evaluate: {data: rows.csv, gates: [{metric: accuracy, min: 0.5}]}
rollout: {steps: [5, 50], on_undecidable: refuse, gates: {latency: null}}
"""


@pytest.fixture
def intake(tiny_copy: Path, tmp_path: Path) -> Intake:
    """A second version of a model that serves."""
    (tmp_path / "rows.csv").write_text(f"text,label\na good day,{LABELS[0]}\na bad day,{LABELS[1]}\n")
    rows = read_rows(tmp_path / "rows.csv", text="text", label="label", slices=(), known_labels=LABELS)
    service = Service("s", stable=Deployment("sha256:b", "/b", "m", 1, "r0"))
    candidate = Candidate("m", 2, "sha256:a")
    return Intake(RegisteredVersion("m", 2), tiny_copy, candidate, rows, service, 1, ())


def said(facts) -> str:
    """The lines about traffic."""
    return "\n".join(plan_lines(facts))


def test_a_plan_says_what_its_gates_need(intake):
    """Canary requests and minutes of each gate, what was measured and what is assumed, and that it can decide."""
    facts = outlook(parse_spec(SPEC), intake, (Usual(50.0), "measured at the running gateway"))
    text = said(facts)
    assert "traffic   50 requests/s (measured at the running gateway); 0.50% of the requests fail" in text
    assert "canary requests (" in text
    assert "to catch 1 pp more failed requests" in text
    assert "not measured, so taken from the simulated releases: errors, latency, scores" in text
    assert facts["needs"] == "the 50 requests/s that there are; it can decide in time"
    assert facts["canary_requests_to_promote"] == 335
    assert facts["champion"].startswith("v1 ")


def test_a_plan_says_what_is_doubtful_about_the_rows(intake):
    """Nothing is refused for it."""
    facts = outlook(parse_spec(SPEC), replace(intake, rows=replace(intake.rows, texts=("the same", "the same"))))
    assert "  doubtful  1 row repeats the text of an earlier one, with another label: rows 1 and 2" in _plan_text(facts)


@pytest.mark.parametrize(
    ("requests_per_s", "gates", "said"),
    [
        (5.0, "{}", "errors, latency p50 and latency p90 can catch a canary that is worse by then, latency p99 cannot"),
        (1.0, "{latency: null}", "no gate can catch a canary that is worse by then (errors)"),
    ],
)
def test_a_plan_that_can_promote_and_not_catch_says_so(intake, requests_per_s, gates, said):
    """Nobody reads that all is well where a harm is still with users at the deadline."""
    spec = parse_spec(SPEC.replace("gates: {latency: null}", f"gates: {gates}"))
    facts = outlook(spec, intake, (Usual(requests_per_s), "measured"))
    there = f"the {requests_per_s:g} requests/s that there are; it can promote before its deadline of 120m"
    assert (facts["undecidable"], facts["needs"]) == ("", f"{there}; {said}")


def test_a_plan_that_cannot_decide_says_so(intake):
    """In one line, with what helps, and that a release would be refused."""
    facts = outlook(parse_spec(SPEC), intake, (Usual(50.0), "measured"), requests_per_s=0.01)
    lines = said(facts).splitlines()
    assert [line for line in lines if "cannot decide before its deadline" in line] == [f"  needs     {facts['needs']}"]
    assert any(line.startswith("  helps     ") for line in lines)
    assert lines[-1].endswith("E_UNDECIDABLE")


def test_what_was_converted_is_said(intake):
    """Beside the digest, which covers it."""
    facts = outlook(parse_spec(SPEC), replace(intake, converted=("tokenizer.json from vocab.txt",)))
    assert facts["converted"] == ["tokenizer.json from vocab.txt"]
    assert _plan_text(facts).splitlines()[1:3] == ["  files     sha256:a", "  converted tokenizer.json from vocab.txt"]


def test_without_measured_traffic_it_asks_for_a_rate(intake):
    """Needs are told in requests alone."""
    text = said(outlook(parse_spec(SPEC), intake))
    assert "traffic   unknown (--rps N says it)" in text
    assert "min)" not in text


def test_a_first_release_needs_no_traffic(intake):
    """There is nothing to compare it with."""
    facts = outlook(parse_spec(SPEC + "bootstrap: true\n"), replace(intake, service=None), None, 50.0)
    assert (facts["needs"], facts["gates_needed"]) == ("no traffic", [])
    assert said(facts) == "  needs     no traffic"
