"""`shipway simulate`: a spec's own plan on releases that were never made."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from flows.cli.simulating import play_all
from pipelines.forecast.advice import advice
from pipelines.forecast.scenarios import scenarios
from pipelines.spec.gates import LatencyGate
from pipelines.spec.rollout import RolloutSpec

SPEC = """\
model: models:/sentiment/1
service: sentiment
evaluate:
  data: rows.csv
  gates: [{metric: accuracy, min: 0.0}]
rollout:
  {steps: [10, 50], hold: 30s, bake: 60s, deadline: 5m, warmup: 0, gates: {latency: null}}
"""


def simulated(folder, *arguments):
    """What the command says of the spec above."""
    (folder / "release.yaml").write_text(SPEC)
    command = ["simulate", str(folder / "release.yaml"), "--releases", "2", "--jobs", "1", *arguments]
    return CliRunner().invoke(app, command)


def test_it_tells_how_releases_end(tmp_path):
    """As JSON for scripts: a row a scenario, with n, seeds and intervals."""
    said = simulated(tmp_path, "--scenario", "aa", "--scenario", "errors", "--seed", "7", "--json")
    found = json.loads(said.stdout)
    assert [row["scenario"] for row in found["scenarios"]] == ["aa", "errors"]
    assert found["scenarios"][0]["seeds"] == [7, 8]
    assert set(found["scenarios"][0]["false_roll_backs"]) == {"n", "share", "low", "high"}
    assert found["scenarios"][1]["wrong_promotions"]["n"] == 0


def test_it_reads_well(tmp_path):
    """In words: what was wrong, how they ended, how soon, at what harm, and what no gate judges."""
    said = simulated(tmp_path, "--scenario", "errors", "--scenario", "latency").stdout
    assert "2 simulated releases of each scenario at 50 requests/s, seeds 1 to 2; 95 % intervals" in said
    assert "wrong     promoted 0.0% (0.00% – 84.19%)" in said
    assert "latency: slower by 30% (this spec has no gate for it)" in said


def test_it_says_what_to_change_where_bad_releases_are_promoted(tmp_path):
    """More of them than alpha_promote: the key, and what it does. Where it is right, nothing is said."""
    said = simulated(tmp_path, "--scenario", "errors", "--scenario", "latency").stdout
    helps = [line for line in said.splitlines() if line.startswith("  helps")]
    assert helps == [
        "  helps     100% of them are promoted, and alpha_promote is 5%: rollout.gates.latency: {margin: 0.15} "
        "promotes only where slower by that much is disproven"
    ]


PLAN = RolloutSpec()
PROVEN = PLAN.model_copy(update={"gates": PLAN.gates.model_copy(update={"latency": LatencyGate(margin=0.15)})})


@pytest.mark.parametrize(
    ("plan", "name", "key"),
    [
        (PLAN, "latency", "rollout.gates.latency: {margin: 0.15}"),
        (PROVEN, "latency", "rollout.alpha_promote"),
        (PROVEN, "leak", "rollout.bake"),
        (PLAN, "quality", "rollout.gates.quality: {margin: 0.02}"),
        (PLAN, "slice", "rollout.slices"),
        (PLAN.model_copy(update={"slices": ("country",)}), "slice", "rollout.hold"),
        (PLAN, "errors", "rollout.gates.errors"),
    ],
)
def test_every_harm_has_an_advice(plan, name, key):
    """Its key in the spec; and none where few enough were promoted."""
    scenario = scenarios(plan, 20.0, 0.2)[name]
    assert key in advice(plan, scenario, 0.2)
    assert advice(plan, scenario, plan.alpha_promote) == ""


def test_what_is_as_good_as_stable_may_be_promoted():
    """All of it."""
    assert advice(PLAN, scenarios(PLAN, 20.0, 0.2)["aa"], 1.0) == ""


@pytest.mark.parametrize("name", ["plot.svg", "plot.png"])
def test_it_draws(tmp_path, name):
    """Outcomes and evidence, in the format that the name asks for."""
    assert simulated(tmp_path, "--scenario", "errors", "--plot", str(tmp_path / name)).exit_code == 0
    assert (tmp_path / name).read_bytes()[:5] in {b"<?xml", b"\x89PNG\r"}


@pytest.mark.integration
def test_cores_change_nothing_but_time():
    """The same seeds end the same way, however many processes play them."""
    plan = RolloutSpec(hold_s=20.0, bake_s=20.0, deadline_s=100.0)
    worlds = [scenarios(plan, 20.0, 0.2)[name] for name in ("errors", "aa")]
    alone, together = (
        {name: [(p.outcome, p.at_s, p.harm) for p in played] for name, played in found.items()}
        for found in (play_all(plan, worlds, 3, 1, jobs) for jobs in (1, 2))
    )
    assert alone == together
