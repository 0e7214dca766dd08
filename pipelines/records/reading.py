"""Which releases can be worked with, and which records are broken? One of these never hides the others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from pipelines.errors import LedgerBroken, NotFound
from pipelines.records.ledger import Ledger
from pipelines.records.release import Release
from pipelines.records.service import Service, Services
from pipelines.records.summary import Summary, summary_of

PAGE = 50


@dataclass(frozen=True)
class Unfinished:
    """The releases that are not ended, newest first, and the records of which nobody knows what they are of."""

    releases: tuple[Release, ...] = ()
    broken: tuple[Summary, ...] = ()


@dataclass(frozen=True)
class KnownServices:
    """The services, and by name why the record of one cannot be read."""

    services: tuple[Service, ...] = ()
    broken: Mapping[str, str] = field(default_factory=dict)


def read_services(services: Services) -> KnownServices:
    """Every service."""
    found, broken = [], {}
    for name in services.names():
        try:
            found.append(services.load(name))
        except LedgerBroken as error:
            broken[name] = error.reason
        except NotFound:
            continue
    return KnownServices(tuple(found), broken)


def read_unfinished(ledger: Ledger, service: str | None = None) -> Unfinished:
    """Every release that is not ended, loaded: there are few, and what is altered in one is found here."""
    releases, broken = [], []
    for row in ledger.summaries(unfinished=True, service=service):
        try:
            releases.append(ledger.load(row.id))
        except LedgerBroken as error:
            broken.append(row.as_broken(_said(row, error)))
    return Unfinished(tuple(r for r in releases if not r.is_ended), tuple(broken))


def unfinished(ledger: Ledger, service: str | None = None) -> tuple[Release, ...]:
    """The releases that are not ended and can be read."""
    return read_unfinished(ledger, service).releases


def unfinished_or_refuse(ledger: Ledger, service: str) -> tuple[Release, ...]:
    """The same, for who is about to begin something. LedgerBroken where one of the service cannot be read."""
    found = read_unfinished(ledger, service)
    for row in found.broken:
        raise broken_record(row)
    return found.releases


def broken_record(row: Summary) -> LedgerBroken:
    """The error that names a broken record and what a person can do."""
    return LedgerBroken(
        f"the record of release {row.id} of {row.service} is broken: {row.broken}",
        code="E_CHAIN",
        field=row.id,
        hint=f"restore the ledger from a backup, or shipway resolve {row.id}",
    )


def checked(ledger: Ledger, rows: Iterable[Summary]) -> tuple[Summary, ...]:
    """Rows for people to read: those of unfinished releases are read anew from their records."""
    return tuple(row if row.is_ended else _verified(ledger, row) for row in rows)


def verified(ledger: Ledger, rows: Iterable[Summary]) -> tuple[Summary, ...]:
    """The same, where every record is read: this takes its time."""
    return tuple(_verified(ledger, row) for row in rows)


def _verified(ledger: Ledger, row: Summary) -> Summary:
    """The row as its record says it; one that a person has set aside stays so."""
    try:
        release = ledger.load(row.id)
    except LedgerBroken as error:
        return row.as_broken(_said(row, error))
    except NotFound:
        return row
    return row if row.is_ended and not release.is_ended else summary_of(release)


def _said(row: Summary, error: LedgerBroken) -> str:
    return error.reason.removeprefix(f"release {row.id}: ")


@dataclass
class Inspection:
    """A walk over all records, newest first, for ever: one is verified at each step, ended ones too."""

    ledger: Ledger
    last: str | None = None

    def step(self) -> Summary | None:
        """Verify the next record: its row, where it was found broken just now. `load` leaves it marked."""
        try:
            page = self.ledger.summaries(limit=1, before=self.last)
        except NotFound:
            page = ()
        self.last = page[0].id if page else None
        for row in page:
            found = _verified(self.ledger, row)
            if found.broken and not row.broken:
                return found
        return None


def newest_first(ledger: Ledger, service: str | None = None) -> Iterator[Summary]:
    """All rows, page by page."""
    page = ledger.summaries(service=service, limit=PAGE)
    while page:
        yield from page
        page = ledger.summaries(service=service, limit=PAGE, before=page[-1].id)


def readable(ledger: Ledger, service: str | None = None) -> Iterator[Release]:
    """The releases that can be read, newest first, loaded one by one."""
    for row in newest_first(ledger, service):
        with suppress(LedgerBroken):
            yield ledger.load(row.id)


def broken_records(ledger: Ledger) -> tuple[Summary, ...]:
    """Every record that is known to be broken, newest first; those that are not ended are looked at now."""
    found = (*read_unfinished(ledger).broken, *ledger.summaries(broken=True))
    return tuple({row.id: row for row in found}.values())
