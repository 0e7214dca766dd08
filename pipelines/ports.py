"""What does Shipway need from the outside world?

Each port is a Protocol of at most four methods. All are synchronous; `now` is an argument, never read inside. Every
adapter passes the port's contract test class (`tests/contracts/`); in-memory adapters are in `adapters/memory/`.
Adapters raise only the errors of `errors.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from evals.signals.replay import Pair
from evals.signals.strata import Stratum
from pipelines.errors import BadInput
from pipelines.records.ledger import Records
from pipelines.records.queue import NoQueue, Queue
from pipelines.records.release import Release
from pipelines.records.service import Services
from pipelines.records.split import Arm, TrafficSplit
from pipelines.records.unit import Unit, UnitStatus
from pipelines.supply.checks.paths import FolderLimits
from pipelines.supply.prompt import NoPromptRegistry, PromptRegistry


@dataclass(frozen=True)
class Now:
    """One instant on two clocks: UTC seconds since the epoch, and monotonic seconds of this process."""

    wall_s: float
    mono_s: float


# ── Registry ────────────────────────────────────────────────────────────────────────────────────────────────────────


BUNDLE_TAG = "shipway.bundle_digest"
"""The tag by which a version says which bundle it holds."""

WEIGHTS_TAG = "shipway.weights"
"""The tag by which a version says where its files lie, and which digest they have."""

ONCE_TAGS = (BUNDLE_TAG, WEIGHTS_TAG)
"""What says the same in one of these is registered once."""


@dataclass(frozen=True)
class RegisteredVersion:
    """One version of a registered model.

    A model that was deleted and made again counts from 1: `made` tells two registrations of one number apart.
    """

    name: str
    version: int
    aliases: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    made: str = ""


class Registry(Protocol):
    """Where model versions are registered.

    Every method has one of seven answers besides "done", each an error of its own: AliasMoved, NotFound, BadInput
    E_REGISTRY (refused), Forbidden, Raced, DependencyDown E_REGISTRY (down), and NewerDatabase.
    """

    def resolve(self, uri: str) -> RegisteredVersion:
        """Which version does `models:/name/3` or `models:/name@alias` name? NotFound names the newest three."""
        ...

    def fetch(self, version: RegisteredVersion, into: Path) -> Path:
        """Copy the version's files below `into` and return their folder (data only; nothing is loaded)."""
        ...

    def register(self, name: str, folder: Path, tags: Mapping[str, str]) -> RegisteredVersion:
        """Register a folder as a new version; the same value of one of `ONCE_TAGS` again returns the same version."""
        ...

    def mark(
        self,
        name: str,
        *,
        aliases: Mapping[str, int] | None = None,
        expected: Mapping[str, int | None] | None = None,
        tags: Mapping[int, Mapping[str, str]] | None = None,
        made: Mapping[int, str] | None = None,
        patience_s: float | None = None,
    ) -> None:
        """Set tags by version, then aliases, read back. AliasMoved where `expected` is not so.

        A version whose registration is not the one that `made` says (where it says one) is NotFound. A registry that
        leaves one question unanswered for `patience_s` is down; None: for as long as it is asked anything else.
        """
        ...


class Weights(Protocol):
    """Where files lie that a registered version only points at."""

    def fetch(self, uri: str, into: Path, limits: FolderLimits) -> None:
        """Copy the files that Shipway takes (`pointer.is_taken`) into the empty folder `into`, within the limits.

        BadInput E_POINTER, E_PATH or E_LIMIT, NotFound, Forbidden, or DependencyDown; what it leaves then is of no use.
        """
        ...


class NoWeights:
    """Implements `Weights` where nothing is fetched from elsewhere."""

    def fetch(self, uri: str, into: Path, limits: FolderLimits) -> None:  # noqa: ARG002
        """Refuse."""
        raise BadInput(
            f"the weights lie at {uri}, and nothing is fetched from elsewhere here",
            code="E_POINTER",
            field="weights",
            expected="a version that holds its files",
        )


# ── Builder ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Bundle:
    """A content-addressed folder with everything that a server needs, and the image that holds it where one does."""

    digest: str
    path: Path
    engine: str
    size_bytes: int
    image: str = ""


class Builder(Protocol):
    """Turns a prepared folder into what a runtime can start."""

    def build(self, folder: Path, facts: Mapping[str, Any]) -> Bundle:
        """Seal the folder; the same files and facts give the same digest and are built once."""
        ...


# ── Runtime ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class Runtime(Protocol):
    """Where units run. `ensure` is idempotent and durable: who supervises restarts what dies."""

    def ensure(self, unit: Unit) -> None:
        """From now on this unit must be running."""
        ...

    def status(self, name: str) -> UnitStatus:
        """What is seen of the unit right now?"""
        ...

    def remove(self, name: str) -> None:
        """Stop it (drained) and forget it; removing what is absent is fine."""
        ...

    def units(self, service: str) -> tuple[Unit, ...]:
        """Which units are wanted for this service?"""
        ...


# ── Router and metrics ──────────────────────────────────────────────────────────────────────────────────────────────


class Router(Protocol):
    """Who gets which share."""

    def read(self, service: str) -> TrafficSplit:
        """The split as the router has it now. DependencyDown where it does not answer."""
        ...

    def write(self, service: str, split: TrafficSplit, expected: tuple[int, int]) -> TrafficSplit:
        """Replace the split at generation `expected` and return what is then read back. StaleWriter where fenced."""
        ...


@dataclass(frozen=True)
class StrataQuery:
    """The decided strata of a service after interval `after` of gateway boot `boot` ("" = whichever runs)."""

    service: str
    after: int = -1
    boot: str = ""


class MetricsSource(Protocol):
    """Where canary evidence comes from."""

    def measure(self, query: StrataQuery, now: Now) -> tuple[Stratum, ...]:
        """The strata that are decided, oldest first, each once. DependencyDown where the source cannot answer."""
        ...


# ── Records ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Command:
    """A person's word to a release's controller: abort, rollback, promote, pause, resume or approve (`about` what)."""

    id: str
    release_id: str
    verb: str
    actor: str
    reason: str = ""
    about: str = ""

    @property
    def said(self) -> str:
        """What was said, by whom and why, in one sentence."""
        return f"{self.verb} by {self.actor}" + (f": {self.reason}" if self.reason else "")


class Inbox(Protocol):
    """Commands that wait for a controller."""

    def send(self, command: Command) -> None:
        """Leave a command; the same id again changes nothing."""
        ...

    def pending(self, release_id: str) -> tuple[Command, ...]:
        """Commands not yet obeyed, oldest first."""
        ...

    def done(self, command_id: str) -> None:
        """Mark it obeyed."""
        ...


@dataclass(frozen=True)
class Token:
    """The right to write to a service: `fence` grows with every acquisition."""

    service: str
    holder: str
    fence: int
    until_s: float


class Lock(Protocol):
    """One writer per service."""

    def acquire(self, service: str, holder: str, ttl_s: float, now: Now) -> Token:
        """Take the lock, or Busy naming the holder while another's lease lasts."""
        ...

    def renew(self, token: Token, ttl_s: float, now: Now) -> Token:
        """Keep it. StaleWriter where it was lost."""
        ...

    def release(self, token: Token) -> None:
        """Give it back; a lost lock is left alone."""
        ...

    def revoke(self, service: str, holder: str) -> None:
        """Free the lock of a holder that is dead; a lock that another took since is left alone."""
        ...

    def holder(self, service: str, now: Now) -> str | None:
        """Who holds it now, if anybody?"""
        ...


class Notifier(Protocol):
    """Who wants to know? Best effort; never raises."""

    def send(self, release: Release, sentence: str) -> None:
        """Tell it."""
        ...


@dataclass(frozen=True)
class ReplayQuery:
    """Which recorded requests shall be asked of both arms, directly, at most `concurrency` pairs at one time?

    The order of the numbers is the order of the pairs, and arms take turns in being asked first.
    """

    service: str
    numbers: Sequence[int]
    stable: Arm
    canary: Arm
    timeout_s: float = 10.0
    concurrency: int = 1


class Replays(Protocol):
    """What a service's clients asked before, and how two versions answer it."""

    def recorded(self, service: str) -> tuple[int, ...]:
        """The numbers of the requests that are kept, oldest first. DependencyDown where they cannot be read."""
        ...

    def ask(self, query: ReplayQuery) -> tuple[Pair, ...]:
        """A pair for each of the numbers that is still kept, in their order."""
        ...


class NoReplays:
    """Implements `Replays` where nothing is ever recorded."""

    def recorded(self, service: str) -> tuple[int, ...]:  # noqa: ARG002  the same for every service
        """Nothing."""
        return ()

    def ask(self, query: ReplayQuery) -> tuple[Pair, ...]:  # noqa: ARG002
        """Nothing."""
        return ()


@dataclass(frozen=True)
class Ports:
    """The outside world of one controller, wired once in `flows/wiring.py`."""

    registry: Registry
    runtime: Runtime
    router: Router
    metrics: MetricsSource
    ledger: Records
    services: Services
    inbox: Inbox
    lock: Lock
    notifier: Notifier
    replays: Replays = field(default_factory=NoReplays)
    queue: Queue = field(default_factory=NoQueue)
    weights: Weights = field(default_factory=NoWeights)
    prompts: PromptRegistry = field(default_factory=NoPromptRegistry)
