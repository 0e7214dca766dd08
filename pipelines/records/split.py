"""Who gets which share, until when, and who may change it?

The wire form is the one of `PUT /split` on the gateway's admin socket. `generation` is `(fence, n)`: the fence is the
token of the service's lock, so that a writer that lost the lock can never win again; n counts writes under one fence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

Generation = tuple[int, int]

ADOPTED = "external:"
"""How the digest of an endpoint begins that runs already, and may be elsewhere: it was declared by who adopted it."""


@dataclass(frozen=True)
class Arm:
    """One version and where its replicas listen."""

    digest: str
    urls: tuple[str, ...]
    ca_file: str = ""
    """The authorities that an `https://` arm is checked by; "" for the machine's own."""

    def as_dict(self) -> dict[str, Any]:
        """`url` is the first replica; `urls` names them all."""
        trusted = {"ca_file": self.ca_file} if self.ca_file else {}
        return {"digest": self.digest, "url": self.urls[0], "urls": list(self.urls), **trusted}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Arm:
        """The arm of a wire form, which has `url`, `urls` or both."""
        digest, urls = str(raw["digest"]), tuple(str(u) for u in raw.get("urls") or [raw["url"]])
        if not all(_may_be_asked(url, is_adopted=digest.startswith(ADOPTED)) for url in urls):
            raise ValueError(f"an arm's address must be on loopback: {urls}")
        return cls(digest, urls, str(raw.get("ca_file", "")))


def _may_be_asked(url: str, *, is_adopted: bool) -> bool:
    """Whether users' requests may go there: to this machine, or where a person adopted an endpoint."""
    parts = urlsplit(url)
    port = parts.port  # ValueError where it is none
    if parts.username is not None or parts.password is not None:
        return False
    if is_adopted:
        return parts.scheme in {"http", "https"} and bool(parts.hostname)
    return parts.scheme == "http" and parts.hostname in {"127.0.0.1", "::1"} and bool(port)


@dataclass(frozen=True)
class TrafficSplit:
    """The whole truth about a service's traffic at one generation.

    `stable` None means that nothing serves yet: the gateway answers 503 with Retry-After. `canary_pct` is in [0, 100];
    `lease_s` is how long the canary keeps its share without a renewal (None only without a canary). `reason` is the
    release of the canary, or why there is none.
    """

    generation: Generation = (0, 0)
    stable: Arm | None = None
    canary: Arm | None = None
    canary_pct: float = 0.0
    lease_s: float | None = None
    reason: str = ""
    boot: str = ""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.canary_pct) and 0 <= self.canary_pct <= 100):
            raise ValueError(f"canary_pct must be in [0, 100], not {self.canary_pct}")
        if self.canary is None and (self.canary_pct or self.lease_s):
            raise ValueError("a share or a lease needs a canary")
        if self.canary is not None and not (self.lease_s and math.isfinite(self.lease_s) and self.lease_s > 0):
            raise ValueError("a canary's share is a lease: lease_s must be positive")
        if self.canary is not None and self.stable is None:
            raise ValueError("a canary needs a stable arm to go home to")

    @property
    def routes(self) -> tuple[Arm | None, Arm | None, float]:
        """What decides where a request goes; a renewal leaves it as it is."""
        return self.stable, self.canary, self.canary_pct

    def is_home_of(self, other: TrafficSplit) -> bool:
        """Whether this is all traffic at the stable arm that `other` has."""
        return self.canary is None and self.stable == other.stable

    def shared(self, canary: Arm, pct: float, lease_s: float) -> TrafficSplit:
        """The same split with `pct` percent at a canary, for as long as this lease."""
        return replace(self, canary=canary, canary_pct=pct, lease_s=lease_s)

    def home(self, generation: Generation, reason: str) -> TrafficSplit:
        """The same split with all traffic at stable."""
        return replace(self, generation=generation, canary=None, canary_pct=0.0, lease_s=None, reason=reason)

    def as_dict(self) -> dict[str, Any]:
        """The wire form."""
        canary = {**self.canary.as_dict(), "pct": self.canary_pct} if self.canary else None
        return {
            "generation": list(self.generation),
            "stable": self.stable.as_dict() if self.stable else None,
            "canary": canary,
            "lease_s": self.lease_s,
            "reason": self.reason,
            "boot": self.boot,
        }

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> TrafficSplit:
        """The split of a wire form. Raises ValueError, KeyError or TypeError where it is not one."""
        fence, n = raw["generation"]
        stable, canary = raw.get("stable"), raw.get("canary")
        return cls(
            generation=(int(fence), int(n)),
            stable=Arm.from_dict(stable) if stable else None,
            canary=Arm.from_dict(canary) if canary else None,
            canary_pct=float(canary["pct"]) if canary else 0.0,
            lease_s=float(raw["lease_s"]) if canary and raw.get("lease_s") is not None else None,
            reason=str(raw.get("reason", "")),
            boot=str(raw.get("boot", "")),
        )
