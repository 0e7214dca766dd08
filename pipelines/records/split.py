"""Who gets which share, until when, and who may change it?

The wire form is the one of `PUT /split` on the gateway's admin socket. `generation` is `(fence, n)`: the fence is the
token of the service's lock, so that a writer that lost the lock can never win again; n counts writes under one fence.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

Generation = tuple[int, int]

ADOPTED = "external:"
"""How the digest of an endpoint begins that runs already, and may be elsewhere: it was declared by who adopted it."""


@dataclass(frozen=True)
class Rewrite:
    """What is added to each request of a version: a prompt before what its client says, and how answers are sampled.

    `text` comes before a prompt, and is the first message of a conversation, the system's; `messages` (role, text) come
    before the client's own. `{{ name }}` in them is a variable that each request fills.
    """

    prompt: str = ""
    """What it is called, such as `prompts:/support/3`; "" for one that stands in the spec, or for none."""
    text: str = ""
    messages: tuple[tuple[str, str], ...] = ()
    sampling: tuple[tuple[str, Any], ...] = ()
    """Parameters of OpenAI's API, by name."""
    overrides: bool = False
    """Whether `sampling` counts where a request says something else."""
    by_application: bool = False
    """Whether the application writes the prompt into its requests: it asks which one its user gets."""
    variables: tuple[str, ...] = ()
    """What callers are said to send already."""

    @property
    def has_prompt(self) -> bool:
        """Whether anything comes before what clients say."""
        return bool(self.text or self.messages)

    @cached_property
    def digest(self) -> str:
        """What identifies the prompt, whatever it is called: its text."""
        said = json.dumps([self.text, self.messages], sort_keys=True)
        return "sha256:" + hashlib.sha256(said.encode()).hexdigest()

    @property
    def known_as(self) -> str:
        """What answers, and applications, call the prompt; "" where there is none."""
        return self.prompt or (self.digest if self.has_prompt else "")

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data, without what is usual."""
        plain = {key: value for key, value in asdict(self).items() if value}
        messages, variables = [list(message) for message in self.messages], list(self.variables)
        lists = {"messages": messages, "variables": variables, "sampling": _unfrozen(self.sampling)}
        return {**plain, **{key: value for key, value in lists.items() if value}}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any] | None) -> Rewrite | None:
        """The rewrite of plain JSON data; None where there is none. TypeError or ValueError where it is not one."""
        if not raw:
            return None
        messages = tuple((str(role), str(text)) for role, text in raw.get("messages", ()))
        lists = {"messages": messages, "variables": tuple(raw.get("variables", ()))}
        return cls(**{**raw, **lists, "sampling": frozen_sampling(raw.get("sampling", {}))})


def frozen_sampling(said: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Parameters as they are kept: in the order of their names, lists as tuples."""
    return tuple((name, tuple(value) if isinstance(value, list) else value) for name, value in sorted(said.items()))


def _unfrozen(sampling: tuple[tuple[str, Any], ...]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in sampling}


@dataclass(frozen=True)
class Arm:
    """One version and where its replicas listen."""

    digest: str
    urls: tuple[str, ...]
    ca_file: str = ""
    """The authorities that an `https://` arm is checked by; "" for the machine's own."""
    rewrite: Rewrite | None = None

    def as_dict(self) -> dict[str, Any]:
        """`url` is the first replica; `urls` names them all."""
        more: dict[str, Any] = {"ca_file": self.ca_file} if self.ca_file else {}
        if self.rewrite is not None:
            more["rewrite"] = self.rewrite.as_dict()
        return {"digest": self.digest, "url": self.urls[0], "urls": list(self.urls), **more}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Arm:
        """The arm of a wire form, which has `url`, `urls` or both."""
        digest, urls = str(raw["digest"]), tuple(str(u) for u in raw.get("urls") or [raw["url"]])
        if not all(_may_be_asked(url, is_adopted=digest.startswith(ADOPTED)) for url in urls):
            raise ValueError(f"an arm's address must be on loopback: {urls}")
        return cls(digest, urls, str(raw.get("ca_file", "")), Rewrite.from_dict(raw.get("rewrite")))


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
