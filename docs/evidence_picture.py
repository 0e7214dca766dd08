"""Draws docs/evidence.png: a simulated release whose errors begin in its bake, as `shipway evidence --plot` draws it.

50 requests/s, looked at every 5 s. The canary equals stable (0.5 % errors, latency around 100 ms, scores around 0.85)
for eight minutes; from then on 4 % of its answers fail. The verdicts are the judge's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evals.canary.absorb import absorb
from evals.canary.judgement import judge_canary
from evals.canary.state import CanaryState
from evals.sequential import arm_of
from evals.signals.strata import Stratum
from flows.show.evidence_picture import write_picture
from pipelines.records.evidence_series import evidence_series
from pipelines.records.release import Candidate, Phase, Release
from pipelines.rollout.watch import Watch, canary_plan, declaration
from pipelines.spec.release_spec import ReleaseSpec

TARGET = Path(__file__).parent / "evidence.png"
SEED, LOOK_S, REQUESTS_PER_S = 1, 5.0, 50.0
STEPS = ((0.0, 5.0), (60.0, 25.0), (120.0, 50.0), (240.0, 95.0))
FAULT_FROM_S, ERRORS, FAULTY = 480.0, 0.005, 0.04
SPEC = ReleaseSpec.model_validate(
    {
        "model": "models:/sentiment/3",
        "service": "sentiment",
        "evaluate": {"data": "rows.csv", "gates": ({"metric": "accuracy", "min": 0.5},)},
        "rollout": {"gates": {"latency": {"margin": 0.15}, "quality": {"margin": 0.02}}},
    }
)


@dataclass(frozen=True)
class Answers:
    """What one arm did in one interval."""

    n: int
    errors: int
    latency: np.ndarray
    quality: np.ndarray


def answers(random: np.random.Generator, n: int, errors: float) -> Answers:
    """Some requests of one arm; a fifth of them are rated."""
    n = int(random.poisson(n))
    return Answers(
        n, int(random.binomial(n, errors)), random.lognormal(np.log(100), 0.6, n), random.beta(4.25, 0.75, n // 5)
    )


def simulated() -> Release:
    """The record of it, until the judge sends it home."""
    random, state, at_s = np.random.default_rng(SEED), CanaryState(), 0.0
    release = _begun()
    plan = canary_plan(SPEC.rollout, release)
    while True:
        pct = next(pct for from_s, pct in reversed(STEPS) if at_s >= from_s)
        if (at_s, pct) in STEPS:
            release = release.record(at_s, "exposed", pct=pct)
            release = release.enter(Phase.CANARY if pct < 95 else Phase.BAKING, at_s, why="held")
        share, errors = pct / 100, FAULTY if at_s >= FAULT_FROM_S else ERRORS
        all_of_them = REQUESTS_PER_S * LOOK_S
        stable = answers(random, int(all_of_them * (1 - share)), ERRORS)
        canary = answers(random, int(all_of_them * share), errors)
        number, until_s = int(at_s / LOOK_S), at_s + LOOK_S
        stratum = Stratum(number, "boot", at_s, until_s, pct, arm_of(stable), arm_of(canary))
        state, at_s = absorb(plan, state, stratum), until_s
        verdict = judge_canary(plan, state)
        release = release.record(at_s, "looked", strata=[], verdict=verdict.as_dict(), why=verdict.sentence)
        if verdict.roll_back:
            release = release.record(at_s, "went_home", why=verdict.sentence)
            return release.enter(Phase.ROLLED_BACK, at_s, why=verdict.sentence)


def _begun() -> Release:
    """Qualified, with what is declared before the first users: that ratings arrive."""
    release = Release().record(
        0.0, "opened", id="simulated", service="sentiment", spec=SPEC.as_dict(), spec_digest=SPEC.digest()
    )
    release = release.record(0.0, "resolved", candidate=vars(Candidate("sentiment", 3, "sha256:simulated")))
    for phase in (Phase.EVALUATED, Phase.COMPRESSED, Phase.BUILT, Phase.STAGED, Phase.QUALIFIED):
        release = release.enter(phase, 0.0)
    return release.record(0.0, "judging", **declaration(SPEC.rollout, Watch(labels=1)))


if __name__ == "__main__":
    write_picture(evidence_series(simulated()), TARGET)
    print(f"wrote {TARGET}")
