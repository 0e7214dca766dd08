"""How many more requests, and how long, until something is proven?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

FADES = 0.98
"""What a stratum counts after each later one: the last fifty or so say how fast evidence grows now."""


@dataclass(frozen=True)
class Pace:
    """Canary requests, seconds, and what log evidence gained of late, by name."""

    requests: float = 0.0
    seconds: float = 0.0
    gained: Mapping[str, float] = field(default_factory=dict)

    def after(self, requests: int, seconds: float, gained: Mapping[str, float]) -> Pace:
        """With one more stratum."""
        together = {name: FADES * self.gained.get(name, 0.0) + more for name, more in gained.items()}
        return Pace(FADES * self.requests + requests, FADES * self.seconds + seconds, together)

    def requests_until(self, name: str, missing: float) -> int | None:
        """Canary requests until log evidence has grown by `missing`, if it goes on like this; None if it never does."""
        if missing <= 0:
            return 0
        growing = self.gained.get(name, 0.0)
        return math.ceil(missing * self.requests / growing) if growing > 1e-9 and self.requests else None

    def seconds_until(self, requests: int | None) -> float | None:
        """Seconds until so many have come."""
        if requests is None or not self.requests:
            return None
        return requests * self.seconds / self.requests

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Pace:
        """The pace of `as_dict`."""
        return cls(float(raw["requests"]), float(raw["seconds"]), dict(raw["gained"]))
