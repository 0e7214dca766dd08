"""What does Prometheus learn of streams and of what language models write?"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric

from evals.signals.counting import NANO
from pipelines.serving.evidence.intervals import Story
from pipelines.serving.evidence.times import Times, histogram

TIMED = {
    "first_token": "Time to the first token, or to the first event of another stream",
    "between_tokens": "Time per output token after the first, or between events",
}
BUCKETS_S = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.4, 0.8, 1.5, 3.0, 6.0, 15.0, 30.0)

FINISHES = frozenset({"stop", "length", "tool_calls", "content_filter"})
"""Reasons by their name; an engine may have others."""


_Table = Counter[tuple[str, ...]]
"""By arm, and by what else."""


class ToldCounters:
    """Counters of one gateway process, by arm."""

    def __init__(self) -> None:
        self._times: defaultdict[tuple[str, str], Times] = defaultdict(partial(Times, BUCKETS_S))
        tables: tuple[_Table, ...] = tuple(Counter() for _ in range(8))
        self._tokens, self._finishes, self._asked, self._bad, *later = tables
        self._of_classes, self._of_tenants, self._nano, self._priced = later
        names = ("tokens", "finishes", "asked", "bad", "of_classes", "of_tenants", "nano", "priced")
        self._tables = dict(zip(names, tables, strict=True))

    def count(self, arm: str, story: Story) -> None:
        """One answer."""
        for name, ms in story.timings_ms.items():
            self._times[name, arm].count(ms / 1000)
        for kind, n in story.tokens.items():
            self._tokens[arm, kind] += n
            if story.traffic:
                self._of_classes[arm, story.traffic, kind] += n
            if story.tenant:
                self._of_tenants[arm, story.tenant, kind] += n
        for what, nano in story.costs.items():
            self._nano[arm, what] += round(nano)
            self._priced[arm, what] += 1
        for reason in story.finish:
            self._finishes[arm, reason if reason in FINISHES else "other"] += 1
        for what, is_bad in story.is_bad.items():
            self._asked[arm, what] += 1
            self._bad[arm, what] += is_bad

    def plain(self) -> dict[str, Any]:
        """As plain data."""
        times = [[*key, found.buckets, found.seconds] for key, found in self._times.items()]
        return {
            "times": times,
            **{name: [[*key, n] for key, n in counts.items()] for name, counts in self._tables.items()},
        }

    def add(self, plain: Mapping[str, Any]) -> None:
        """Count what another process has counted."""
        for name, arm, buckets, seconds in plain["times"]:
            self._times[name, arm].add(buckets, seconds)
        for name, counts in self._tables.items():
            for *key, n in plain.get(name, ()):
                counts[tuple(key)] += n

    def collect(self) -> Iterator[Metric]:
        """What Prometheus' client asks for; nothing of what no answer has had."""
        for name, about in TIMED.items():
            by_arm = {arm: times for (timed, arm), times in self._times.items() if timed == name}
            if by_arm:
                yield histogram(f"shipway_gateway_{name}_seconds", about, by_arm)
        yield from _counted("tokens", "Tokens by arm, as engines count them", "kind", self._tokens)
        of_classes = "Tokens by class of traffic"
        yield from _counted("class_tokens", of_classes, ("class", "kind"), self._of_classes)
        yield from _counted("tenant_tokens", "Tokens by tenant", ("tenant", "kind"), self._of_tenants)
        yield from _counted("finishes", "Choices by why they ended", "reason", self._finishes)
        yield from _counted("answers_asked", "Answers that could be bad so", "what", self._asked)
        yield from _counted("answers_bad", "Answers that were", "what", self._bad)
        yield from _counted("answers_priced", "Answers whose cost is known", "what", self._priced)
        money = {key: nano / NANO for key, nano in self._nano.items()}
        yield from _counted("cost", "What they cost, by serve.price, without and with its cache", "what", money)


def _counted(
    name: str, about: str, labels: str | tuple[str, ...], counts: Mapping[tuple[str, ...], float]
) -> Iterator[Metric]:
    """One counter for each arm and value of the labels."""
    named = (labels,) if isinstance(labels, str) else labels
    family = CounterMetricFamily(f"shipway_gateway_{name}", about, labels=["arm", *named])
    for key, n in sorted(counts.items()):
        family.add_metric(list(key), n)
    if counts:
        yield family
