"""The ledger in SQL: events are only ever appended."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any

from sqlalchemy import Connection, Engine, Row, Select, insert, select, update
from sqlalchemy.exc import IntegrityError

from pipelines.adapters.sql_engine import reading, transaction
from pipelines.adapters.sql_tables import events, releases
from pipelines.errors import Busy, LedgerBroken, NotFound, StaleWriter
from pipelines.release import Event, Release


class SqlLedger:
    """Implements `ports.Ledger`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def create(self, release: Release) -> None:
        """Record a new release. Busy where the id exists."""
        row = {
            "id": release.id,
            "service": release.service,
            "version": release.version,
            "ended": int(release.is_ended),
            "started_at_s": release.started_at_s,
        }
        try:
            with transaction(self._engine) as connection:
                connection.execute(insert(releases).values(**row))
                _append(connection, release.id, release.events)
        except IntegrityError:
            raise Busy(f"release {release.id} exists already", code="E_EXISTS", field="id") from None

    def load(self, release_id: str) -> Release:
        """The release of its events, whose chain is verified."""
        found = self._read(_rows().where(releases.c.id == release_id))
        if not found:
            raise NotFound(f"there is no release {release_id[:80]!r}", field="ID", hint="shipway list")
        return found[0]

    def save(self, release: Release, expected_version: int) -> None:
        """Append what came after `expected_version`. StaleWriter where another writer was there first."""
        fresh = {"version": release.version, "ended": int(release.is_ended)}
        where = (releases.c.id == release.id) & (releases.c.version == expected_version)
        stale = StaleWriter(f"release {release.id} is not at version {expected_version} any more")
        try:
            with transaction(self._engine) as connection:
                if connection.execute(update(releases).where(where).values(**fresh)).rowcount != 1:
                    raise stale
                _append(connection, release.id, release.events[expected_version:])
        except IntegrityError:
            raise stale from None

    def releases(self, *, unfinished: bool = False, service: str | None = None) -> tuple[Release, ...]:
        """The releases, newest first."""
        query = _rows()
        if unfinished:
            query = query.where(releases.c.ended == 0)
        if service is not None:
            query = query.where(releases.c.service == service)
        return self._read(query)

    def _read(self, query: Select[Any]) -> tuple[Release, ...]:
        with reading(self._engine) as connection:
            rows = connection.execute(query).all()
        return tuple(_fold(name, list(own)) for name, own in groupby(rows, attrgetter("id")))


def _rows() -> Select[Any]:
    """Every release with its events, newest release first. One that has lost all of its events is still a row."""
    columns = [releases.c.id, releases.c.version, *(c for c in events.c if c is not events.c.release_id)]
    joined = releases.outerjoin(events, events.c.release_id == releases.c.id)
    order = (releases.c.started_at_s.desc(), releases.c.id, events.c.seq)
    return select(*columns).select_from(joined).order_by(*order)


def _append(connection: Connection, release_id: str, fresh: Sequence[Event]) -> None:
    rows = [{**vars(e), "release_id": release_id, "data": json.dumps(e.data, sort_keys=True)} for e in fresh]
    if rows:
        connection.execute(insert(events), rows)


def _fold(release_id: str, rows: Sequence[Row[Any]]) -> Release:
    """The release of its rows. LedgerBroken names it where the record was altered, cut or cannot be read."""
    try:
        return Release.fold(_events(_complete(rows)))
    except (LedgerBroken, KeyError, TypeError, ValueError) as error:
        reason = error.reason if isinstance(error, LedgerBroken) else f"an event cannot be read ({error!r})"
        raise LedgerBroken(
            f"release {release_id}: {reason}",
            code="E_CHAIN",
            field=release_id,
            hint="restore the ledger from a backup; nothing was written",
        ) from None


def _complete(rows: Sequence[Row[Any]]) -> Sequence[Row[Any]]:
    """The rows that hold an event. A chain does not show by itself that its end was cut off; the count does."""
    written = [row for row in rows if row.seq is not None]
    if len(written) != rows[0].version:
        raise LedgerBroken(f"{rows[0].version} events were written, {len(written)} are there")
    return written


def _events(rows: Sequence[Row[Any]]) -> Iterable[Event]:
    return (Event(r.seq, r.at_s, r.kind, json.loads(r.data), r.prev, r.hash) for r in rows)
