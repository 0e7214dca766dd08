"""What did each arm do with the requests that were routed to it in one interval?

A stratum is the unit of canary evidence: requests belong to the interval in which they were *routed*, and a stratum
is handed out once, when every request in it is decided (answered, failed, or past its deadline).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
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
    `threshold_ms(step)`, among those that have a latency: an error that came back fast is not a fast answer, nor is one
    of the `memo_hits`, which a server remembered and no model gave. Steps at which the number does not change are left
    out. `scores` maps thousandths to the number of quality scores that arrived in this interval, for requests of any
    interval. `classes` counts what was predicted, one class for each request; `by_slice` holds the same counts for
    requests with one value of a declared attribute (`attribute=value`), which have no slices of their own. `timings`
    counts streamed answers by what is timed in them (`first_token`, and the mean time `between_tokens`). `users` counts
    users instead of requests where they stay at an arm: each once in a step of the plan, in the interval in which his
    outcome was closed. `values` counts what was predicted where that is a number, by steps
    (`evals.signals.counting.step_of_value`). `rates` counts, by what answers are asked about (`goodput`, `empty`, …)
    and by the requests' bin, (answers that were asked, those that were bad): only answers that could be bad are asked.
    `left` counts requests whose clients went while the answer came: routed, and neither a success nor a failure.
    """

    routed: int = 0
    errors: int = 0
    timeouts: int = 0
    over: Mapping[int, int] = field(default_factory=dict)
    scores: Mapping[int, int] = field(default_factory=dict)
    classes: Mapping[str, int] = field(default_factory=dict)
    by_slice: Mapping[str, ArmCounts] = field(default_factory=dict)
    timings: Mapping[str, ArmCounts] = field(default_factory=dict)
    users: ArmCounts | None = None
    values: Mapping[int, int] = field(default_factory=dict)
    memo_hits: int = 0
    rates: Mapping[str, Mapping[str, tuple[int, int]]] = field(default_factory=dict)
    left: int = 0

    @property
    def timed(self) -> int:
        """How many requests have a latency."""
        return self.routed - self.errors + self.timeouts - self.memo_hits - self.left

    @property
    def judged(self) -> int:
        """How many requests ended as a success or a failure."""
        return self.routed - self.left

    def exceeding(self, step: int) -> int:
        """How many timed requests took longer than `threshold_ms(step)`."""
        below = [s for s in self.over if s <= step]
        return self.over[max(below)] if below else self.timed


@dataclass(frozen=True)
class Cohort:
    """The requests of an earlier interval that were answered, and how many of them have been given a label in time."""

    canary_pct: float
    canary: int
    canary_labelled: int
    stable: int
    stable_labelled: int

    def __post_init__(self) -> None:
        """Raises ValueError where more are labelled than there are."""
        if not 0 <= self.canary_labelled <= self.canary or not 0 <= self.stable_labelled <= self.stable:
            raise ValueError(f"impossible labels in a cohort: {self}")


@dataclass(frozen=True)
class Shadowed:
    """What the canary did with copies of stable's requests, which no user met, in the interval in which that was known.

    `same` and `other` count pairs of answers that both name a class, `failed` pairs of which one answer is missing or
    an error, and `skipped` copies that were not sent because too many were on their way.
    """

    canary: ArmCounts = ArmCounts()
    same: int = 0
    other: int = 0
    failed: int = 0
    skipped: int = 0

    def __post_init__(self) -> None:
        """Raises ValueError where more were compared than asked."""
        if self.same + self.other + self.failed > self.canary.routed:
            raise ValueError(f"more pairs than requests in a shadow: {self}")

    def as_dict(self) -> dict[str, Any]:
        """The wire form."""
        return {**vars(self), "canary": _arm_dict(self.canary)}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Shadowed:
        """The shadow of a wire form."""
        counts = (_count(raw[name]) for name in ("same", "other", "failed", "skipped"))
        return cls(_arm_counts(raw["canary"]), *counts)


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
    control: ArmCounts | None = None
    """What a random half of stable's requests did; None where the source does not split them."""
    cohorts: tuple[Cohort, ...] = ()
    """Earlier intervals whose time to be labelled ended in this one."""
    shadow: Shadowed | None = None
    """Copies of stable's requests; no evidence."""

    @property
    def of_users(self) -> Stratum:
        """The same with users instead of requests; empty arms where none were counted."""
        control = (self.control.users or ArmCounts()) if self.control is not None else None
        stable, canary = self.stable.users or ArmCounts(), self.canary.users or ArmCounts()
        return replace(self, stable=stable, canary=canary, control=control)

    def of_streams(self, name: str) -> Stratum:
        """The same with one timing of the streamed answers instead of requests."""
        stable, canary = (arm.timings.get(name, ArmCounts()) for arm in (self.stable, self.canary))
        return replace(self, stable=stable, canary=canary, control=None)

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
            "control": _arm_dict(self.control) if self.control is not None else None,
            "cohorts": [list(vars(cohort).values()) for cohort in self.cohorts],
            **({"shadow": self.shadow.as_dict()} if self.shadow is not None else {}),
        }

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Stratum:
        """The stratum of a wire form. Raises ValueError where it cannot be one, so that it never becomes evidence."""
        fence, n = raw["generation"]
        stratum = cls(
            interval=_count(raw["interval"]),
            boot=str(raw["boot"]),
            routed_from_s=float(raw["routed_from"]),
            routed_to_s=float(raw["routed_to"]),
            canary_pct=float(raw["canary_pct"]),
            generation=(_count(fence), _count(n)),
            stable=_arm_counts(raw["arms"]["stable"]),
            canary=_arm_counts(raw["arms"]["canary"]),
            control=_arm_counts(raw["control"]) if raw.get("control") is not None else None,
            cohorts=tuple(Cohort(float(pct), *map(_count, n)) for pct, *n in raw.get("cohorts", ())),
            shadow=Shadowed.from_dict(raw["shadow"]) if raw.get("shadow") is not None else None,
        )
        if stratum.control is not None and not _is_part(stratum.control, stratum.stable):
            raise ValueError("half of stable's requests cannot be more than all of them")
        if not -math.inf < stratum.routed_from_s <= stratum.routed_to_s < math.inf:
            raise ValueError(f"a stratum from {stratum.routed_from_s} to {stratum.routed_to_s}")
        if not 0 <= stratum.canary_pct <= 100:
            raise ValueError(f"a stratum with a share of {stratum.canary_pct} %")
        return stratum


def _arm_dict(arm: ArmCounts) -> dict[str, Any]:
    timings = {"timings": {name: _arm_dict(part) for name, part in arm.timings.items()}} if arm.timings else {}
    by_bin = {what: {name: list(counts) for name, counts in bins.items()} for what, bins in arm.rates.items()}
    rates = {"rates": by_bin} if by_bin else {}
    users = {"users": _arm_dict(arm.users)} if arm.users is not None else {}
    return {
        "routed": arm.routed,
        "errors": arm.errors,
        "timeouts": arm.timeouts,
        "exceed": {f"{threshold_ms(step):g}": [step, count] for step, count in sorted(arm.over.items())},
        "scores": sorted(map(list, arm.scores.items())),
        "classes": dict(arm.classes),
        "by_slice": {name: _arm_dict(part) for name, part in arm.by_slice.items()},
        **({"values": sorted(map(list, arm.values.items()))} if arm.values else {}),
        **({"memo_hits": arm.memo_hits} if arm.memo_hits else {}),
        **rates,
        **({"left": arm.left} if arm.left else {}),
        **timings,
        **users,
    }


def _arm_counts(raw: Mapping[str, Any]) -> ArmCounts:
    over = {_whole(step): _count(count) for step, count in raw["exceed"].values()}
    counts = (_count(raw["routed"]), _count(raw["errors"]), _count(raw["timeouts"]))
    scores = {_count(step): _count(count) for step, count in raw.get("scores", ())}
    classes = {str(name): _count(count) for name, count in raw.get("classes", {}).items()}
    parts = {str(name): _arm_counts(part) for name, part in raw["by_slice"].items()}
    timings = {str(name): _arm_counts(part) for name, part in raw.get("timings", {}).items()}
    users = _arm_counts(raw["users"]) if raw.get("users") is not None else None
    values = {_whole(step): _count(count) for step, count in raw.get("values", ())}
    memo_hits = _count(raw.get("memo_hits", 0))
    left = _count(raw.get("left", 0))
    rates = {str(what): _rates(bins, counts[0]) for what, bins in raw.get("rates", {}).items()}
    arm = ArmCounts(*counts, over, scores, classes, parts, timings, users, values, memo_hits, rates, left)
    if arm.errors + arm.memo_hits + left > arm.routed or arm.timeouts > arm.errors:
        raise ValueError(f"impossible counts in a stratum: {dict(raw)}")
    if any(step > 1000 for step in scores):
        raise ValueError("a score is a number of thousandths")
    if sum(classes.values()) > arm.routed or not all(_is_part(part, arm) for part in parts.values()):
        raise ValueError("more requests in a class or a slice than in the arm")
    if any(part.routed > arm.routed for part in timings.values()) or sum(values.values()) > arm.routed:
        raise ValueError("more streams or predicted values than requests")
    falling = [arm.timed, *(over[step] for step in sorted(over))]
    if any(later > earlier for earlier, later in pairwise(falling)):
        raise ValueError("more requests above a higher latency threshold than above a lower one")
    return arm


def _rates(bins: Mapping[str, Any], routed: int) -> dict[str, tuple[int, int]]:
    found = {str(name): (_count(of), _count(bad)) for name, (of, bad) in bins.items()}
    if any(bad > of for of, bad in found.values()) or sum(of for of, _ in found.values()) > routed:
        raise ValueError("more bad answers than answers, or more answers than requests")
    return found


def _is_part(part: ArmCounts, whole: ArmCounts) -> bool:
    names = ("routed", "errors", "timeouts", "memo_hits", "left")
    return all(getattr(part, name) <= getattr(whole, name) for name in names)


def _whole(value: Any) -> int:
    """A number of the wire that must be whole: neither text, nor a truth, nor 1.5."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or value != int(value):
        raise ValueError(f"{value!r} is no whole number")
    return int(value)


def _count(value: Any) -> int:
    count = _whole(value)
    if count < 0:
        raise ValueError(f"{value!r} is no count")
    return count
