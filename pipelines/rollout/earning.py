"""May the canary have a larger share already?

With `advance: earned` the next share is granted as soon as the harm that it may do there is affordable. Harm is counted
in requests that fail beyond stable's. At every look the evidence bounds the canary's excess of failures
(`CanaryVerdict.excess_bound`, right at all looks together with probability 1 - α_promote). For each excess above the
margin that is not yet excluded, the harm at the next share is what fails until the judge finds it there: the requests
that a test needs to tell it from stable (more of them at larger shares, where stable has fewer), and those of the looks
in between, but no more than the step brings. The worst of them, and what has failed already, must fit into
`harm_budget`. And no share is raised while the evidence leans to harm.

An excess within the margin is no harm: the spec would promote it. The bound on false promotions does not depend on this
rule at all: e-processes allow any share that is chosen on the past (docs/statistics.md, "Earned advance").
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from evals.canary.plan import ALPHA_SHARES, EXCESS
from evals.maths.rates import requests_to_tell
from pipelines.spec.rollout import RolloutSpec

LEANS = 0.1
"""Evidence that is this part of the way to a conviction, on the scale of log E, holds back a step."""

SLOWER_THAN_BOUND = 1.3
"""The judge needs about this many times the requests of the information bound (docs/benchmarks.md, "The judge")."""

UNSEEN_LOOKS = 2
"""Requests are judged when their interval has ended and the next look has come."""


class Counted(Protocol):
    """What the judge has counted (`evals.canary.judgement.CanaryVerdict`)."""

    @property
    def excess_bound(self) -> float:
        """The canary's error rate is at most this much above stable's."""
        ...

    @property
    def promote(self) -> bool:
        """Whether harmlessness is proven."""
        ...

    @property
    def progress(self) -> Mapping[str, float]:
        """Log E over that of a proof, for each process."""
        ...

    @property
    def canary_requests(self) -> int:
        """Judged requests of the canary."""
        ...

    @property
    def canary_errors(self) -> int:
        """Failed ones among them."""
        ...

    @property
    def stable_requests(self) -> int:
        """Judged requests of stable."""
        ...

    @property
    def stable_errors(self) -> int:
        """Failed ones among them."""
        ...


def spent(seen: Counted) -> float:
    """How many requests failed so far that would not have failed at stable?"""
    usual = seen.stable_errors / seen.stable_requests if seen.stable_requests else 0.0
    return max(0.0, seen.canary_errors - usual * seen.canary_requests)


def possible_harm(plan: RolloutSpec, seen: Counted, pct: float, requests_per_s: float, lasts_s: float) -> float:
    """How many more requests may fail at `pct` percent until the judge finds out, or `lasts_s` have passed?"""
    if seen.promote:
        return 0.0
    usual, share = (seen.stable_errors + 0.1) / (seen.stable_requests + 20), pct / 100
    per_s = share * requests_per_s
    possible = [excess for excess in (1.0, *EXCESS) if plan.gates.errors.margin < excess <= seen.excess_bound]
    found_after = {
        excess: SLOWER_THAN_BOUND * requests_to_tell(usual, min(1.0, usual + excess), share, plan.alpha)
        + UNSEEN_LOOKS * plan.look_s * per_s
        for excess in possible
    }
    return max((excess * min(found_after[excess], per_s * lasts_s) for excess in possible), default=0.0)


def unearned(plan: RolloutSpec, seen: Counted, pct: float, requests_per_s: float, lasts_s: float) -> str:
    """Why the share cannot be afforded yet, or "" where it can. The step at `pct` percent lasts for `lasts_s`."""
    suspect = max(ALPHA_SHARES, key=lambda metric: seen.progress.get(metric, 0.0))
    if seen.progress.get(suspect, 0.0) > LEANS:
        way = f"{seen.progress[suspect]:.0%} of the way to a conviction"
        return f"{pct:g} % is not earned while the evidence on {suspect} leans to harm ({way})"
    left, harm = plan.harm_budget - spent(seen), possible_harm(plan, seen, pct, requests_per_s, lasts_s)
    if harm <= left:
        return ""
    return (
        f"{pct:g} % is not earned yet: up to {harm:.0f} more requests might fail before that is found, and {left:.0f} "
        f"of harm_budget {plan.harm_budget} are left (errors proven at most {seen.excess_bound:.1%} above stable's)"
    )
