"""Is a canary whose answers are shorter, or longer, than its gate allows sent home, and no other?"""

from __future__ import annotations

import numpy as np
import pytest

from evals.canary.absorb import absorb
from evals.canary.judgement import CanaryVerdict, judge_canary
from evals.canary.plan import CanaryPlan
from evals.canary.state import CanaryState
from evals.gate import Gate
from evals.signals.strata import ArmCounts, Stratum
from pipelines.serving.meter.meter import lengths_of
from pipelines.spec.gates import LengthGate, RolloutGates

USUAL_TOKENS = 60


def timing(values: list[float]) -> ArmCounts:
    """Counts by what was measured in each answer."""
    steps = np.ceil(np.log(values) / np.log(1.05) - 1e-9).astype(int)
    return ArmCounts(len(values), over={int(step): int(np.sum(steps > step)) for step in np.unique(steps)})


def arm(rng: np.random.Generator, n: int, times: float) -> ArmCounts:
    """Answers that are so many times as long as usual ones."""
    tokens = np.maximum(1, np.rint(times * USUAL_TOKENS * rng.lognormal(sigma=0.6, size=n))).astype(int)
    lengths = [lengths_of(int(one)) for one in tokens]
    return ArmCounts(n, timings={name: timing([one[name] for one in lengths]) for name in ("shorter", "longer")})


def release(times: float, gate: LengthGate, seed: int = 1) -> CanaryVerdict:
    """The verdict on a canary with a fifth of 3,000 requests."""
    rng, state = np.random.default_rng(seed), CanaryState()
    plan = CanaryPlan.of((Gate("errors", margin=0.02), *gate.gates()))
    for number in range(20):
        arms = arm(rng, 120, 1.0), arm(rng, 30, times)
        state = absorb(plan, state, Stratum(number, "b", 5.0 * number, 5.0 * number + 5, 20.0, *arms))
    return judge_canary(plan, state)


@pytest.mark.parametrize(
    ("times", "gate", "guilty"),
    [
        (1.0, LengthGate(shorter=0.25, longer=0.5), ()),
        (0.8, LengthGate(shorter=0.25, longer=0.5), ()),
        (1.4, LengthGate(shorter=0.25, longer=0.5), ()),
        (0.4, LengthGate(shorter=0.25, longer=0.5), ("shorter",)),
        (2.5, LengthGate(shorter=0.25, longer=0.5), ("longer",)),
        (0.4, LengthGate(shorter=None, longer=0.5), ()),
        (2.5, LengthGate(shorter=0.25), ()),
    ],
)
def test_what_is_beyond_the_gate_is_sent_home(times, gate, guilty):
    """And what is within it is not, nor what nobody asks."""
    verdict = release(times, gate)
    assert (verdict.roll_back, verdict.guilty) == (bool(guilty), guilty)


def test_an_accusation_is_a_sentence():
    """With both arms' counts, in tokens."""
    said = release(0.4, LengthGate()).sentence
    assert said.startswith("shorter answers: canary ")
    assert "have less than 75% of the tokens of stable's usual one" in said


def test_a_gate_on_lengths_is_a_gate_like_others():
    """A quarter fewer tokens is a third more of their inverse."""
    found = {gate.metric: round(gate.tolerance, 4) for gate in RolloutGates(length=LengthGate(longer=0.5)).gates()}
    assert {name: found[name] for name in ("shorter", "longer")} == {"shorter": 0.3333, "longer": 0.5}
    assert "length" not in RolloutGates().model_dump()
