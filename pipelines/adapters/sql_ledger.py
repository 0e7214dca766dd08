"""The ledger in SQL: events are only ever appended."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Engine, Row, insert, select, update
from sqlalchemy.exc import IntegrityError

from pipelines.adapters.sql_engine import events, releases, transaction
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
        with transaction(self._engine) as connection:
            rows = _events_of(connection, release_id)
        if not rows:
            raise NotFound(f"there is no release {release_id[:80]!r}", field="ID", hint="shipway list")
        return Release.fold(_event(row) for row in rows)

    def save(self, release: Release, expected_version: int) -> None:
        """Append what came after `expected_version`. StaleWriter where another writer was there first."""
        fresh = {"version": release.version, "ended": int(release.is_ended)}
        where = (releases.c.id == release.id) & (releases.c.version == expected_version)
        with transaction(self._engine) as connection:
            if connection.execute(update(releases).where(where).values(**fresh)).rowcount != 1:
                raise StaleWriter(f"release {release.id} is not at version {expected_version} any more")
            _append(connection, release.id, release.events[expected_version:])

    def releases(self, *, unfinished: bool = False, service: str | None = None) -> tuple[Release, ...]:
        """The releases, newest first."""
        query = select(releases.c.id).order_by(releases.c.started_at_s.desc(), releases.c.id)
        if unfinished:
            query = query.where(releases.c.ended == 0)
        if service is not None:
            query = query.where(releases.c.service == service)
        with transaction(self._engine) as connection:
            ids = connection.execute(query).scalars().all()
        return tuple(self.load(release_id) for release_id in ids)


def _append(connection: Connection, release_id: str, fresh: Sequence[Event]) -> None:
    if fresh:
        rows = [
            {
                "release_id": release_id,
                "seq": e.seq,
                "at_s": e.at_s,
                "kind": e.kind,
                "data": json.dumps(e.data, sort_keys=True, allow_nan=False),
                "prev": e.prev,
                "hash": e.hash,
            }
            for e in fresh
        ]
        connection.execute(insert(events), rows)


def _events_of(connection: Connection, release_id: str) -> Sequence[Row[Any]]:
    return connection.execute(select(events).where(events.c.release_id == release_id).order_by(events.c.seq)).all()


def _event(row: Row[Any]) -> Event:
    try:
        data = json.loads(row.data)
    except ValueError:
        raise LedgerBroken(f"event {row.seq} of {row.release_id} is not readable", code="E_CHAIN") from None
    return Event(row.seq, row.at_s, row.kind, data, row.prev, row.hash)
