"""What did each arm do with the requests that were routed to it in one interval?

A stratum is the unit of canary evidence: requests belong to the interval in which they were *routed*, and a stratum
is handed out once, when every request in it is decided (answered, failed, or past its deadline).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

GRID_RATIO = 1.05
"""Latency thresholds are powers of this: a tolerance of 5 % is one step of the grid, 15 % is three."""


def threshold_ms(step: int) -> float:
    """The latency threshold of one step of the grid, in ms (step 0 is 1 ms; steps may be negative)."""
    return float(round(GRID_RATIO**step, 6))


@dataclass(frozen=True)
class ArmCounts:
    """Counts of one arm in one interval.

    `errors` includes `timeouts`. `over` maps a grid step to the number of requests that took longer than
    `threshold_ms(step)`, among the `routed - errors + timeouts` requests that have a latency (an error that came back
    fast is not a fast answer); steps at which the number does not change are left out.
    """

    routed: int = 0
    errors: int = 0
    timeouts: int = 0
    over: Mapping[int, int] = field(default_factory=dict)
    by_slice: Mapping[str, Any] = field(default_factory=dict)

    @property
    def timed(self) -> int:
        """How many requests have a latency."""
        return self.routed - self.errors + self.timeouts

    def exceeding(self, step: int) -> int:
        """How many timed requests took longer than `threshold_ms(step)`."""
        below = [s for s in self.over if s <= step]
        return self.over[max(below)] if below else self.timed


@dataclass(frozen=True)
class Stratum:
    """Both arms in one interval. Times are seconds on the gateway's monotonic clock of boot `boot`."""

    interval: int
    boot: str
    routed_from_s: float
    routed_to_s: float
    canary_pct: float
    stable: ArmCounts
    canary: ArmCounts
    generation: tuple[int, int] = (0, 0)

    def as_dict(self) -> dict[str, Any]:
        """The wire form of the design (`exceed` is keyed by the threshold in ms)."""
        return {
            "interval": self.interval,
            "boot": self.boot,
            "routed_from": self.routed_from_s,
            "routed_to": self.routed_to_s,
            "canary_pct": self.canary_pct,
            "generation": list(self.generation),
            "arms": {"stable": _arm_dict(self.stable), "canary": _arm_dict(self.canary)},
        }

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Stratum:
        """The stratum of a wire form. Raises ValueError where counts are impossible."""
        fence, n = raw["generation"]
        return cls(
            interval=int(raw["interval"]),
            boot=str(raw["boot"]),
            routed_from_s=float(raw["routed_from"]),
            routed_to_s=float(raw["routed_to"]),
            canary_pct=float(raw["canary_pct"]),
            generation=(int(fence), int(n)),
            stable=_arm_counts(raw["arms"]["stable"]),
            canary=_arm_counts(raw["arms"]["canary"]),
        )


def _arm_dict(arm: ArmCounts) -> dict[str, Any]:
    return {
        "routed": arm.routed,
        "errors": arm.errors,
        "timeouts": arm.timeouts,
        "exceed": {f"{threshold_ms(step):g}": [step, count] for step, count in sorted(arm.over.items())},
        "by_slice": dict(arm.by_slice),
    }


def _arm_counts(raw: Mapping[str, Any]) -> ArmCounts:
    over = {int(step): int(count) for step, count in raw["exceed"].values()}
    arm = ArmCounts(int(raw["routed"]), int(raw["errors"]), int(raw["timeouts"]), over, dict(raw["by_slice"]))
    counts = (arm.routed, arm.errors, arm.timeouts, *over.values())
    if min(counts) < 0 or arm.errors > arm.routed or arm.timeouts > arm.errors:
        raise ValueError(f"impossible counts in a stratum: {dict(raw)}")
    if any(count > arm.timed for count in over.values()):
        raise ValueError("more latency exceedances than requests in a stratum")
    return arm
