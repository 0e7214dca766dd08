"""How do a gateway and a server behave, as the spec asked for it?

Made once from the spec, carried whole by the records, and handed to the process as a file. In a record the settings
stand among its other keys, as every Shipway has written them, so that an older one reads what a newer one wrote.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, Self, get_args

FORM = 5
"""The form of a settings file. A key that is added counts it up, and names it: `field(metadata={"since": 2}, …)`."""

TOLERANCE = 0.05
"""The distance between two numbers, or two lists of numbers, over the length of the longer one."""


OwnKind = Literal["email", "phone", "card", "iban", "ip"]
ForeignKind = Literal[
    "CREDIT_CARD",
    "CRYPTO",
    "DATE_TIME",
    "EMAIL_ADDRESS",
    "IBAN_CODE",
    "IP_ADDRESS",
    "MAC_ADDRESS",
    "MEDICAL_LICENSE",
    "PHONE_NUMBER",
    "UK_NHS",
    "URL",
    "US_BANK_NUMBER",
    "US_DRIVER_LICENSE",
    "US_ITIN",
    "US_PASSPORT",
    "US_SSN",
    "UUID",
]
"""What presidio 2.2 recognises by form, in its own words; people, places and organisations it does not."""

OWN_KINDS: tuple[str, ...] = get_args(OwnKind)
"""What is recognised in texts and not kept, wherever nothing else is said."""


@dataclass(frozen=True)
class Recording:
    """Which requests are kept, without which values, and for how long.

    `redact` names fields; `recognise` names kinds of what is personal wherever it stands, `patterns` one's own by name.
    """

    share: float = 0.1
    keep: int = 1000
    redact: tuple[str, ...] = ()
    max_body_bytes: int = 65_536
    recognise: tuple[str, ...] = field(default=OWN_KINDS, metadata={"since": 5})
    patterns: Mapping[str, str] = field(default_factory=dict, metadata={"since": 5})
    retain_s: float = field(default=30 * 86_400.0, metadata={"since": 5})

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any] | None) -> Recording | None:
        """The recording of plain JSON data; None where nothing is recorded."""
        if not raw:
            return None
        return cls(**{**raw, **{name: tuple(raw[name]) for name in ("redact", "recognise") if name in raw}})


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


@dataclass(frozen=True)
class Promise:
    """What is promised of an answer, in seconds: a request meets it, or not. None promises nothing.

    The time to the first token, the time per output token after it, and the time to the end.
    """

    ttft_s: float | None = None
    tpot_s: float | None = None
    e2e_s: float | None = None


@dataclass(frozen=True)
class Objective(Promise):
    """What a service promises; a request whose attribute `by` names one of the `classes` is promised that instead."""

    by: str = field(default="", metadata={"since": 4})
    classes: Mapping[str, Promise] = field(default_factory=dict, metadata={"since": 4})

    def of(self, value: str) -> Promise:
        """What is promised to a request with this value of the attribute."""
        return self.classes.get(value, self)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any] | None) -> Objective | None:
        """The objective of plain JSON data; None where nothing is promised."""
        if not raw:
            return None
        classes = {name: Promise(**one) for name, one in raw.get("classes", {}).items()}
        return cls(**{**raw, "classes": classes})


@dataclass(frozen=True)
class Price:
    """Of a million tokens that came in, were in a cache, or were made; in money of whatever kind."""

    input: float
    cached: float
    output: float

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any] | None) -> Price | None:
        """The price of plain JSON data; None where there is none."""
        return cls(**raw) if raw else None


@dataclass(frozen=True)
class GatewaySettings:
    """How a gateway behaves; `router` names the program that it is.

    It counts by the attributes `slices`, takes labels for `label_s` and keeps users by `assign`. What is asked at a
    path of `idempotent` may be asked twice. Answers may go on for `drain_s` when it ends; `convicted_streams` says
    whether those of a canary sent home may, too. Its counts are its users' where `metrics` is public; `arm_header` says
    whether they hear which arm answered, and which version.
    """

    router: Literal["shipway", "haproxy", "envoy"] = "shipway"
    workers: int = 1
    timeout_s: float = 10.0
    slices: tuple[str, ...] = ()
    label_s: float = 900.0
    assign: str = ""
    record: Recording | None = None
    """Which requests are kept for replays; None keeps none."""
    drain_s: float = 10.0
    convicted_streams: Literal["finish", "cut"] = "finish"
    idempotent: tuple[str, ...] = ()
    shadow: Shadowing | None = None
    """Which requests of stable's the canary is asked, too."""
    metrics: Literal["private", "public"] = field(default="private", metadata={"since": 2})
    arm_header: bool = field(default=True, metadata={"since": 2})
    api: Literal["inference", "openai"] = field(default="inference", metadata={"since": 3})
    """What its arms speak: whether answers are followed as those of a language model."""
    objective: Objective | None = field(default=None, metadata={"since": 3})
    borderline: Literal["pass", "refuse"] = field(default="pass", metadata={"since": 4})
    """What becomes of requests that engines answer differently."""
    price: Price | None = field(default=None, metadata={"since": 5})
    tenant: str = field(default="", metadata={"since": 5})
    """The attribute of a request that says for whom it is; tokens are counted by it."""

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """The settings among the keys of a record; what is not said is usual."""
        said = {name: raw[name] for name in keys_of(cls) if name in raw}
        lists = {name: tuple(said.get(name, ())) for name in ("slices", "idempotent")}
        parts = {
            "record": Recording.from_dict(said.get("record")),
            "shadow": Shadowing.from_dict(said.get("shadow")),
            "objective": Objective.from_dict(said.get("objective")),
            "price": Price.from_dict(said.get("price")),
        }
        return cls(**{**said, **lists, **parts})


@dataclass(frozen=True)
class ServerSettings:
    """How a server behaves, and what it may take: 0 and None are no limit. Its answers may go on for `drain_s`.

    One that outgrows `memory_mb` is ended; `pids` limits the processes and threads of a container.
    """

    cpus: float | None = None
    memory_mb: int = 0
    pids: int = 0
    drain_s: float = GatewaySettings.drain_s
    engine_at: str = field(default="", metadata={"since": 4})
    """Where an engine lives that was brought: the Python of its environment, or a URL. "" for Shipway's own engines."""

    @property
    def threads(self) -> int:
        """Of one inference; 0 lets the engine choose."""
        return 1 if self.cpus is None else max(1, round(self.cpus)) if self.cpus else 0

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """The settings among the keys of a record; what is not said is usual."""
        return cls(**{name: raw[name] for name in keys_of(cls) if name in raw})


def keys_of(kind: type[Any]) -> tuple[str, ...]:
    """What is written of such a record?"""
    return tuple(field.name for field in fields(kind))


LATER = {f.name: f.default for kind in (GatewaySettings, ServerSettings) for f in fields(kind) if "since" in f.metadata}
"""What was added since the first form, and what is usual of it."""


def readable_by_older(said: Mapping[str, Any]) -> dict[str, Any]:
    """What is said of settings, without what a Shipway that does not know it would do anyway."""
    found = {key: value for key, value in said.items() if key not in LATER or value != LATER[key]}
    if found.get("record"):
        usual = asdict(Recording())
        later = {f.name for f in fields(Recording) if "since" in f.metadata}
        record = found["record"].items()
        found["record"] = {key: value for key, value in record if key not in later or value != usual[key]}
    return found


def flat(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record's plain data with its settings among its other keys."""
    own = {key: value for key, value in record.items() if key != "settings"}
    return {**own, **readable_by_older(record["settings"])}


def without(raw: Mapping[str, Any], kind: type[Any]) -> dict[str, Any]:
    """What of a flat record is not said by settings of this kind?"""
    own = keys_of(kind)
    return {key: value for key, value in raw.items() if key not in own}
