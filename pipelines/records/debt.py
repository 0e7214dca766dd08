"""What should the registry be told, and has not been told yet?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Debt:
    """An alias that should name a version, or tags that it should have; whoever pays knows nothing else of it.

    `made` is the version's registration. An alias with `expected` is moved from one of these versions only.
    Times are UTC seconds.
    """

    release_id: str
    model: str
    version: int
    made: str = ""
    alias: str = ""
    expected: tuple[int | None, ...] | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    tries: int = 0
    since_s: float = 0.0
    next_s: float = 0.0
    why: str = ""

    @property
    def about(self) -> tuple[str, str]:
        """What it is about: a newer debt of the same takes its place."""
        return self.model, f"@{self.alias}" if self.alias else f"/{self.version}"

    def named(self) -> str:
        """The same for a person."""
        return f"{self.model}@{self.alias} → {self.version}" if self.alias else f"tags of {self.model}/{self.version}"

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Debt:
        """The debt of `dataclasses.asdict`, through JSON."""
        expected = raw.get("expected")
        return cls(**{**raw, "expected": None if expected is None else tuple(expected)})

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return asdict(self)
