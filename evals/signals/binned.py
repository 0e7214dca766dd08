"""Is the canary slower, or worse, than stable at the same kind of request?

Requests of a language model differ in what must be computed before the first token: the prompt's tokens that are not in
a cache. A canary with a small share finds less in its cache for its whole life, so its mix is another one and a
comparison of all requests together would convict it for that. Within a bin of uncached tokens both arms are asked
alike: each bin of a stratum is a stratum of its own, with thresholds from stable's own past in that bin, and all bins
feed one process together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from evals.maths.e_processes import Bank, Bets, Ints, NonInferiority, OddsRatio, Values, absorb_parts
from evals.signals.graded import TAIL
from evals.signals.latency import EXCEEDANCE, HARMLESS, AtQuantiles, LatencyState, LatencyTest, histogram, tempers
from evals.signals.strata import ArmCounts, Stratum

NOBODY = ArmCounts()


def absorb_in_bins(test: LatencyTest, state: LatencyState, stratum: Stratum) -> LatencyState:
    """The state after one stratum of something that is timed, within the bins that its requests are in."""
    if not (stratum.canary.by_slice or stratum.stable.by_slice or state.bins):
        return test.absorb(state, stratum)
    bins, counted = {}, {}
    for name in sorted({*stratum.canary.by_slice, *stratum.stable.by_slice, *state.bins}):
        stable, canary = (arm.by_slice.get(name, NOBODY) for arm in (stratum.stable, stratum.canary))
        part = replace(stratum, stable=stable, canary=canary, control=None)
        own = state.bins.get(name, LatencyState())
        bins[name] = replace(own, window=own.window.after(part, histogram(stable)))
        if steps := test.steps(own.window):
            counted[name] = test.counted(part, steps)
    return _judged(test, replace(state, bins=bins), counted) if counted else replace(state, bins=bins)


def _judged(test: LatencyTest, state: LatencyState, counted: Mapping[str, AtQuantiles]) -> LatencyState:
    """The state after the counts of each bin in which a quantile is known."""
    body = tempers(test.quantiles[:-1])
    kinds: list[tuple[str, Bets, Values | float]] = [("body", EXCEEDANCE, body), ("tail", TAIL, 1.0)]
    if test.margin is not None:
        kinds.append(("harmless", HARMLESS, 1.0))
    for kind, bets, temper in kinds:
        state = _of_kind(state, kind, bets, {name: getattr(counts, kind) for name, counts in counted.items()}, temper)
    return state


def _of_kind(
    state: LatencyState, kind: str, bets: Bets, counts: Mapping[str, Ints], temper: Values | float
) -> LatencyState:
    """The evidence is the state's, and what waits each bin's own: of a bin's bank nothing else is read."""
    rows = len(next(iter(counts.values())))
    owns = {name: getattr(state.bins[name], kind).grown(bets, rows) for name in counts}
    waiting = np.stack([own.waiting for own in owns.values()])
    evidence = getattr(state, kind).grown(bets, rows)
    evidence, waiting = absorb_parts(bets, evidence, waiting, np.stack(list(counts.values())), temper)
    found: dict[str, Any] = {
        name: replace(state.bins[name], **{kind: replace(own, waiting=left)})
        for (name, own), left in zip(owns.items(), waiting, strict=True)
    }
    after: dict[str, Any] = {kind: evidence, "bins": {**state.bins, **found}}
    return replace(state, **after)


@dataclass(frozen=True)
class RateTest:
    """Harm: the odds of a bad answer are more than 1 + `tolerance` times stable's.

    Harmless: their rate is less than `margin` above stable's, as a difference of fractions. A margin of None does not
    ask. Within bins, as `absorb_in_bins`: what is disproven is a rate that is worse by the margin in all of them.
    """

    tolerance: float = 0.25
    margin: float | None = None

    @property
    def odds(self) -> OddsRatio:
        """The process of harm."""
        return OddsRatio(rho0=1 + self.tolerance)

    def absorb(self, state: RateState, stratum: Stratum, what: str) -> RateState:
        """The state after one stratum, in which answers were asked about this."""
        canary, stable = stratum.canary.rates.get(what, {}), stratum.stable.rates.get(what, {})
        names = sorted({*canary, *stable})
        if not names:
            return state
        counts = np.array([[[*canary.get(name, (0, 0)), *stable.get(name, (0, 0))]] for name in names])
        waiting = np.array([state.waiting.get(name, (NOTHING, NOTHING)) for name in names])[:, :, None]
        harm, harm_waits = absorb_parts(self.odds, state.harm, waiting[:, 0], counts)
        harmless, harmless_waits = state.harmless, waiting[:, 1]
        if self.margin is not None:
            bets = NonInferiority((self.margin,))
            harmless, harmless_waits = absorb_parts(bets, harmless, harmless_waits, counts)
        left = zip(names, harm_waits[:, 0].tolist(), harmless_waits[:, 0].tolist(), strict=True)
        waits = {name: (tuple(of_harm), tuple(of_harmless)) for name, of_harm, of_harmless in left}
        seen = tuple(int(n) for n in state.seen + counts.sum(axis=(0, 1)))
        return replace(state, harm=harm, harmless=harmless, waiting={**state.waiting, **waits}, seen=seen)


Counts = tuple[int, ...]

NOTHING: Counts = (0, 0, 0, 0)


@dataclass(frozen=True)
class RateState:
    """Evidence of one rate of bad answers, the counts that wait in each bin, and all that was seen.

    Counts are those of `e_processes`: canary, its bad ones, stable, its bad ones.
    """

    harm: Bank = field(default_factory=lambda: Bank.of(OddsRatio()))
    harmless: Bank = field(default_factory=lambda: Bank.of(NonInferiority((0.01,))))
    waiting: Mapping[str, tuple[Counts, Counts]] = field(default_factory=dict)
    seen: Counts = NOTHING

    @property
    def log_e(self) -> float:
        """Log E of harm."""
        return float(self.harm.log_e[0])

    @property
    def harmless_log_e(self) -> float:
        """Log E of harmlessness."""
        return float(self.harmless.log_e[0])

    def cut(self) -> RateState:
        """The state without the counts that wait for a stratum."""
        return replace(self, waiting={})

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        waiting = {name: [list(part) for part in parts] for name, parts in self.waiting.items()}
        banks = {"harm": self.harm.as_dict(), "harmless": self.harmless.as_dict()}
        return {**banks, "waiting": waiting, "seen": list(self.seen)}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> RateState:
        """The state of `as_dict`."""
        waiting = {name: (tuple(harm), tuple(harmless)) for name, (harm, harmless) in raw["waiting"].items()}
        return cls(Bank.from_dict(raw["harm"]), Bank.from_dict(raw["harmless"]), waiting, tuple(raw["seen"]))
