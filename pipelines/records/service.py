"""What should serve between releases?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

from pipelines.records.debt import Debt
from pipelines.records.settings import GatewaySettings, ServerSettings, flat, without
from pipelines.records.split import Rewrite

ARMS = ("stable", "previous", "candidate")


@dataclass(frozen=True)
class Deployment:
    """Bytes that serve or may serve: a verified bundle, where it came from, and its container, if any."""

    digest: str
    bundle: str
    model: str
    version: int
    release_id: str
    config_digest: str = ""
    artifact_digest: str = ""
    source_version: int | None = None
    since_s: float = 0.0
    keep_until_s: float | None = None
    image: str = ""
    settings: ServerSettings = field(default_factory=ServerSettings)
    """How its servers behave; their `cpus` are the service's."""
    url: str = ""
    """Where an adopted endpoint answers, which Shipway neither starts nor ends; it has no bundle."""
    probe: str = ""
    """The path that tells whether it does."""
    ca_file: str = ""
    """The authorities that its certificate is checked by; "" for the machine's own."""
    made: str = ""
    """Which registration `version` is, and `source_version`: a model that was made again counts from 1."""
    source_made: str = ""
    alias: str = "champion"
    """The alias that names it in the registry while it is stable."""
    rewrite: Rewrite | None = None
    """What is added to requests on their way to it."""

    @property
    def identity(self) -> str:
        """What a quarantine knows it by, whatever it was compressed to."""
        return self.artifact_digest or self.digest

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        plain = flat(asdict(self))
        del plain["cpus"], plain["rewrite"]
        return {**plain, "rewrite": self.rewrite.as_dict()} if self.rewrite is not None else plain

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Deployment:
        """The deployment of `as_dict`. TypeError where it is none."""
        own = {**without(raw, ServerSettings), "rewrite": Rewrite.from_dict(raw.get("rewrite"))}
        return cls(**own, settings=ServerSettings.from_dict(raw))


@dataclass(frozen=True)
class Service:
    """Which deployment is stable, which one is parked, which one is being tried, and how they run.

    `version` counts saves (compare-and-set). `wanted` False means `shipway down` took it down.
    `quarantined` maps the digests of what was convicted, or taken away by a person, to the reason.
    """

    name: str
    version: int = 0
    model: str = ""
    port: int = 0
    replicas: int = 1
    cpus: float | None = None
    settings: GatewaySettings = field(default_factory=GatewaySettings)
    """How its gateway behaves."""
    retain_s: float = 86400.0
    wanted: bool = True
    stable: Deployment | None = None
    previous: Deployment | None = None
    candidate: Deployment | None = None
    quarantined: Mapping[str, str] = field(default_factory=dict)
    owed: tuple[Debt, ...] = ()
    """What the registry has not been told yet."""

    def changed(self, **fields: Any) -> Service:
        """The service with some fields changed (the version moves when the ledger saves it)."""
        return replace(self, **fields)

    def deployments(self, now_s: float) -> tuple[Deployment, ...]:
        """The deployments that must be running now; a parked one counts until its time is over."""
        kept = [d for d in (self.previous, self.candidate) if d and (d.keep_until_s is None or d.keep_until_s > now_s)]
        named = {d.digest: d for d in (*kept, *([self.stable] if self.stable else []))}
        return tuple(named.values()) if self.wanted else ()

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        arms = {name: arm.as_dict() for name in ARMS if (arm := getattr(self, name)) is not None}
        return {**flat(asdict(self)), **arms}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Service:
        """The service of `as_dict`."""
        arms = {name: Deployment.from_dict(raw[name]) if raw.get(name) else None for name in ARMS}
        owed = tuple(Debt.from_dict(debt) for debt in raw.get("owed", ()))
        own = without(raw, GatewaySettings)
        return cls(**{**own, **arms, "owed": owed}, settings=GatewaySettings.from_dict(raw))


class Services(Protocol):
    """What should serve."""

    def load(self, name: str) -> Service:
        """The service. NotFound names the known ones; LedgerBroken where its record cannot be read."""
        ...

    def save(self, service: Service) -> Service:
        """Compare-and-set on `service.version` (0 creates); returns it at version + 1. StaleWriter on conflict."""
        ...

    def names(self) -> tuple[str, ...]:
        """All services."""
        ...

    def remove(self, service: Service) -> None:
        """Forget it, at this version of its record. StaleWriter where it was changed meanwhile."""
        ...
