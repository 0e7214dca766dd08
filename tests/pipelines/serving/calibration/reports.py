"""What does a load tool report of streams, and what should it, by its own definitions, of what the meter says?

Two tools call different things a time per token (docs/llm.md). Each is held to the meter's figures in the relation that
its definition has, so that a meter that is wrong agrees with neither.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

FIRST_LATE_MS = 10.0
"""A tool counts from before it connects until its own code has seen the event: later than the gateway, by so much."""

FIRST_EARLY_MS = 2.0
"""Its median may lie below the meter's mean."""

EACH_OFF_MS = 0.5
"""Definitions differ by 2.5 ms and more, and a token too many or too few makes 0.6."""


class Figures(NamedTuple):
    """What a meter says of some streams: tokens of each, time to the first one, time per output token."""

    tokens: float
    first_ms: float
    each_ms: float


@dataclass(frozen=True)
class Report:
    """The medians that a tool reports.

    `counted` is how many tokens a stream had, `itl_ms` its time between tokens, and `tpot_ms` what it calls time per
    output token where that is something else.
    """

    tool: str
    version: str
    streams: int
    counted: float
    first_ms: float
    itl_ms: float
    tpot_ms: float | None = None

    def disagreements(self, by: Figures, counted: int) -> list[str]:
        """Where it is not what its definitions make of the meter's figures, if it counts so many tokens."""
        all_ms = by.each_ms * (by.tokens - 1)
        told = {
            "tokens": (self.counted, counted, 0.0, 0.0),
            "time to first token": (self.first_ms, by.first_ms, FIRST_EARLY_MS, FIRST_LATE_MS),
            "time between tokens": (self.itl_ms, all_ms / (self.counted - 1), EACH_OFF_MS, EACH_OFF_MS),
        }
        if self.tpot_ms is not None:
            mean_ms = (by.first_ms + all_ms) / by.tokens
            told["time per token"] = (self.tpot_ms, mean_ms, EACH_OFF_MS, EACH_OFF_MS + FIRST_LATE_MS / by.tokens)
        return [
            f"{self.tool} says a {name} of {is_ms:.2f}, where {should_be:.2f} would be due"
            for name, (is_ms, should_be, below, above) in told.items()
            if not should_be - below <= is_ms <= should_be + above
        ]

    def write(self, path: Path) -> None:
        """Keep it."""
        path.write_text(json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def read(cls, path: Path) -> Report:
        """One that was kept."""
        return cls(**json.loads(path.read_text()))


def of_guidellm(said: Mapping[str, Any]) -> Report:
    """What guidellm wrote."""
    metrics = said["benchmarks"][0]["metrics"]

    def median(name: str) -> float:
        return round(metrics[name]["successful"]["median"], 3)

    return Report(
        "guidellm",
        said["metadata"]["guidellm_version"],
        metrics["request_totals"]["successful"],
        median("output_token_count"),
        median("time_to_first_token_ms"),
        median("inter_token_latency_ms"),
        median("time_per_output_token_ms"),
    )


def of_aiperf(said: Mapping[str, Any]) -> Report:
    """What aiperf wrote."""

    def median(name: str) -> float:
        return round(said[name]["p50"], 3)

    return Report(
        "aiperf",
        said["aiperf_version"],
        int(said["request_count"]["avg"]),
        median("output_sequence_length"),
        median("time_to_first_token"),
        median("inter_token_latency"),
    )
