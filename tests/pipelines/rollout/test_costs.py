"""A release of a language model whose answers have a price."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from evals.signals.strata import ArmCounts
from pipelines.records.release import Phase
from pipelines.records.view import release_view
from pipelines.rollout.recheck import recheck_verdicts
from pipelines.spec.release_spec import ReleaseSpec
from tests.pipelines.rollout.test_look import SPEC, World

TOKENS = {"input": 1.0, "cached": 0.1, "output": 2.0, "currency": "EUR"}
HALF_EURO = 271
"""The step of the grid of 0.55 thousandths of an euro, in billionths."""


def spec(price: dict[str, object], **gates: object) -> ReleaseSpec:
    """The usual spec with a price."""
    raw = json.loads(SPEC.model_dump_json())
    raw["serve"] |= {"api": "openai", "price": price, "replicas": 2}
    raw["rollout"]["deadline_s"] = 60
    raw["rollout"]["gates"] = {"latency": None, "drift": None, **gates}
    return ReleaseSpec.model_validate_json(json.dumps(raw))


class Priced(World):
    """Every answer of an arm costs as much, the canary's so many steps of 5 % more; of an arm in None nobody knows."""

    def __init__(self, asked: ReleaseSpec, steps: int | None = 0) -> None:
        self.steps = steps
        super().__init__(asked)

    def second(self, *, errors: int = 0, requests: int = 1000) -> None:
        """A second of traffic, with its costs."""
        super().second(errors=errors, requests=requests)
        strata = self.ports.metrics.strata["s"]
        arms = {arm: self._with_costs(arm, getattr(strata[-1], arm)) for arm in ("stable", "canary")}
        strata[-1] = replace(strata[-1], **arms)

    def _with_costs(self, arm: str, counts: ArmCounts) -> ArmCounts:
        if self.steps is None or not counts.routed:
            return counts
        dearer = self.steps if arm == "canary" else 0
        parts = {"cost": HALF_EURO + dearer, "paid": HALF_EURO - 10}
        return replace(counts, timings={name: ArmCounts(counts.routed, over={s: 0}) for name, s in parts.items()})


def test_a_dearer_version_goes_home_by_name_and_the_record_proves_it():
    """A third more at the same requests: 1.05 to the sixth."""
    world = Priced(spec(TOKENS, cost={"margin": 0.2}), steps=6)
    world.look_until(Phase.ROLLED_BACK)
    assert world.release.reason.startswith("cost: the canary's mean is +34.0% of stable's")
    assert recheck_verdicts(world.release).endswith("looks recomputed")


def test_one_that_costs_as_much_is_promoted_and_its_cost_is_said():
    """In money for a thousand answers, with and without what the cache saved."""
    world = Priced(spec(TOKENS, cost={"margin": 0.2}))
    world.look_until(Phase.PROMOTED)
    cost = release_view(world.release)["cost"]
    assert (cost["by"], cost["currency"], cost["canary"]["answers"]) == ("tokens", "EUR", cost_answers(world))
    for arm in ("canary", "stable"):
        assert cost[arm]["without_cache"] == pytest.approx(1.05**HALF_EURO * 1e-6)
        assert cost[arm]["per_1000"] == pytest.approx(1.05 ** (HALF_EURO - 10) * 1e-6)


def cost_answers(world: World) -> int:
    """How many of the canary's answers had a cost."""
    return sum(s["arms"]["canary"]["routed"] for e in world.release.of_kind("looked") for s in e.data["strata"])


def test_a_gate_without_any_cost_promotes_nothing():
    """No engine said how many tokens it took: that is said, and nobody is accused."""
    world = Priced(spec(TOKENS, cost={"margin": 0.2}), steps=None)
    world.look_until(Phase.HELD)
    assert "evidence of harmlessness (cost) 1 of 20" in world.release.reason
    assert release_view(world.release)["cost"]["stable"] == {"answers": 0, "per_1000": None, "without_cache": None}


def test_hours_are_reported_over_what_was_answered():
    """Two devices of an arm for as long as both had users."""
    world = Priced(spec({"gpu_hour": 3.6}), steps=None)
    world.look_until(Phase.PROMOTED)
    cost, looks = release_view(world.release)["cost"], world.release.of_kind("looked")
    seconds = sum(s["routed_to"] - s["routed_from"] for e in looks for s in e.data["strata"] if s["canary_pct"])
    found = cost["canary"]
    assert (found["devices"], found["answers"]) == (2, cost_answers(world))
    assert found["per_1000"] == pytest.approx(1000 * 2 * 3.6 * seconds / 3600 / found["answers"])


def test_a_release_without_a_price_says_nothing_of_it():
    """And judges nothing."""
    world = World()
    world.look()
    assert release_view(world.release)["cost"] is None
