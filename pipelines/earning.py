"""May the canary have a larger share already?

With `advance: earned` the next share is granted as soon as the harm that it may do there is affordable. How many more
requests than at stable may fail is bounded by the evidence at every look (`CanaryVerdict.excess_bound`, right at all
looks together with probability 1 - α_promote); times the requests that the next step will bring, that must fit into
what is left of `harm_budget`. So with that probability no share is granted at which more than the budget fails.

The bound on false promotions does not depend on this rule: e-processes allow any share that is chosen on the past.
"""

from __future__ import annotations

from typing import Protocol

from pipelines.spec import RolloutSpec


class Counted(Protocol):
    """What the judge has counted (`evals.judgement.CanaryVerdict`)."""

    @property
    def excess_bound(self) -> float:
        """The canary's error rate is at most this much above stable's."""
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


def possible_harm(plan: RolloutSpec, seen: Counted, pct: float, requests_per_s: float) -> float:
    """How many more requests may fail while the canary holds `pct` percent for the time of one step?"""
    return seen.excess_bound * pct / 100 * requests_per_s * plan.hold_s


def unearned(plan: RolloutSpec, seen: Counted, pct: float, requests_per_s: float) -> str:
    """Why the share cannot be afforded yet, or "" where it can."""
    left, harm = plan.harm_budget - spent(seen), possible_harm(plan, seen, pct, requests_per_s)
    if harm <= left:
        return ""
    return (
        f"{pct:g} % is not earned yet: up to {harm:.0f} more requests might fail in {plan.hold_s:g} s, and {left:.0f} "
        f"of harm_budget {plan.harm_budget} are left (errors proven at most {seen.excess_bound:.1%} above stable's)"
    )
