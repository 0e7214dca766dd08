"""How do a gateway and a server behave, as the spec asked for it?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

TOLERANCE = 0.05
"""The distance between two numbers, or two lists of numbers, over the length of the longer one."""


@dataclass(frozen=True)
class Recording:
    """Which requests are kept, and without which values."""

    share: float = 0.1
    keep: int = 1000
    redact: tuple[str, ...] = ()
    max_body_bytes: int = 65_536

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any] | None) -> Recording | None:
        """The recording of plain JSON data; None where nothing is recorded."""
        return cls(**{**raw, "redact": tuple(raw.get("redact", ()))}) if raw else None


@dataclass(frozen=True)
class Shadowing:
    """Which part of stable's requests the canary is asked, too, and how many of them at one time by one process.

    Numbers of both answers are the same within `tolerance`.
    """

    pct: float = 10.0
    max_in_flight: int = 16
    tolerance: float = TOLERANCE

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any] | None) -> Shadowing | None:
        """The shadowing of plain JSON data; None where there is none."""
        return cls(**raw) if raw else None
