"""What does Prometheus learn of streams and of what language models write?"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric

from pipelines.serving.evidence.intervals import Story
from pipelines.serving.evidence.times import Times, histogram

TIMED = {
    "first_token": "Time to the first token, or to the first event of another stream",
    "between_tokens": "Time per output token after the first, or between events",
}
BUCKETS_S = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.4, 0.8, 1.5, 3.0, 6.0, 15.0, 30.0)

FINISHES = frozenset({"stop", "length", "tool_calls", "content_filter"})
"""Reasons by their name; an engine may have others."""


class ToldCounters:
    """Counters of one gateway process, by arm."""

    def __init__(self) -> None:
        self._times: defaultdict[tuple[str, str], Times] = defaultdict(partial(Times, BUCKETS_S))
        self._tokens: Counter[tuple[str, str]] = Counter()
        self._finishes: Counter[tuple[str, str]] = Counter()
        self._asked: Counter[tuple[str, str]] = Counter()
        self._bad: Counter[tuple[str, str]] = Counter()

    def count(self, arm: str, story: Story) -> None:
        """One answer."""
        for name, ms in story.timings_ms.items():
            self._times[name, arm].count(ms / 1000)
        for kind, n in story.tokens.items():
            self._tokens[arm, kind] += n
        for reason in story.finish:
            self._finishes[arm, reason if reason in FINISHES else "other"] += 1
        for what, is_bad in story.is_bad.items():
            self._asked[arm, what] += 1
            self._bad[arm, what] += is_bad

    def plain(self) -> dict[str, Any]:
        """As plain data."""
        times = [[*key, found.buckets, found.seconds] for key, found in self._times.items()]
        return {"times": times, **{name: [[*key, n] for key, n in counts.items()] for name, counts in self._counters()}}

    def add(self, plain: Mapping[str, Any]) -> None:
        """Count what another process has counted."""
        for name, arm, buckets, seconds in plain["times"]:
            self._times[name, arm].add(buckets, seconds)
        for name, counts in self._counters():
            for arm, what, n in plain[name]:
                counts[arm, what] += n

    def _counters(self) -> tuple[tuple[str, Counter[tuple[str, str]]], ...]:
        counters = self._tokens, self._finishes, self._asked, self._bad
        return tuple(zip(("tokens", "finishes", "asked", "bad"), counters, strict=True))

    def collect(self) -> Iterator[Metric]:
        """What Prometheus' client asks for; nothing of what no answer has had."""
        for name, about in TIMED.items():
            by_arm = {arm: times for (timed, arm), times in self._times.items() if timed == name}
            if by_arm:
                yield histogram(f"shipway_gateway_{name}_seconds", about, by_arm)
        yield from _counted("tokens", "Tokens by arm, as engines count them", "kind", self._tokens)
        yield from _counted("finishes", "Choices by why they ended", "reason", self._finishes)
        yield from _counted("answers_asked", "Answers that could be bad so", "what", self._asked)
        yield from _counted("answers_bad", "Answers that were", "what", self._bad)


def _counted(name: str, about: str, label: str, counts: Mapping[tuple[str, str], int]) -> Iterator[Metric]:
    """One counter for each arm and value of a label."""
    family = CounterMetricFamily(f"shipway_gateway_{name}", about, labels=["arm", label])
    for key, n in sorted(counts.items()):
        family.add_metric(list(key), n)
    if counts:
        yield family
