"""Is the canary slower, or worse, than stable at the same kind of request?

Requests of a language model differ in what must be computed before the first token: the prompt's tokens that are not in
a cache. A canary with a small share finds less in its cache for its whole life, so its mix is another one and a
comparison of all requests together would convict it for that. Within a bin of uncached tokens both arms are asked
alike: each bin of a stratum is a stratum of its own, with thresholds from stable's own past in that bin, and all bins
feed one process, one after the other in the order of their names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from evals.maths.e_processes import Bank, Bets, NonInferiority, OddsRatio, absorb
from evals.signals.latency import LatencyState, LatencyTest
from evals.signals.strata import ArmCounts, Stratum

NOBODY = ArmCounts()


def absorb_in_bins(test: LatencyTest, state: LatencyState, stratum: Stratum) -> LatencyState:
    """The state after one stratum of something that is timed, within the bins that its requests are in."""
    if not (stratum.canary.by_slice or stratum.stable.by_slice or state.bins):
        return test.absorb(state, stratum)
    for name in sorted({*stratum.canary.by_slice, *stratum.stable.by_slice, *state.bins}):
        stable, canary = (arm.by_slice.get(name, NOBODY) for arm in (stratum.stable, stratum.canary))
        part = replace(stratum, stable=stable, canary=canary, control=None)
        own = state.bins.get(name, LatencyState())
        after = test.absorb(_with_evidence(own, state), part)
        state = replace(_with_evidence(state, after), bins={**state.bins, name: _without_evidence(after)})
    return state


_SHARED = ("body", "tail", "harmless")


def _with_evidence(state: LatencyState, of: LatencyState) -> LatencyState:
    """The state with its own window and its own counts that wait, and the evidence of another one."""
    banks: dict[str, Any] = {name: _joined(getattr(of, name), getattr(state, name)) for name in _SHARED}
    return replace(state, **banks)


def _without_evidence(state: LatencyState) -> LatencyState:
    """What is a bin's own: its window, and its counts that wait. It has no bins in it."""
    waiting: dict[str, Any] = {name: _joined(_blank(getattr(state, name)), getattr(state, name)) for name in _SHARED}
    return replace(state, **waiting, bins={})


def _joined(evidence: Bank, waiting: Bank) -> Bank:
    """The evidence of one bank, and the counts that wait in another, which may have fewer rows as yet."""
    counts = np.zeros_like(evidence.waiting)
    rows = min(len(counts), waiting.rows)
    counts[:rows] = waiting.waiting[:rows]
    return replace(evidence, waiting=counts)


def _blank(bank: Bank) -> Bank:
    """A bank of the same size that has seen nothing; its weights are not read, since evidence comes from elsewhere."""
    zero = np.zeros_like
    return Bank(zero(bank.log_e), zero(bank.log_weights), zero(bank.waiting), zero(bank.past))


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
        for name in sorted({*canary, *stable}):
            counts = np.array([[*canary.get(name, (0, 0)), *stable.get(name, (0, 0))]])
            state = self._in_bin(state, name, counts)
        return state

    def _in_bin(self, state: RateState, name: str, counts: Any) -> RateState:
        kinds: list[tuple[str, Bets]] = [("harm", self.odds)]
        if self.margin is not None:
            kinds.append(("harmless", NonInferiority((self.margin,))))
        waiting, after = state.waiting.get(name, ((0, 0, 0, 0), (0, 0, 0, 0))), {}
        left = dict(zip(("harm", "harmless"), waiting, strict=True))
        for kind, bets in kinds:
            bank = replace(getattr(state, kind), waiting=np.array([left[kind]], dtype=np.int64))
            bank = absorb(bets, bank, counts)
            left[kind] = tuple(bank.waiting[0].tolist())
            after[kind] = replace(bank, waiting=np.zeros_like(bank.waiting))
        seen = tuple(int(n) for n in np.array(state.seen) + counts[0])
        return replace(state, **after, waiting={**state.waiting, name: (left["harm"], left["harmless"])}, seen=seen)


Counts = tuple[int, ...]


@dataclass(frozen=True)
class RateState:
    """Evidence of one rate of bad answers, the counts that wait in each bin, and all that was seen.

    Counts are those of `e_processes`: canary, its bad ones, stable, its bad ones.
    """

    harm: Bank = field(default_factory=lambda: Bank.of(OddsRatio()))
    harmless: Bank = field(default_factory=lambda: Bank.of(NonInferiority((0.01,))))
    waiting: Mapping[str, tuple[Counts, Counts]] = field(default_factory=dict)
    seen: Counts = (0, 0, 0, 0)

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
