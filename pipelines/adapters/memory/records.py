"""In-memory records, runtime and notifier: for tests, for simulations, and as the shortest examples of each port."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pipelines.errors import Busy, LedgerBroken, NotFound, StaleWriter
from pipelines.ports import Command, Now, Token
from pipelines.records.queue import Ticket
from pipelines.records.release import Event, Release
from pipelines.records.service import Service
from pipelines.records.summary import Summary, summary_of
from pipelines.records.unit import Unit, UnitStatus

FIRST_PORT = 20_000


@dataclass
class MemoryLedger:
    """Implements `ports.Ledger` and `ports.Archive`."""

    chains: dict[str, tuple[Event, ...]] = field(default_factory=dict)
    rows: dict[str, Summary] = field(default_factory=dict)
    aside: set[str] = field(default_factory=set)

    def create(self, release: Release) -> None:
        """Record a new release."""
        if release.id in self.chains:
            raise Busy(f"release {release.id} exists already", code="E_EXISTS", field="id")
        self.chains[release.id] = release.events
        self.rows[release.id] = summary_of(release)

    def load(self, release_id: str) -> Release:
        """The release of its events."""
        self._known(release_id)
        try:
            release = Release.fold(self.chains[release_id])
        except (LedgerBroken, LookupError, TypeError, ValueError) as error:
            reason = error.reason if isinstance(error, LedgerBroken) else repr(error)
            if release_id not in self.aside:
                self.rows[release_id] = self.rows[release_id].as_broken(reason)
            raise LedgerBroken(f"release {release_id}: {reason}", code="E_CHAIN", field=release_id) from None
        if release_id not in self.aside:
            self.rows[release_id] = summary_of(release)
        return release

    def save(self, release: Release, expected_version: int) -> None:
        """Append what came after `expected_version`."""
        is_there = release.id in self.chains and release.id not in self.aside
        if not is_there or len(self.chains[release.id]) != expected_version:
            raise StaleWriter(f"release {release.id} is not at version {expected_version} any more")
        self.chains[release.id] += release.events[expected_version:]
        self.rows[release.id] = summary_of(release)

    def summaries(
        self,
        *,
        unfinished: bool = False,
        service: str | None = None,
        limit: int | None = None,
        before: str | None = None,
        broken: bool = False,
    ) -> tuple[Summary, ...]:
        """The releases' rows, newest first."""
        found = sorted((self.rows[name] for name in self.chains), key=_newest_first)
        if before is not None:
            found = [row for row in found if _newest_first(row) > _newest_first(self._known(before))]
        kept = [r for r in found if not (unfinished and r.is_ended) and service in {None, r.service}]
        return tuple(row for row in kept if row.broken or not broken)[:limit]

    def tally(self) -> Mapping[tuple[str, str], int]:
        """How many releases are there by service and outcome?"""
        rows = (self.rows[name] for name in self.chains)
        return Counter((r.service, "broken" if r.broken else r.outcome or "running") for r in rows)

    def set_aside(self, release_id: str, why: str) -> None:
        """End a record that can neither be read nor written."""
        row = replace(self._known(release_id), is_ended=True)
        self.rows[release_id] = row.as_broken(why.strip() or "set aside")
        self.aside.add(release_id)

    def _known(self, release_id: str) -> Summary:
        if release_id not in self.chains:
            raise NotFound(f"there is no release {release_id!r}", field="ID")
        return self.rows[release_id]


def _newest_first(row: Summary) -> tuple[float, str]:
    return -row.started_at_s, row.id


@dataclass
class MemoryServices:
    """Implements `ports.Services`."""

    records: dict[str, Service] = field(default_factory=dict)

    def load(self, name: str) -> Service:
        """The service."""
        if name not in self.records:
            raise NotFound(f"there is no service {name!r}", field="SERVICE", expected=f"one of: {list(self.records)}")
        return self.records[name]

    def save(self, service: Service) -> Service:
        """Compare-and-set on the version."""
        current = self.records.get(service.name)
        if (current.version if current else 0) != service.version:
            raise StaleWriter(f"service {service.name} is not at version {service.version} any more")
        saved = service.changed(version=service.version + 1)
        self.records[service.name] = saved
        return saved

    def names(self) -> tuple[str, ...]:
        """All services."""
        return tuple(sorted(self.records))

    def remove(self, service: Service) -> None:
        """Forget it."""
        if self.load(service.name).version != service.version:
            raise StaleWriter(f"service {service.name} is not at version {service.version} any more")
        del self.records[service.name]


@dataclass
class MemoryInbox:
    """Implements `ports.Inbox`."""

    sent: dict[str, Command] = field(default_factory=dict)
    obeyed: set[str] = field(default_factory=set)

    def send(self, command: Command) -> None:
        """Leave a command."""
        self.sent.setdefault(command.id, command)

    def pending(self, release_id: str) -> tuple[Command, ...]:
        """Commands not yet obeyed, oldest first."""
        return tuple(c for c in self.sent.values() if c.release_id == release_id and c.id not in self.obeyed)

    def done(self, command_id: str) -> None:
        """Mark it obeyed."""
        self.obeyed.add(command_id)


@dataclass
class MemoryQueue:
    """Implements `queue_port.Queue`."""

    waiting: dict[str, Ticket] = field(default_factory=dict)

    def put(self, ticket: Ticket) -> None:
        """From now on this one waits, and no other of its service."""
        self.waiting[ticket.service] = ticket

    def take(self, ticket_id: str) -> bool:
        """It waits no more."""
        found = next((t for t in self.waiting.values() if t.id == ticket_id), None)
        return found is not None and self.waiting.pop(found.service, None) is not None

    def tickets(self) -> tuple[Ticket, ...]:
        """Everything that waits, by service."""
        return tuple(self.waiting[service] for service in sorted(self.waiting))


@dataclass
class MemoryLock:
    """Implements `ports.Lock`."""

    tokens: dict[str, Token] = field(default_factory=dict)

    def acquire(self, service: str, holder: str, ttl_s: float, now: Now) -> Token:
        """Take the lock, or Busy naming the holder."""
        held_by = self.holder(service, now)
        if held_by is not None:
            raise Busy(f"{service} is held by {held_by}", field="service")
        last = self.tokens.get(service)
        token = Token(service, holder, (last.fence if last else 0) + 1, now.wall_s + ttl_s)
        self.tokens[service] = token
        return token

    def renew(self, token: Token, ttl_s: float, now: Now) -> Token:
        """Keep it."""
        current = self.tokens.get(token.service)
        if current is None or (current.fence, current.holder) != (token.fence, token.holder):
            raise StaleWriter(f"the lock of {token.service} is held by another", code="E_FENCED")
        fresh = replace(token, until_s=now.wall_s + ttl_s)
        self.tokens[token.service] = fresh
        return fresh

    def release(self, token: Token) -> None:
        """Give it back."""
        current = self.tokens.get(token.service)
        if current is not None and current.fence == token.fence:
            self.tokens[token.service] = replace(current, holder="", until_s=0.0)

    def revoke(self, service: str, holder: str) -> None:
        """Free it, where `holder` still has it."""
        current = self.tokens.get(service)
        if current is not None and current.holder == holder:
            self.tokens[service] = replace(current, holder="", until_s=0.0)

    def holder(self, service: str, now: Now) -> str | None:
        """Who holds it now?"""
        token = self.tokens.get(service)
        return token.holder or None if token is not None and token.until_s > now.wall_s else None


@dataclass
class MemoryRuntime:
    """Implements `ports.Runtime`: every unit is ready at once, until it is told otherwise."""

    wanted: dict[str, Unit] = field(default_factory=dict)
    seen: dict[str, UnitStatus] = field(default_factory=dict)

    def ensure(self, unit: Unit) -> None:
        """The unit runs, on the port that it had before if it names none."""
        before = self.wanted.get(unit.name)
        port = unit.port or (before.port if before else 0) or FIRST_PORT + len(self.wanted)
        wanted = replace(unit, port=port)
        if wanted != before:
            self.wanted[unit.name] = wanted
            self.seen[unit.name] = UnitStatus("ready", f"http://127.0.0.1:{port}", 1)

    def status(self, name: str) -> UnitStatus:
        """What was last said of it."""
        return self.seen.get(name, UnitStatus())

    def remove(self, name: str) -> None:
        """It is gone."""
        self.wanted.pop(name, None)
        self.seen.pop(name, None)

    def units(self, service: str) -> tuple[Unit, ...]:
        """The wanted units of a service."""
        return tuple(u for u in self.wanted.values() if u.service == service)

    def set(self, name: str, status: UnitStatus) -> None:
        """From now on this is seen of the unit."""
        self.seen[name] = status

    def crash(self, name: str) -> None:
        """The unit died and was started again."""
        status = self.seen[name]
        self.seen[name] = replace(status, restarts=status.restarts + 1)

    def fail(self, name: str, reason: str) -> None:
        """The unit is not ready any more."""
        self.seen[name] = replace(self.seen[name], state="failed", reason=reason)


@dataclass
class MemoryNotifier:
    """Implements `ports.Notifier`."""

    sentences: list[tuple[str, str]] = field(default_factory=list)

    def send(self, release: Release, sentence: str) -> None:
        """Keep it."""
        self.sentences.append((release.id, sentence))
