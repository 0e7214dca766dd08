"""How often does the canary answer as stable does, asked the same? Reported beside the evidence, and judged by nobody.

What is asked twice is stable's traffic while it was stable's: the answers met no user, and disagreeing with the old
version is what a new one is for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from evals.offline.metrics import wilson
from evals.signals.strata import Shadowed


@dataclass(frozen=True)
class ShadowState:
    """Everything that was mirrored so far in a release."""

    asked: int = 0
    errors: int = 0
    timeouts: int = 0
    same: int = 0
    other: int = 0
    failed: int = 0
    skipped: int = 0

    def plus(self, seen: Shadowed | None) -> ShadowState:
        """The state after one more interval."""
        if seen is None:
            return self
        return replace(
            self,
            asked=self.asked + seen.canary.routed,
            errors=self.errors + seen.canary.errors,
            timeouts=self.timeouts + seen.canary.timeouts,
            same=self.same + seen.same,
            other=self.other + seen.other,
            failed=self.failed + seen.failed,
            skipped=self.skipped + seen.skipped,
        )

    def as_dict(self) -> dict[str, object]:
        """Plain data, with the share of pairs that agree and its 95 % interval; None where there is no pair."""
        pairs = self.same + self.other
        agreeing = self.same / pairs if pairs else None
        interval = wilson(agreeing, pairs, 0.95) if agreeing is not None else None
        return {**vars(self), "agreeing": agreeing, "agreeing_95": interval}
