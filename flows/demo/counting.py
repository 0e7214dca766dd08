"""What came back so far, as users saw it: answers and failures by version, and how long everything took."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Received:
    """What became of one request: by which version ("none" where nobody answered), in how long, and whether it failed.

    Of a language model's answer: when its first token came, if one did, and how many there were.
    """

    version: str
    ms: float
    failed: bool
    first_token_ms: float | None = None
    tokens: int = 0


@dataclass
class Count:
    """Everything that was got."""

    started_at_s: float
    requests: int = 0
    failed: int = 0
    by_version: Counter[str] = field(default_factory=Counter)
    failed_by_version: Counter[str] = field(default_factory=Counter)
    last_answer_s: dict[str, float] = field(default_factory=dict)
    latencies_ms: list[float] = field(default_factory=list)
    seconds: dict[int, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    first_tokens_ms: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    tokens_by_version: Counter[str] = field(default_factory=Counter)

    def add(self, got: Received) -> None:
        """One more."""
        self.requests += 1
        self.by_version[got.version] += 1
        self.latencies_ms.append(got.ms)
        self.last_answer_s[got.version] = time.time()
        second = self.seconds[int(time.time() - self.started_at_s)]
        second[got.version] += 1
        if got.failed:
            self.failed += 1
            self.failed_by_version[got.version] += 1
            second["failed"] += 1
        if got.first_token_ms is not None:
            self.first_tokens_ms[got.version].append(got.first_token_ms)
            self.tokens_by_version[got.version] += got.tokens

    def report(self) -> dict[str, Any]:
        """Everything, as plain data; times are seconds since `started_at_s` (UTC). Tokens where there were some."""
        timeline = [
            {"t_s": t, "failed": c["failed"], "by_version": {v: n for v, n in c.items() if v != "failed"}}
            for t, c in sorted(self.seconds.items())
        ]
        return {
            "requests": self.requests,
            "failed": self.failed,
            "failed_by_version": dict(self.failed_by_version),
            "by_version": dict(self.by_version),
            **_quantiles(self.latencies_ms),
            **(self._tokens() if self.first_tokens_ms else {}),
            "started_at_s": self.started_at_s,
            "last_answer_s": self.last_answer_s,
            "timeline": timeline,
        }

    def _tokens(self) -> dict[str, Any]:
        every = [ms for times in self.first_tokens_ms.values() for ms in times]
        return {
            "first_token": _quantiles(every),
            "first_token_by_version": {version: _quantiles(times) for version, times in self.first_tokens_ms.items()},
            "tokens": self.tokens_by_version.total(),
            "tokens_by_version": dict(self.tokens_by_version),
        }

    def sentence(self) -> str:
        """The same in a line."""
        versions = ", ".join(f"v{v} {n}" for v, n in sorted(self.by_version.items()))
        said = f"{self.requests} requests, {self.failed} failed; {versions}"
        if not self.first_tokens_ms:
            return said
        found = self._tokens()
        first = found["first_token"]
        return f"{said}; first token {first['p50_ms']} ms (p95 {first['p95_ms']}), {found['tokens']:,} tokens"


def _quantiles(times_ms: Sequence[float]) -> dict[str, float]:
    ordered = sorted(times_ms) or [0.0]
    return {
        "p50_ms": round(ordered[len(ordered) // 2], 3),
        "p95_ms": round(ordered[int(0.95 * (len(ordered) - 1))], 3),
    }
