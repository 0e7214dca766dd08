"""What does Prometheus learn about a gateway?"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from pipelines.serving.evidence.times import Times, histogram
from pipelines.serving.evidence.told import ToldCounters
from pipelines.serving.http1.limits import Load

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


@dataclass(slots=True)
class _Attempts:
    """At one arm: how many by outcome, by the bucket of their time, and how long all of them took."""

    outcomes: Counter[str] = field(default_factory=Counter)
    times: Times = field(default_factory=partial(Times, BUCKETS_S))

    def plain(self) -> dict[str, Any]:
        """As plain data."""
        return {"outcomes": self.outcomes, "buckets": self.times.buckets, "seconds": self.times.seconds}

    def add(self, plain: Mapping[str, Any]) -> None:
        """Count what another process has counted."""
        self.outcomes.update(plain["outcomes"])
        self.times.add(plain["buckets"], plain["seconds"])


class GatewayCounters:
    """Counters of one gateway process: plain numbers, because every request pays for them."""

    def __init__(self, load: Load | None = None) -> None:
        self._load = load or Load()
        self._arms: defaultdict[str, _Attempts] = defaultdict(_Attempts)
        self._late: Counter[str] = Counter()
        self._kept: Counter[str] = Counter()
        self._shadowed: Counter[str] = Counter()
        self._agreed: Counter[str] = Counter()
        self._shadow_s = 0.0
        self.told = ToldCounters()
        """What answers were besides."""
        self.retried = 0
        self.labelled = 0
        self.withdrawn = 0
        self.share = 0.0
        self.lease_left_s = 0.0

    def count(self, arm: str, outcome: str, seconds: float) -> None:
        """One attempt at one arm."""
        attempts = self._arms[arm]
        attempts.outcomes[outcome] += 1
        attempts.times.count(seconds)

    def count_lost(self, undecided: Mapping[str, int]) -> None:
        """What a worker took along that is gone, by arm: nobody knows how long it took."""
        for arm, number in undecided.items():
            if number > 0:
                self._arms[arm].outcomes["lost"] += number

    def count_late_failure(self, arm: str) -> None:
        """A stream broke off after it had been counted as a slow answer."""
        self._late[arm] += 1

    def kept(self, outcome: str) -> None:
        """One request that was sampled for the record."""
        self._kept[outcome] += 1

    def shadowed(self, outcome: str, agreement: str, took_ms: float) -> None:
        """One copy of a request of stable's that the canary was asked, or was not."""
        self._shadowed[outcome] += 1
        self._shadow_s += took_ms / 1000
        if agreement:
            self._agreed[agreement] += 1

    def plain(self) -> dict[str, Any]:
        """The counts as plain data, for a process that adds up those of several."""
        return {
            "arms": {arm: attempts.plain() for arm, attempts in self._arms.items()},
            "late": self._late,
            "kept": self._kept,
            "shadowed": self._shadowed,
            "agreed": self._agreed,
            "shadow_s": self._shadow_s,
            "told": self.told.plain(),
            "retried": self.retried,
            "labelled": self.labelled,
            "withdrawn": self.withdrawn,
            "displaced": self._load.displaced,
            "turned_away": self._load.turned_away,
        }

    def add(self, plain: Mapping[str, Any]) -> None:
        """Count what another process has counted."""
        for arm, attempts in plain["arms"].items():
            self._arms[arm].add(attempts)
        self._late.update(plain["late"])
        self._kept.update(plain["kept"])
        self._shadowed.update(plain["shadowed"])
        self._agreed.update(plain["agreed"])
        self._shadow_s += plain["shadow_s"]
        self.told.add(plain["told"])
        self.retried += plain["retried"]
        self.labelled += plain["labelled"]
        self.withdrawn += plain["withdrawn"]
        self._load.displaced += plain["displaced"]
        self._load.turned_away += plain["turned_away"]

    def text(self) -> bytes:
        """The exposition."""
        registry = CollectorRegistry()
        registry.register(self)
        return generate_latest(registry)

    def collect(self) -> Iterator[Metric]:
        """What Prometheus' client asks for."""
        requests = CounterMetricFamily("shipway_gateway_requests", "Attempts by arm", labels=["arm", "outcome"])
        for arm, attempts in sorted(self._arms.items()):
            for outcome, count in sorted(attempts.outcomes.items()):
                requests.add_metric([arm, outcome], count)
        yield requests
        by_arm = {arm: attempts.times for arm, attempts in self._arms.items()}
        yield histogram("shipway_gateway_latency_seconds", "Time to the last byte", by_arm)
        yield _counted("shipway_gateway_late_failures", "Streams broken off past the time", "arm", self._late)
        yield _counted("shipway_gateway_record_requests", "Sampled requests by outcome", "outcome", self._kept)
        yield _counted("shipway_gateway_shadow_requests", "Copies to the canary", "outcome", self._shadowed)
        yield _counted("shipway_gateway_shadow_pairs", "Their answers beside stable's", "answer", self._agreed)
        yield CounterMetricFamily("shipway_gateway_shadow_seconds", "Time to their last byte", value=self._shadow_s)
        yield CounterMetricFamily("shipway_gateway_retries", "Canary failures saved by stable", value=self.retried)
        yield CounterMetricFamily("shipway_gateway_labels", "Labels of earlier answers", value=self.labelled)
        yield CounterMetricFamily("shipway_gateway_streams_withdrawn", "Streams cut off", value=self.withdrawn)
        displaced, turned_away = self._load.displaced, self._load.turned_away
        yield CounterMetricFamily("shipway_gateway_connections_displaced", "Unused, closed for others", value=displaced)
        yield CounterMetricFamily("shipway_gateway_connections_turned_away", "One too many", value=turned_away)
        yield from self.told.collect()
        yield GaugeMetricFamily("shipway_gateway_canary_share_ratio", "The canary's share", value=self.share)
        left_s = self.lease_left_s
        yield GaugeMetricFamily("shipway_gateway_lease_left_seconds", "Until the share is lost; 0: none", value=left_s)


def _counted(name: str, what: str, label: str, counts: Mapping[str, int]) -> Metric:
    """One counter for each value of a label."""
    family = CounterMetricFamily(name, what, labels=[label])
    for value, count in sorted(counts.items()):
        family.add_metric([value], count)
    return family
