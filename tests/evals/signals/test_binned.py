"""Within bins, unequal caches accuse nobody; what is slower at the same request does."""

import json
from itertools import product
from math import comb, exp

import numpy as np
import pytest

from evals.canary.absorb import absorb
from evals.canary.judgement import judge_canary
from evals.canary.plan import CanaryPlan
from evals.canary.state import CanaryState
from evals.gate import Gate
from evals.signals.binned import RateState, RateTest
from evals.signals.latency import LatencyTest
from evals.signals.strata import ArmCounts, Stratum

TEST = LatencyTest((0.5, 0.9, 0.99), 0.05)
STREAMS = CanaryPlan(latency_tolerance=None, streams={"first_token": TEST})
GOODPUT = CanaryPlan(latency_tolerance=None, rates={"goodput": RateTest(0.25, 0.05)})

CACHED_MS, COMPUTED_MS = 40.0, 400.0
"""Times to first token of a prompt that is in the cache, and of one that must be computed."""


def timing(ms):
    """Counts of streams by what was timed in each."""
    steps = np.ceil(np.log(ms) / np.log(1.05) - 1e-9).astype(int)
    return ArmCounts(len(ms), over={int(step): int(np.sum(steps > step)) for step in np.unique(steps)})


def arm(rng, n, hits, slower=1.0, missed=0.05, has_bins=True):
    """Streams of an arm whose cache holds this part of the prompts."""
    cached = rng.random(n) < hits
    ms = np.where(cached, CACHED_MS, COMPUTED_MS) * slower * rng.lognormal(sigma=0.3, size=n)
    bad = rng.random(n) < np.where(cached, 0.2 * missed, 2 * missed)
    bins = {"0": cached, "512": ~cached} if has_bins else {}
    parts = {name: timing(ms[here]) for name, here in bins.items()}
    whole = timing(ms)
    first = ArmCounts(whole.routed, over=whole.over, by_slice=parts)
    rates = {name: (int(here.sum()), int(bad[here].sum())) for name, here in (bins or {"": cached | True}).items()}
    return ArmCounts(n, timings={"first_token": first}, rates={"goodput": rates})


def release(seed, plan=STREAMS, strata=25, **canary):
    """The verdict on a canary that gets a tenth, and whose cache therefore holds less."""
    rng, state = np.random.default_rng(seed), CanaryState()
    for number in range(strata):
        arms = arm(rng, 450, 0.9, has_bins=canary.get("has_bins", True)), arm(rng, 50, **{"hits": 0.4, **canary})
        stratum = Stratum(number, "boot", 5.0 * number, 5.0 * number + 5, 10.0, *arms)
        state = absorb(plan, state, Stratum.from_dict(json.loads(json.dumps(stratum.as_dict()))))
    assert CanaryState.from_dict(json.loads(json.dumps(state.as_dict()))) == state
    return judge_canary(plan, state)


@pytest.mark.parametrize("plan", [STREAMS, GOODPUT], ids=["first token", "goodput"])
def test_a_colder_cache_alone_accuses_nobody(plan):
    """And all requests in one bin would: nine of ten prompts are cached at stable, four of ten at the canary."""
    within = [release(seed, plan).roll_back for seed in range(3)]
    together = release(0, plan, has_bins=False).roll_back
    assert (within, together) == ([False] * 3, True)


def test_what_is_slower_at_the_same_prompt_is_found():
    """By 30 %, also where the mix is another one."""
    verdict = release(1, slower=1.3)
    assert (verdict.roll_back, verdict.guilty) == (True, ("first_token",))


def test_an_objective_that_is_missed_more_often_is_found():
    """The counts behind it are said."""
    verdict = release(1, GOODPUT, missed=0.2)
    assert (verdict.roll_back, verdict.guilty) == (True, ("goodput",))
    assert "answers that missed the objective" in verdict.sentence


def test_as_good_an_arm_is_proven_so():
    """Within the margin of five points, with a cache that is as warm."""
    verdict = release(1, GOODPUT, strata=40, hits=0.9, missed=0.02)
    assert verdict.promote


@pytest.mark.parametrize("tolerance", [0.0, 0.25])
def test_the_expectation_of_harm_is_one_at_the_edge_of_the_null(tolerance):
    """All outcomes of a stratum in two bins, with odds at the canary that are just tolerated."""
    test, mean = RateTest(tolerance), 0.0
    sizes = {"0": (5, 6), "512": (5, 4)}
    totals = {"0": 4, "512": 3}
    outcomes = {
        name: {
            j: comb(canary, j) * comb(stable, totals[name] - j) * (1 + tolerance) ** j
            for j in range(max(0, totals[name] - stable), min(canary, totals[name]) + 1)
        }
        for name, (canary, stable) in sizes.items()
    }
    for bad in product(*outcomes.values()):
        chances = [outcomes[name][j] / sum(outcomes[name].values()) for name, j in zip(sizes, bad, strict=True)]
        canary, stable = {}, {}
        for name, j in zip(sizes, bad, strict=True):
            canary[name], stable[name] = (sizes[name][0], j), (sizes[name][1], totals[name] - j)
        arms = (ArmCounts(10, rates={"goodput": stable}), ArmCounts(10, rates={"goodput": canary}))
        state = test.absorb(RateState(), Stratum(0, "b", 0.0, 1.0, 50.0, *arms), "goodput")
        mean += float(np.prod(chances)) * exp(state.log_e)
    assert mean == pytest.approx(1.0)


def test_small_bins_wait_for_themselves():
    """Counts of different bins never make one stratum."""
    test, state = RateTest(), RateState()
    for number in range(4):
        arms = (ArmCounts(9, rates={"empty": {"0": (4, 1), "9": (5, 1)}}),) * 2
        state = test.absorb(state, Stratum(number, "b", number, number + 1.0, 50.0, *arms), "empty")
    assert (state.seen, sorted(state.waiting)) == ((36, 8, 36, 8), ["0", "9"])
    assert state.cut().waiting == {}


@pytest.mark.parametrize(
    ("rates", "why"),
    [({"goodput": {"0": [1, 2]}}, "more bad"), ({"goodput": {"0": [2, 0], "1": [2, 0]}}, "more bad")],
)
def test_impossible_rates_never_become_evidence(rates, why):
    """More bad answers than answers, or more answers than requests."""
    raw = Stratum(0, "b", 0.0, 1.0, 50.0, ArmCounts(3), ArmCounts(3)).as_dict()
    raw["arms"]["canary"]["rates"] = rates
    with pytest.raises(ValueError, match=why):
        Stratum.from_dict(raw)


def test_gates_name_what_is_judged():
    """In the words that hold everywhere; latency's and the answers' shares of alpha are divided."""
    gates = [Gate("errors", margin=0.01), Gate("goodput", margin=0.05, tolerance=0.25), Gate("empty"), Gate("cut")]
    plan = CanaryPlan.of(gates)
    assert plan.rates == {"goodput": RateTest(0.25, 0.05), "empty": RateTest(0.0), "cut": RateTest(0.0)}
    assert plan.shares == pytest.approx({"errors": 4 / 9, "goodput": 3 / 9, "empty": 1 / 9, "cut": 1 / 9})
    with pytest.raises(ValueError, match="asked about"):
        CanaryPlan(rates={"other": RateTest()})
