"""An in-memory router and metrics source with the gateway's own rules."""

from __future__ import annotations

from dataclasses import dataclass, field

from evals.signals.strata import Stratum
from pipelines.errors import StaleWriter
from pipelines.ports import Now, StrataQuery
from pipelines.records.split import TrafficSplit
from pipelines.serving.split.store import Refused, SplitStore


@dataclass
class MemoryRouter:
    """Implements `ports.Router`. `advance` is its clock: leases end only then."""

    stores: dict[str, SplitStore] = field(default_factory=dict)
    now_s: float = 0.0

    def read(self, service: str) -> TrafficSplit:
        """The split now."""
        return self._store(service).split

    def write(self, service: str, split: TrafficSplit, expected: tuple[int, int]) -> TrafficSplit:
        """Replace the split."""
        try:
            return self._store(service).put(split, expected, self.now_s)
        except Refused as error:
            raise StaleWriter(str(error), code="E_FENCED") from None

    def advance(self, seconds: float) -> None:
        """Let time pass: overdue leases end."""
        self.now_s += seconds
        for store in self.stores.values():
            if store.is_overdue(self.now_s):
                store.adopt(store.expired())

    def _store(self, service: str) -> SplitStore:
        return self.stores.setdefault(service, SplitStore(TrafficSplit(), "memory"))


@dataclass
class MemoryMetrics:
    """Implements `ports.MetricsSource`."""

    strata: dict[str, list[Stratum]] = field(default_factory=dict)

    def add(self, service: str, stratum: Stratum) -> None:
        """One more decided stratum."""
        self.strata.setdefault(service, []).append(stratum)

    def measure(self, query: StrataQuery, now: Now) -> tuple[Stratum, ...]:  # noqa: ARG002  strata carry their times
        """The strata after the query's interval."""
        found = self.strata.get(query.service, [])
        return tuple(s for s in found if s.boot != query.boot or s.interval > query.after)
