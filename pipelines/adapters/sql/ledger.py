"""The ledger in SQL: events are only ever appended, and each release has a row that says what they say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from sqlalchemy import Connection, Engine, Row, Select, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from pipelines.adapters.sql.engine import reading, transaction
from pipelines.adapters.sql.records import append, fold, row_of, said_of, summary_of_row, written_events
from pipelines.adapters.sql.tables import ASIDE, BROKEN_CHARACTERS, releases
from pipelines.errors import Busy, LedgerBroken, NotFound, ShipwayError, StaleWriter
from pipelines.records.release import ENDS, Release
from pipelines.records.summary import Summary, summary_of


class SqlLedger:
    """Implements `ports.Ledger` and `ports.Archive`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def create(self, release: Release) -> None:
        """Record a new release. Busy where the id exists."""
        try:
            with transaction(self._engine) as connection:
                connection.execute(insert(releases).values(id=release.id, **row_of(release)))
                append(connection, release.id, release.events)
        except IntegrityError:
            raise Busy(f"release {release.id} exists already", code="E_EXISTS", field="id") from None

    def load(self, release_id: str) -> Release:
        """The release of its events, whose chain is verified. Its row is set right where it says something else."""
        with reading(self._engine) as connection:
            row = _row(connection, release_id)
            written = written_events(connection, release_id)
        try:
            release = fold(row, written)
        except LedgerBroken as error:
            if row.broken != said_of(error):
                self._correct(row, {"broken": said_of(error)})
            raise
        if summary_of_row(row) != summary_of(release):
            self._correct(row, row_of(release))
        return release

    def save(self, release: Release, expected_version: int) -> None:
        """Append what came after `expected_version`. StaleWriter where another writer was there first."""
        where = (releases.c.id == release.id) & (releases.c.version == expected_version) & (releases.c.ended != ASIDE)
        stale = StaleWriter(f"release {release.id} is not at version {expected_version} any more")
        try:
            with transaction(self._engine) as connection:
                if connection.execute(update(releases).where(where).values(**row_of(release))).rowcount != 1:
                    raise stale
                append(connection, release.id, release.events[expected_version:])
        except IntegrityError:
            raise stale from None

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
        query = select(releases).order_by(releases.c.started_at_s.desc(), releases.c.id).limit(limit)
        if unfinished:
            query = query.where(releases.c.ended == 0)
        if service is not None:
            query = query.where(releases.c.service == service)
        if broken:
            query = query.where(releases.c.broken != "")
        with reading(self._engine) as connection:
            if before is not None:
                query = _after(query, _row(connection, before))
            return tuple(map(summary_of_row, connection.execute(query)))

    def tally(self) -> Mapping[tuple[str, str], int]:
        """How many releases are there by service and outcome?"""
        columns = [releases.c[name] for name in ("service", "phase", "ended", "broken")]
        found: Counter[tuple[str, str]] = Counter()
        with reading(self._engine) as connection:
            for row in connection.execute(select(*columns, func.count().label("n")).group_by(*columns)):
                found[row.service, _state(row)] += row.n
        return found

    def set_aside(self, release_id: str, why: str) -> None:
        """End a record that can neither be read nor written."""
        said = why.strip()[:BROKEN_CHARACTERS] or "set aside"
        with transaction(self._engine) as connection:
            _row(connection, release_id)
            where = releases.c.id == release_id
            connection.execute(update(releases).where(where).values(ended=ASIDE, broken=said))

    def _correct(self, row: Row[Any], values: Mapping[str, Any]) -> None:
        """Set a row right that was read, unless somebody wrote meanwhile. Whoever only reads is never held up by it."""
        where = (releases.c.id == row.id) & (releases.c.version == row.version) & (releases.c.ended != ASIDE)
        with suppress(ShipwayError), transaction(self._engine) as connection:
            connection.execute(update(releases).where(where).values(**values))


def _row(connection: Connection, release_id: str) -> Row[Any]:
    row = connection.execute(select(releases).where(releases.c.id == release_id)).first()
    if row is None:
        raise NotFound(f"there is no release {release_id[:80]!r}", field="ID", hint="shipway list")
    return row


def _after(query: Select[Any], last: Row[Any]) -> Select[Any]:
    """What follows a row, newest first."""
    earlier, same = releases.c.started_at_s < last.started_at_s, releases.c.started_at_s == last.started_at_s
    return query.where(or_(earlier, same & (releases.c.id > last.id)))


def _state(row: Any) -> str:
    if row.broken or row.ended == ASIDE or (row.ended and row.phase not in ENDS):
        return "broken"
    return str(row.phase) if row.ended else "running"
