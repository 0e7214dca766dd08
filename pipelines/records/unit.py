"""What must be running, and what is seen of it?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pipelines.records.settings import GatewaySettings, ServerSettings, flat, keys_of
from pipelines.records.split import Rewrite


@dataclass(frozen=True)
class Unit:
    """One long-lived process that must be running: a gateway, or one replica of one bundle.

    `bundle` and `digest` are empty for a gateway. `port` 0 lets the runtime choose; it stays the same over restarts.
    One with an `image` runs as a container. It behaves as its `settings` say; TypeError where they are of another kind.
    """

    name: str
    kind: str
    service: str
    digest: str = ""
    bundle: str = ""
    port: int = 0
    release_id: str = ""
    version: int = 0
    image: str = ""
    settings: GatewaySettings | ServerSettings = field(default_factory=ServerSettings)
    url: str = ""
    """Of kind `external`: where it answers, and at which path `probe`; nobody starts or ends it."""
    probe: str = ""
    ca_file: str = ""
    """The authorities that its certificate is checked by, where that is not left to the machine's."""
    rewrite: Rewrite | None = None
    """What is added to requests on their way to it."""

    def __post_init__(self) -> None:
        if isinstance(self.settings, GatewaySettings) != (self.kind == "gateway"):
            raise TypeError(f"a unit of kind {self.kind!r} has no {type(self.settings).__name__}")

    @property
    def router(self) -> str:
        """Which program splits the traffic? "" for what is no gateway."""
        return self.settings.router if isinstance(self.settings, GatewaySettings) else ""

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        own = {key: value for key, value in flat(asdict(self)).items() if key != "rewrite"}
        return {**own, "rewrite": self.rewrite.as_dict()} if self.rewrite is not None else own

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Unit:
        """The unit of plain JSON data. TypeError where it is none; what a newer Shipway added is not ours to judge."""
        kind = GatewaySettings if raw.get("kind") == "gateway" else ServerSettings
        own = {key: raw[key] for key in keys_of(cls) if key in raw and key != "rewrite"}
        return cls(**own, rewrite=Rewrite.from_dict(raw.get("rewrite")), settings=kind.from_dict(raw))


@dataclass(frozen=True)
class UnitStatus:
    """What is seen of a unit: `state` is absent, starting, ready or failed."""

    state: str = "absent"
    url: str = ""
    pid: int | None = None
    restarts: int = 0
    rss_mb: float | None = None
    reason: str = ""
