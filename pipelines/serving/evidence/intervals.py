"""What did each arm do with the requests that were routed to it, interval by interval?

Pure bookkeeping: requests belong to the interval in which they were routed, an interval is cut by time and whenever
the shares change, and it is handed out once all of its requests are decided.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from math import ceil, log
from random import random

from evals.signals.counting import step_of_value
from evals.signals.strata import GRID_RATIO, ArmCounts, Cohort, Shadowed, Stratum
from pipelines.records.split import TrafficSplit

KEPT = 3600
"""Decided intervals that can still be asked for."""

MOST_CLASSES, OTHER = 100, "other classes"
"""Names of predicted classes that are counted one by one in an interval."""

MIN_MS, LOG_RATIO = 0.01, log(GRID_RATIO)


BINNED = frozenset({"goodput"})
"""What depends on the kind of a request as its timings do."""


@dataclass
class _Arm:
    routed: int = 0
    errors: int = 0
    timeouts: int = 0
    memo_hits: int = 0
    left: int = 0
    steps: Counter[int] = field(default_factory=Counter)
    scores: Counter[int] = field(default_factory=Counter)
    classes: Counter[str] = field(default_factory=Counter)
    values: Counter[int] = field(default_factory=Counter)
    slices: dict[str, _Arm] = field(default_factory=dict)
    timings: dict[str, _Arm] = field(default_factory=dict)
    users: _Arm | None = None
    rates: dict[str, dict[str, list[int]]] = field(default_factory=dict)
    """By what answers are asked about and by bin: how many were asked, and how many of them were bad."""

    def counts(self) -> ArmCounts:
        """The frozen counts, with latencies as a survival function on the grid."""
        over: dict[int, int] = {}
        left = self.routed - self.errors + self.timeouts - self.memo_hits - self.left
        for step in sorted(self.steps):
            left -= self.steps[step]
            over[step] = left
        return ArmCounts(
            self.routed,
            self.errors,
            self.timeouts,
            over,
            dict(self.scores),
            dict(self.classes),
            {name: part.counts() for name, part in self.slices.items()},
            {name: part.counts() for name, part in self.timings.items()},
            self.users.counts() if self.users is not None else None,
            dict(self.values),
            self.memo_hits,
            {what: {name: (of, bad) for name, (of, bad) in bins.items()} for what, bins in self.rates.items()},
            self.left,
        )


@dataclass(frozen=True, slots=True)
class Story:
    """What an answer is counted as besides its end.

    What was timed in it, how long it is (`longer`, and by its inverse `shorter`), what it was asked about, how many
    tokens went in, were cached and came out, and why each of its choices finished; its length in tokens is what it
    predicted, as a number. `bin` says which requests it may be compared with, in its timings and lengths and in what
    BINNED names; all else is asked of all together. `costs` are in billionths of money; `traffic` and `tenant` are of
    its request.
    """

    timings_ms: Mapping[str, float]
    lengths: Mapping[str, float] = field(default_factory=dict)
    is_bad: Mapping[str, bool] = field(default_factory=dict)
    tokens: Mapping[str, int] = field(default_factory=dict)
    finish: tuple[str, ...] = ()
    bin: str = ""
    costs: Mapping[str, float] = field(default_factory=dict)
    traffic: str = ""
    tenant: str = ""


@dataclass
class Interval:
    """One open or undecided interval. Times are monotonic seconds."""

    number: int
    began_s: float
    split: TrafficSplit
    ended_s: float | None = None
    undecided: int = 0
    counted: dict[str, _Arm] = field(default_factory=lambda: {"stable": _Arm(), "canary": _Arm(), "control": _Arm()})
    """What the arms did, without what is still to be settled."""
    cohorts: list[Cohort] = field(default_factory=list)
    mirrored: _Arm = field(default_factory=_Arm)
    pairs: Counter[str] = field(default_factory=Counter)
    tickets: dict[tuple[str, bool, tuple[str, ...]], CountTicket] = field(default_factory=dict)

    @property
    def arms(self) -> dict[str, _Arm]:
        """What the arms did."""
        for ticket in self.tickets.values():
            ticket.settle()
        return self.counted

    def ticket(self, arm: str, slices: tuple[str, ...], *, in_control: bool) -> CountTicket:
        """The one of a request of an arm with these slices, whichever it is."""
        counts = self.counted[arm]
        places = [counts, *(counts.slices.setdefault(name, _Arm()) for name in slices)]
        if in_control and arm == "stable":
            places.append(self.counted["control"])
        return CountTicket(self, arm, tuple(places))

    def stratum(self, boot: str) -> Stratum:
        """The stratum, once decided."""
        ended_s = self.ended_s if self.ended_s is not None else self.began_s
        arms = self.arms
        stable, canary, control = (arms[name].counts() for name in ("stable", "canary", "control"))
        return Stratum(
            self.number,
            boot,
            self.began_s,
            ended_s,
            self.split.canary_pct,
            stable,
            canary,
            generation=self.split.generation,
            control=control,
            cohorts=tuple(self.cohorts),
            shadow=self._shadow(),
        )

    def _shadow(self) -> Shadowed | None:
        """None where nothing was mirrored."""
        if not self.mirrored.routed and not self.pairs:
            return None
        return Shadowed(self.mirrored.counts(), *(self.pairs[name] for name in ("same", "other", "failed", "skipped")))


@dataclass(eq=False, slots=True)
class CountTicket:
    """Requests that are counted in the same places share a ticket, where each is counted once as it comes and goes."""

    interval: Interval
    arm: str
    places: tuple[_Arm, ...]
    """The first one is the arm as a whole."""
    routed: int = 0
    errors: int = 0
    timeouts: int = 0
    steps: Counter[int] = field(default_factory=Counter)

    def settle(self) -> None:
        """Count in all places what was counted here."""
        for place in self.places:
            place.routed += self.routed
            place.errors += self.errors
            place.timeouts += self.timeouts
            place.steps.update(self.steps)
        self.routed = self.errors = self.timeouts = 0
        self.steps.clear()


class Intervals:
    """The intervals of one gateway boot."""

    def __init__(
        self, boot: str, interval_s: float, now_s: float, in_flight: list[int] | memoryview[int] | None = None
    ) -> None:
        self.in_flight = in_flight if in_flight is not None else [0, 0]
        """Undecided requests of stable and of the canary; somebody else may hold the memory, who outlives us."""
        self._boot = boot
        self._interval_s = interval_s
        self._open = Interval(0, now_s, TrafficSplit())
        self._closed: deque[Interval] = deque()
        self._decided: deque[Stratum] = deque(maxlen=KEPT)

    @property
    def current(self) -> Interval:
        """The open interval."""
        return self._open

    def cut(self, now_s: float, split: TrafficSplit) -> None:
        """Close the open interval where its time is over, or the shares or the arms are no longer the same."""
        if split.routes == self._open.split.routes and now_s - self._open.began_s < self._interval_s:
            return
        self.begin(self._open.number + 1, now_s, split)

    def begin(self, number: int, now_s: float, split: TrafficSplit) -> None:
        """Close the open interval; the next one has this number."""
        self._open.ended_s = now_s
        self._closed.append(self._open)
        self._open = Interval(number, now_s, split)
        self._hand_out()

    def routed(self, arm: str, slices: tuple[str, ...] = (), *, in_control: bool = False) -> CountTicket:
        """A request is given to an arm; `in_control` by chance, for half of stable's."""
        interval, alike = self._open, (arm, in_control, slices)
        ticket = interval.tickets.get(alike)
        if ticket is None:
            ticket = interval.tickets[alike] = interval.ticket(arm, slices, in_control=in_control)
        ticket.routed += 1
        interval.undecided += 1
        self.in_flight[arm == "canary"] += 1
        return ticket

    def answered(self, ticket: CountTicket, latency_ms: float) -> None:
        """The arm answered without an error."""
        ticket.steps[step_of(latency_ms)] += 1
        self._decide(ticket)

    def told(self, ticket: CountTicket, found: Story) -> None:
        """What an answer was besides; said before it is counted."""
        arm = ticket.places[0]
        for name, ms in (*found.timings_ms.items(), *found.lengths.items()):
            timed = arm.timings.setdefault(name, _Arm())
            for place in (timed, timed.slices.setdefault(found.bin, _Arm())) if found.bin else (timed,):
                place.routed += 1
                place.steps[step_of(ms)] += 1
        for what, is_bad in found.is_bad.items():
            bins = arm.rates.setdefault(what, {})
            counts = bins.setdefault(found.bin if what in BINNED else "", [0, 0])
            counts[0] += 1
            counts[1] += is_bad
        for name, nano in found.costs.items():
            place = arm.timings.setdefault(name, _Arm())
            place.routed += 1
            place.steps[fair_step(nano, random())] += 1  # noqa: S311  a coin, not a secret
        if length := found.tokens.get("out"):
            arm.values[step_of_value(float(length))] += 1

    def left(self, ticket: CountTicket) -> None:
        """The client went while the answer came: that says nothing about the arm."""
        for place in ticket.places:
            place.left += 1
        self._decide(ticket)

    def predicted(self, ticket: CountTicket, name: str) -> None:
        """What the arm answered, as one class; rare ones of an interval are gathered."""
        classes = ticket.places[0].classes
        classes[name if name in classes or len(classes) < MOST_CLASSES else OTHER] += 1

    def valued(self, ticket: CountTicket, text: str) -> None:
        """What the arm predicted, where that is a number; anything else is not counted."""
        with suppress(ValueError):
            ticket.places[0].values[step_of_value(float(text))] += 1

    def remembered(self, ticket: CountTicket) -> None:
        """The arm answered from its memo: how fast says nothing about its model, and much about the arm's age."""
        for place in ticket.places:
            place.memo_hits += 1
        self._decide(ticket)

    def failed(self, ticket: CountTicket) -> None:
        """The arm failed fast: an error without a latency."""
        ticket.errors += 1
        self._decide(ticket)

    def timed_out(self, ticket: CountTicket, latency_ms: float) -> None:
        """The arm did not answer in time: an error, and slower than every threshold below."""
        ticket.errors += 1
        ticket.timeouts += 1
        ticket.steps[step_of(latency_ms)] += 1
        self._decide(ticket)

    def withdrawn(self, ticket: CountTicket) -> None:
        """The arm never had the request."""
        ticket.routed -= 1
        self._decide(ticket)

    def scored(self, arm: str, thousandths: int) -> None:
        """A label came now, for a request of any interval."""
        self._open.counted[arm].scores[thousandths] += 1

    def shadowed(self, outcome: str, agreement: str, took_ms: float) -> None:
        """What the canary did with a copy of a request is known now, whenever that was routed."""
        if outcome == "skipped":
            self._open.pairs["skipped"] += 1
            return
        place = self._open.mirrored
        place.routed += 1
        place.errors += outcome != "ok"
        place.timeouts += outcome == "timeout"
        if outcome != "error":
            place.steps[step_of(took_ms)] += 1
        if agreement:
            self._open.pairs[agreement] += 1

    def user_over(self, arm: str, *, has_failed: bool, in_control: bool) -> None:
        """The outcome of a user is closed now, wherever his requests were routed."""
        for name in places_of(arm, in_control=in_control):
            place = self._open.counted[name]
            place.users = place.users or _Arm()
            place.users.routed += 1
            place.users.errors += has_failed

    def due(self, cohort: Cohort) -> None:
        """The time of an earlier interval's requests to be labelled is over."""
        self._open.cohorts.append(cohort)

    def decided_after(self, number: int) -> tuple[Stratum, ...]:
        """The decided strata after an interval, oldest first, as far back as they are kept."""
        return tuple(s for s in self._decided if s.interval > number)

    def _decide(self, ticket: CountTicket) -> None:
        ticket.interval.undecided -= 1
        self.in_flight[ticket.arm == "canary"] -= 1
        if self._closed:
            self._hand_out()

    def _hand_out(self) -> None:
        while self._closed and self._closed[0].undecided == 0:
            interval = self._closed.popleft()
            self._decided.append(interval.stratum(self._boot))
            interval.tickets.clear()  # they hold each other, which only the garbage collector would end


def places_of(arm: str, *, in_control: bool) -> tuple[str, ...]:
    """Where a user counts: half of stable's are its control, too."""
    return (arm, "control") if in_control and arm == "stable" else (arm,)


def fair_step(value: float, chance: float) -> int:
    """One of the two grid steps around a value from 1 on, by chance, so that their mean is the value."""
    above = step_of(max(value, 1.0))
    low, high = GRID_RATIO ** (above - 1), GRID_RATIO**above
    return above if chance * (high - low) < value - low else above - 1


def step_of(latency_ms: float) -> int:
    """The smallest grid step whose threshold is not exceeded by a latency."""
    at_least_ms = latency_ms if latency_ms > MIN_MS else MIN_MS  # noqa: FURB136  every request pays for a call
    return ceil(log(at_least_ms) / LOG_RATIO - 1e-9)
