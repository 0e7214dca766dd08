"""What has happened to a release so far?

A release is the fold of its events. Events are append-only and hash-chained, so that a record can be replayed and
checked; everything else on `Release` is derived from them by `_apply`, and by nothing else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from pipelines.errors import LedgerBroken
from pipelines.records.asking import Asked


class Phase(StrEnum):
    """Where a release is. The last five are ends."""

    OPEN = "open"
    EVALUATED = "evaluated"
    COMPRESSED = "compressed"
    BUILT = "built"
    STAGED = "staged"
    QUALIFIED = "qualified"
    CANARY = "canary"
    BAKING = "baking"
    PROMOTING = "promoting"
    PROMOTED = "promoted"
    REJECTED = "rejected"
    ROLLED_BACK = "rolled_back"
    ABORTED = "aborted"
    HELD = "held"


ENDS = frozenset({Phase.PROMOTED, Phase.REJECTED, Phase.ROLLED_BACK, Phase.ABORTED, Phase.HELD})
EXPOSED = frozenset({Phase.CANARY, Phase.BAKING, Phase.PROMOTING})
"""Phases in which users may meet the candidate."""

_GOES_HOME = frozenset({Phase.ROLLED_BACK, Phase.ABORTED, Phase.HELD})
_UNSEEN = frozenset({Phase.REJECTED, Phase.ABORTED, Phase.HELD})

MOVES: Mapping[Phase, frozenset[Phase]] = {
    Phase.OPEN: frozenset({Phase.EVALUATED, Phase.PROMOTING}) | _UNSEEN,
    Phase.EVALUATED: frozenset({Phase.COMPRESSED}) | _UNSEEN,
    Phase.COMPRESSED: frozenset({Phase.BUILT}) | _UNSEEN,
    Phase.BUILT: frozenset({Phase.STAGED}) | _UNSEEN,
    Phase.STAGED: frozenset({Phase.QUALIFIED}) | _UNSEEN,
    Phase.QUALIFIED: frozenset({Phase.CANARY, Phase.PROMOTING}) | _UNSEEN,
    Phase.CANARY: frozenset({Phase.CANARY, Phase.BAKING, Phase.PROMOTING}) | _GOES_HOME,
    Phase.BAKING: frozenset({Phase.CANARY, Phase.PROMOTING}) | _GOES_HOME,
    Phase.PROMOTING: frozenset({Phase.PROMOTED, Phase.ROLLED_BACK, Phase.ABORTED}),
    **{end: frozenset() for end in ENDS},
}
"""The allowed moves. BAKING → CANARY is an interrupted bake that begins again at the first step; OPEN → PROMOTING is
a person's immediate return to the parked previous version, ABORTED where it could not be carried out; QUALIFIED →
PROMOTING is a first release."""


@dataclass(frozen=True)
class Event:
    """One line of the record. `at_s` is UTC seconds since the epoch."""

    seq: int
    at_s: float
    kind: str
    data: Mapping[str, Any]
    prev: str
    hash: str

    @classmethod
    def after(cls, prev: Event | None, at_s: float, kind: str, data: Mapping[str, Any]) -> Event:
        """The next event of a chain."""
        seq, prev_hash = (prev.seq + 1, prev.hash) if prev else (1, "")
        return cls(seq, at_s, kind, data, prev_hash, _digest(seq, at_s, kind, data, prev_hash))

    def verify(self, prev: Event | None) -> None:
        """Raises LedgerBroken where this event does not follow `prev` or was altered."""
        expected_seq, expected_prev = (prev.seq + 1, prev.hash) if prev else (1, "")
        digest = _digest(self.seq, self.at_s, self.kind, self.data, self.prev)
        if (self.seq, self.prev, self.hash) != (expected_seq, expected_prev, digest):
            raise LedgerBroken(
                f"event {self.seq} ({self.kind}) does not verify",
                code="E_CHAIN",
                hint="restore the ledger from a backup; nothing was written",
            )


def _digest(seq: int, at_s: float, kind: str, data: Mapping[str, Any], prev: str) -> str:
    line = json.dumps([seq, float(at_s), kind, data, prev], sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(line.encode()).hexdigest()


@dataclass(frozen=True)
class Candidate:
    """Exactly which bytes: registry version, artifact digest, variant, bundle digest, config digest."""

    model: str
    version: int
    artifact_digest: str
    config_digest: str = ""
    variant: str = "source"
    bundle_digest: str = ""
    bundle: str = ""
    serving_version: int | None = None
    """The registry version that serves: the compressed variant's, or `version` itself."""
    image: str = ""
    """The image that holds the bundle, by digest; "" where it serves without a container."""
    made: str = ""
    """Which registration `version` is, and `serving_version`: a model that was made again counts from 1."""
    serving_made: str = ""


@dataclass(frozen=True)
class Release:
    """Everything that is known about one release. `record` is the only way to change it."""

    events: tuple[Event, ...] = ()
    id: str = ""
    service: str = ""
    spec: Mapping[str, Any] = field(default_factory=dict)
    spec_digest: str = ""
    phase: Phase = Phase.OPEN
    phase_since_s: float = 0.0
    started_at_s: float = 0.0
    ended_at_s: float | None = None
    candidate: Candidate | None = None
    champion: Mapping[str, Any] | None = None
    step: int = 0
    confirmed_pct: float = 0.0
    intended_pct: float = 0.0
    exposed_since_s: float | None = None
    paused: bool = False
    asks: Asked | None = None
    """What it waits for a person to approve, as the last recorded look says."""
    asked_since_s: float | None = None
    """When it first asked since its share last changed."""
    approved: frozenset[int] = frozenset()
    """The steps that a person approved for this exposure."""
    approved_drift: frozenset[int] = frozenset()
    """The steps of this exposure in which a person meant the drift."""
    convicted: str = ""
    reason: str = ""
    label: str = ""
    alias: str = ""
    """What became of the registry's alias (`outbox.Answer`); "" where it was not asked."""
    alias_why: str = ""

    @property
    def version(self) -> int:
        """How many events are recorded."""
        return len(self.events)

    @property
    def sealed(self) -> Candidate:
        """The candidate. ValueError before it is resolved."""
        if self.candidate is None:
            raise ValueError(f"release {self.id} has no candidate yet")
        return self.candidate

    @property
    def is_ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.phase in ENDS

    @property
    def is_way_home(self) -> bool:
        """Whether this is no release of a candidate, but a person's order to go back to the parked version."""
        return "rollback" in self.spec

    @property
    def is_exposed(self) -> bool:
        """Whether users may meet the candidate: where a share was intended, the router may have given it."""
        return self.phase in EXPOSED or self.intended_pct > 0

    @property
    def outcome(self) -> str | None:
        """How it ended, or None while it runs."""
        return str(self.phase) if self.is_ended else None

    def record(self, at_s: float, kind: str, **data: Any) -> Release:
        """The release after one more event. Raises ValueError on a move that is not allowed."""
        event = Event.after(self.events[-1] if self.events else None, at_s, kind, data)
        return _apply(self, event)

    def of_kind(self, kind: str) -> tuple[Event, ...]:
        """The events of one kind, oldest first."""
        return tuple(e for e in self.events if e.kind == kind)

    def last(self, kind: str) -> Event | None:
        """The newest event of one kind."""
        return next((e for e in reversed(self.events) if e.kind == kind), None)

    def enter(self, phase: Phase, at_s: float, **data: Any) -> Release:
        """The release after a move to another phase."""
        return self.record(at_s, "entered", phase=str(phase), **data)

    @classmethod
    def fold(cls, events: Iterable[Event]) -> Release:
        """The release of a record. Raises LedgerBroken where the chain does not verify."""
        release, prev = cls(), None
        for event in events:
            event.verify(prev)
            release, prev = _apply(release, event), event
        return release


def _apply(release: Release, event: Event) -> Release:
    """What does one event change?"""
    data, after = event.data, replace(release, events=(*release.events, event))
    match event.kind:
        case "opened":
            return replace(
                after,
                id=data["id"],
                service=data["service"],
                spec=data["spec"],
                spec_digest=data["spec_digest"],
                started_at_s=event.at_s,
                phase_since_s=event.at_s,
            )
        case "resolved" | "sealed":
            return replace(
                after, candidate=Candidate(**data["candidate"]), champion=data.get("champion", after.champion)
            )
        case "entered":
            return _enter(after, event)
        case "exposing":
            return replace(after, intended_pct=data["pct"])
        case "exposed":
            since = after.exposed_since_s if after.exposed_since_s is not None else event.at_s
            return replace(after, confirmed_pct=data["pct"], exposed_since_s=since)
        case "went_home":
            return replace(after, confirmed_pct=0.0, intended_pct=0.0, exposed_since_s=None)
        case "interrupted":
            return _interrupted(after)
        case "looked":
            asks = Asked.of(data.get("asks"))
            since_s = event.at_s if asks and after.asked_since_s is None else after.asked_since_s
            return replace(after, asks=asks, asked_since_s=since_s)
        case "convicted":
            return replace(after, convicted=data["why"])
        case "registry":
            return replace(after, alias=data["alias"], alias_why=data["why"]) if "alias" in data else after
        case _:
            return _heard(after, event)


def _heard(release: Release, event: Event) -> Release:
    """What did a person's word change?"""
    match event.kind:
        case "paused":
            return replace(release, paused=event.data["on"])
        case "approved":
            return _approved(release, event.data)
        case _:
            return release


def _interrupted(release: Release) -> Release:
    """Nobody meets the candidate any more, and what was approved was approved for this exposure."""
    return replace(
        release,
        confirmed_pct=0.0,
        intended_pct=0.0,
        exposed_since_s=None,
        asks=None,
        asked_since_s=None,
        approved=frozenset(),
        approved_drift=frozenset(),
    )


def _approved(release: Release, data: Mapping[str, Any]) -> Release:
    said = Asked.of(data)
    if said is None:
        return release
    if said.what == "drift":
        release = replace(release, approved_drift=release.approved_drift | {said.step})
    else:
        release = replace(release, approved=release.approved | {said.step})
    return replace(release, asks=None) if said == release.asks else release


def _enter(release: Release, event: Event) -> Release:
    phase = Phase(event.data["phase"])
    if phase not in MOVES[release.phase]:
        raise ValueError(f"a release may not move from {release.phase} to {phase}")
    return replace(
        release,
        phase=phase,
        phase_since_s=event.at_s,
        step=event.data.get("step", release.step),
        asks=None,
        asked_since_s=None,
        ended_at_s=event.at_s if phase in ENDS else None,
        reason=event.data.get("why", release.reason),
        label=event.data.get("label", release.label),
    )
