"""How would this plan end in a world that is known?

A release is played with simulated requests and simulated time, through the very same functions that a real one goes
through: `Watch.absorb`, `judge_canary` and `decide`. Nothing is waited for, and nothing is touched. Strata are as long
as the time between two looks and are known at once; every share is reached at once; a step that waits for a person's
approval is approved; nobody answers where `on_inconclusive` asks.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from evals.canary.judgement import CanaryVerdict, judge_canary
from evals.planning.worlds import ArmSeen, IntervalSeen, Traffic, World, error_rates
from evals.sequential import arm_of
from evals.signals.strata import ArmCounts, Stratum
from pipelines.records.release import Phase, Release
from pipelines.rollout.decision import Advance, Promote, RollBack, Situation, decide
from pipelines.rollout.watch import Watch, canary_plan, declaration
from pipelines.spec.rollout import RolloutSpec

SLOWEST = 0.1
"""The part of stable's requests that counts as slow (`Interval.slow_ms`)."""


@dataclass(frozen=True)
class Glance:
    """One look: the share, and evidence as a fraction of what is a proof."""

    at_s: float
    pct: float
    harm: float
    harmless: float


@dataclass(frozen=True)
class Harm:
    """What users of the canary met: requests that failed, or were slow, beyond what would have at stable."""

    requests: int = 0
    failed: float = 0.0
    slowed: float = 0.0

    def plus(self, seen: IntervalSeen, stable_errors: float) -> Harm:
        """With one more interval."""
        canary = seen.canary
        slow = int(np.count_nonzero(canary.latency > seen.slow_ms))
        return Harm(
            self.requests + canary.n,
            self.failed + canary.errors - stable_errors * canary.n,
            self.slowed + slow - SLOWEST * canary.n,
        )


@dataclass(frozen=True)
class Played:
    """How one release ended, `at_s` seconds after its first users; `full_s` is when the bake began."""

    outcome: Phase
    at_s: float
    why: str
    harm: Harm
    verdict: CanaryVerdict
    full_s: float | None = None
    glances: tuple[Glance, ...] = field(default=(), repr=False)


def simulate_release(plan: RolloutSpec, world: World, seed: int) -> Played:
    """Play one release until it ends."""
    stage = _Stage(plan, world, seed)
    while True:
        decision = decide(stage.plan, stage.release, stage.situation())
        stage.glance()
        match decision:
            case Promote():
                return stage.ended(Phase.PROMOTED, decision.why)
            case RollBack():
                return stage.ended(decision.end, decision.why)
            case Advance():
                stage.expose(decision)
        stage.go_on()


class _Stage:
    """The release, what its controller remembers, and the world that it is in."""

    def __init__(self, plan: RolloutSpec, world: World, seed: int) -> None:
        self.plan = plan if plan.on_inconclusive != "ask" else plan.model_copy(update={"on_inconclusive": "hold"})
        self.release = Release(id="simulation", phase=Phase.QUALIFIED, approved=frozenset(range(len(plan.steps))))
        self._world, self._traffic, self._coins = world, Traffic(world, seed), np.random.default_rng([seed, 1])
        self._watch = Watch(labels=int(world.scored > 0))
        self._now_s, self._looks = 0.0, 0
        self._full_s: float | None = None
        self._harm, self._glances = Harm(), list[Glance]()
        self.verdict = judge_canary(canary_plan(self.plan), self._watch.judge)

    def situation(self) -> Situation:
        """What a controller sees."""
        return Situation(
            now_s=self._now_s,
            observed_pct=self.release.confirmed_pct,
            verdict=self.verdict,
            step_requests=self._watch.step_requests,
            requests_per_s=self._watch.requests_per_s,
        )

    def glance(self) -> None:
        """Remember this look for a picture."""
        progress = self.verdict.progress
        harmless = min(value for name, value in progress.items() if name.endswith("_noninferior"))
        harm = max(value for name, value in progress.items() if name != "drift" and not name.endswith("_noninferior"))
        self._glances.append(Glance(self._now_s, self.release.confirmed_pct, harm, harmless))

    def expose(self, step: Advance) -> None:
        """Give the canary its share."""
        release = self.release
        if not release.of_kind("judging"):
            release = release.record(self._now_s, "judging", **declaration(self.plan, self._watch))
        is_baking = step.step >= len(self.plan.steps)
        release = release.record(self._now_s, "exposed", pct=step.pct)
        phase = Phase.BAKING if is_baking else Phase.CANARY
        self.release = release.enter(phase, self._now_s, step=step.step, why=step.why)
        self._watch = self._watch.new_step()
        self._full_s = self._now_s if is_baking else self._full_s

    def go_on(self) -> None:
        """What happens until the next look."""
        share, world = self.release.confirmed_pct / 100, self._world
        seen = self._traffic.interval(share, self.plan.look_s)
        self._harm = self._harm.plus(seen, error_rates(world, self._now_s)[0])
        self._now_s, self._looks = seen.t, self._looks + 1
        stratum = stratum_of(seen, self._looks, self._coins, is_sliced=bool(self.plan.slices))
        self._watch = self._watch.absorb(self.plan, [stratum])
        self.verdict = judge_canary(canary_plan(self.plan, self.release), self._watch.judge)

    def ended(self, outcome: Phase, why: str) -> Played:
        """What is told of it."""
        return Played(outcome, self._now_s, why, self._harm, self.verdict, self._full_s, tuple(self._glances))


def stratum_of(seen: IntervalSeen, number: int, coins: np.random.Generator, *, is_sliced: bool) -> Stratum:
    """What a gateway would have counted; `is_sliced` where it counts attributes."""
    stable, canary = _counts(seen.stable, is_sliced), _counts(seen.canary, is_sliced)
    began_s, half = seen.t - seen.lasts_s, _half(seen.stable, coins)
    return Stratum(number, "simulation", began_s, seen.t, 100 * seen.weight, stable, canary, control=half)


def _counts(arm: ArmSeen, is_sliced: bool) -> ArmCounts:
    parts = {name: arm_of(part) for name, part in arm.by_slice.items()} if is_sliced else {}
    return replace(arm_of(arm), by_slice=parts)


def _half(arm: ArmSeen, coins: np.random.Generator) -> ArmCounts:
    """A random half of the arm's requests: the negative control."""
    n = int(coins.binomial(arm.n, 0.5))
    errors = int(coins.hypergeometric(arm.errors, arm.n - arm.errors, n)) if arm.n else 0
    return arm_of(ArmSeen(n, errors, arm.latency[: n - errors], np.empty(0)))
