"""Does a plan know whether it can decide, and say what would help?"""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from evals.planning.usual import Usual
from evals.signals.strata import ArmCounts, Stratum
from pipelines.adapters.memory.records import (
    MemoryInbox,
    MemoryLedger,
    MemoryLock,
    MemoryNotifier,
    MemoryRuntime,
    MemoryServices,
)
from pipelines.adapters.memory.registry import MemoryRegistry
from pipelines.adapters.memory.traffic import MemoryMetrics, MemoryRouter
from pipelines.errors import BadInput
from pipelines.forecast.decidability import Forecast, forecast, refuse_undecidable
from pipelines.forecast.usual_traffic import measured
from pipelines.ports import Now, Ports
from pipelines.records.release import Release
from pipelines.spec.gates import LatencyGate, QualityGate, RolloutGates
from pipelines.spec.rollout import RolloutSpec

PLAN = RolloutSpec(gates=RolloutGates(latency=None))
STRICT = RolloutSpec(gates=RolloutGates(latency=LatencyGate(margin=0.15)))
NOW = Now(1000.0, 1000.0)


def at(rate: float) -> tuple[Usual, str]:
    """A service with this traffic."""
    return Usual(rate), "measured"


def test_a_plan_with_enough_traffic_can_decide():
    """Requests and minutes of each gate; nothing is missing, so nothing helps."""
    told = forecast(PLAN, at(50.0)).as_dict()
    assert (told["undecidable"], told["helps"]) == ("", [])
    (errors,) = told["gates_needed"]
    assert errors["promote"]["by_deadline"] == 1.0
    assert 300 < errors["promote"]["canary_requests"] < 3000
    assert errors["promote"]["minutes"] < errors["promote"]["minutes_p90"] < 30
    assert json.loads(json.dumps(told)) == told


@pytest.fixture(scope="module")
def slow() -> Forecast:
    """A strict plan at a request a second."""
    return forecast(STRICT, at(1.0))


def test_a_plan_without_enough_traffic_says_so_in_one_line(slow):
    """The gate, the rate, how long it would take, and what would help."""
    begins = (
        "this plan cannot decide before its deadline of 120m: at 1 requests/s the proof of harmlessness in latency p99"
    )
    assert slow.undecidable.startswith(begins)
    assert "\n" not in slow.undecidable
    assert [line.partition(":")[0] for line in slow.helps][:2] == ["a larger first step", "more time"]


def test_steps_that_cannot_be_seen_in_time_are_too_slow():
    """`min_step_requests` of each step take longer than the whole release may."""
    told = forecast(PLAN, at(0.005))
    assert "its steps alone take 30h" in told.undecidable


def test_no_traffic_decides_nothing():
    """There is nothing to count, and only one thing helps."""
    told = forecast(PLAN, at(0.0))
    assert told.undecidable.endswith("the service has no traffic")
    assert told.helps == ("send it requests first",)
    assert told.as_dict()["gates_needed"][0]["promote"]["minutes"] is None


def test_scores_that_never_come_decide_nothing():
    """A gate on quality stands in the way of every promotion where nobody sends labels."""
    plan = PLAN.model_copy(update={"gates": RolloutGates(latency=None, quality=QualityGate())})
    told = forecast(plan, (Usual(50.0, labelled=0.0), "measured"))
    assert told.undecidable.endswith("waits for scores, and none arrive at this service")
    assert told.helps == ("send labels to /feedback, or leave out gates.quality",)


def test_traffic_that_nobody_knows_is_not_held_against_a_plan():
    """Needs are told in requests, and nothing is refused."""
    told = forecast(PLAN, None).as_dict()
    assert (told["undecidable"], told["traffic"]["requests_per_s"], told["planned_minutes"]) == ("", None, None)
    assert told["gates_needed"][0]["promote"]["canary_requests"] > 100
    refuse_undecidable(STRICT.model_copy(update={"on_undecidable": "refuse"}), None)


def test_a_given_rate_is_believed():
    """More than what was measured."""
    assert forecast(STRICT, at(1.0), 50.0).undecidable == ""


def test_slices_are_asked_for_where_they_are_declared():
    """One row an attribute."""
    told = forecast(PLAN.model_copy(update={"slices": ("country", "body.lang")}), at(50.0)).as_dict()
    assert [row["gate"] for row in told["gates_needed"]][1:] == ["errors in one country", "errors in one body.lang"]


def test_it_refuses_where_the_spec_says_so():
    """By its code, with what would help; a warning refuses nothing."""
    refuse_undecidable(STRICT, at(1.0))
    with pytest.raises(BadInput) as refused:
        refuse_undecidable(STRICT.model_copy(update={"on_undecidable": "refuse"}), at(1.0))
    assert (refused.value.code, refused.value.exit_code, refused.value.field) == ("E_UNDECIDABLE", 2, "rollout")
    assert "a larger first step" in str(refused.value.hint)


def test_what_helps_does_help(slow):
    """With the deadline that it names, the plan can decide."""
    longer = next(line for line in slow.helps if line.startswith("more time"))
    hours = float(longer.rpartition(" ")[2].removesuffix("h"))
    assert forecast(STRICT.model_copy(update={"deadline_s": hours * 3600}), at(1.0)).undecidable == ""


def ports() -> Ports:
    """A machine in memory."""
    runtime = MemoryRuntime()
    return Ports(
        registry=MemoryRegistry(),
        runtime=runtime,
        router=MemoryRouter(),
        metrics=MemoryMetrics(),
        ledger=MemoryLedger(),
        services=MemoryServices(),
        inbox=MemoryInbox(),
        lock=MemoryLock(),
        notifier=MemoryNotifier(),
    )


def minutes_of(routed: int, boot: str = "b") -> list[Stratum]:
    """Two minutes of a gateway without a canary."""
    return [Stratum(n, boot, 5.0 * n, 5.0 * n + 5, 0.0, ArmCounts(routed), ArmCounts()) for n in range(24)]


def test_the_running_gateway_is_asked_first():
    """Then the record of the last release that was looked at, and else nobody knows."""
    world = ports()
    assert measured(world, "s", NOW) is None
    release = Release().record(1.0, "opened", id="r1", service="s", spec={}, spec_digest="d")
    release = release.record(2.0, "looked", strata=[s.as_dict() for s in minutes_of(10)])
    world.ledger.create(release)
    usual, source = measured(world, "s", NOW) or at(0.0)
    assert (usual.requests_per_s, source) == (2.0, "measured during r1")
    live = replace(world, metrics=MemoryMetrics({"s": minutes_of(50)}))
    usual, source = measured(live, "s", NOW) or at(0.0)
    assert (usual.requests_per_s, source) == (10.0, "measured at the running gateway")
