"""Do simulations end as they must, and by the rules that a real release follows?"""

from __future__ import annotations

from dataclasses import replace

import pytest

from evals.planning.worlds import EQUAL
from pipelines.errors import BadInput
from pipelines.forecast.scenarios import chosen, scenarios
from pipelines.forecast.simulation import Played, simulate_release
from pipelines.forecast.simulation_summary import counted, summary
from pipelines.records.release import Phase
from pipelines.spec.gates import LatencyGate, QualityGate, RolloutGates
from pipelines.spec.rollout import RolloutSpec, StepSpec

SHORT = RolloutSpec(
    steps=(StepSpec(pct=10), StepSpec(pct=50, approve=True)), hold_s=60.0, bake_s=120.0, deadline_s=600.0, warmup_s=0.0
)
ALL = scenarios(SHORT, 50.0, 0.2)


def played(plan: RolloutSpec, name: str, rps: float = 50.0, seed: int = 1) -> Played:
    """One release of a scenario of this plan."""
    return simulate_release(plan, scenarios(plan, rps, 0.2)[name].world, seed)


def test_an_equal_canary_is_promoted_by_the_timetable():
    """Each step and the bake last as long as the spec says, to the look; approvals are given."""
    ended = played(SHORT, "aa")
    assert (ended.outcome, ended.full_s, ended.at_s) == (Phase.PROMOTED, 120.0, 240.0)
    assert [g.pct for g in ended.glances[::12]] == [0.0, 10.0, 50.0, 95.0, 95.0]


def test_the_looks_are_the_specs():
    """A look every `look_s`; evidence is seen as a fraction of a proof."""
    plan = SHORT.model_copy(update={"look_s": 10.0})
    ended = played(plan, "aa")
    assert [g.at_s for g in ended.glances] == [10.0 * n for n in range(len(ended.glances))]
    assert ended.glances[-1].harmless >= 1 > ended.glances[-1].harm


@pytest.mark.parametrize("name", ["errors", "latency", "leak"])
def test_a_harm_goes_home(name):
    """With the metric named, and the harm counted."""
    ended = played(SHORT, name)
    assert (ended.outcome, ended.verdict.guilty) == (Phase.ROLLED_BACK, (ALL[name].harm,))
    assert (ended.harm.failed if name == "errors" else ended.harm.slowed) > 3


def test_lower_scores_go_home_where_the_spec_has_a_gate():
    """And are promoted where it has none, which is said."""
    gated = SHORT.model_copy(
        update={"gates": RolloutGates(latency=None, quality=QualityGate(margin=0.1)), "deadline_s": 6000.0}
    )
    assert played(gated, "quality").verdict.guilty == ("quality",)
    assert not ALL["quality"].is_judged


def test_a_bad_slice_is_named():
    """Only where its attribute is declared."""
    plan = SHORT.model_copy(update={"slices": ("country",), "gates": RolloutGates(latency=None), "bake_s": 500.0})
    ended = played(plan, "slice", rps=200.0)
    assert (ended.outcome, ended.verdict.guilty) == (Phase.ROLLED_BACK, ("errors where country=e",))


def test_load_is_confounded():
    """In the bake the canary has nearly all of the traffic, and its verdict says so."""
    ended = played(SHORT, "load")
    assert (ended.outcome, ended.verdict.confounded) == (Phase.ROLLED_BACK, True)
    assert "load" in ended.why


def test_without_traffic_nothing_is_decided():
    """At the deadline it is held, as the spec says; whoever would be asked is not there."""
    plan = SHORT.model_copy(update={"on_inconclusive": "ask"})
    ended = simulate_release(plan, replace(EQUAL, requests_per_s=0.01), 1)
    assert (ended.outcome, ended.at_s) == (Phase.HELD, SHORT.deadline_s)


def test_a_seed_is_a_release():
    """The same seed gives the same release, and another one another."""
    first, again, other = (played(SHORT, "errors", seed=seed) for seed in (5, 5, 6))
    assert (first.at_s, first.harm) == (again.at_s, again.harm)
    assert first.harm != other.harm


def test_earned_steps_come_before_the_timetables():
    """The same equal canary reaches full traffic sooner where its evidence is asked."""
    slow = SHORT.model_copy(update={"hold_s": 300.0, "deadline_s": 6000.0, "gates": RolloutGates(latency=None)})
    earned = slow.model_copy(update={"advance": "earned"})
    assert (played(earned, "aa").full_s or 1e9) < (played(slow, "aa").full_s or 0) == 600.0


def test_an_unknown_scenario_is_refused_with_the_known_ones():
    """By its code, before anything is played."""
    with pytest.raises(BadInput) as refused:
        chosen(SHORT, ["errors", "erors"], 50.0, 0.2)
    assert refused.value.code == "E_SCENARIO"
    assert refused.value.expected == f"one of {', '.join(ALL)}"


def test_no_name_is_all_of_them():
    """And a name that is repeated is played once."""
    assert [s.name for s in chosen(SHORT, [], 50.0, 0.2)] == list(ALL)
    assert [s.name for s in chosen(SHORT, ["load", "aa", "load"], 50.0, 0.2)] == ["load", "aa"]


def test_harms_follow_the_margins():
    """Twice what the spec calls unacceptable, at most everything."""
    gates = RolloutGates(latency=LatencyGate(margin=0.5), quality=QualityGate(margin=0.3))
    found = scenarios(SHORT.model_copy(update={"gates": gates}), 50.0, 0.2)
    assert found["latency"].world.slower == pytest.approx(2.0)
    assert found["quality"].world.canary_score == pytest.approx(0.25)
    assert ALL["errors"].world.canary_errors == pytest.approx(0.025)


def test_a_summary_counts_what_is_wrong():
    """Roll backs of a good canary, promotions of a bad one; intervals, seeds and n are stated."""
    good = summary(ALL["aa"], [played(SHORT, "aa", seed=3)], 3)
    bad = summary(ALL["errors"], [played(SHORT, "errors", seed=3)], 3)
    assert good["false_roll_backs"] == {"n": 0, "share": 0.0, "low": 0.0, "high": 0.975}
    assert (bad["wrong_promotions"]["n"], bad["releases"], bad["seeds"]) == (0, 1, [3, 3])
    assert bad["detection_s"]["median"] == bad["decision_s"]["p95"]
    assert "detection_s" in good
    assert good["detection_s"] is None


def test_shares_have_intervals():
    """Clopper and Pearson's."""
    assert counted([True, False]) == {"n": 1, "share": 0.5, "low": 0.01258, "high": 0.98742}
