"""How does a release lie in rows? Its events as they are, and beside them what they say together."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, bindparam, insert, select, update

from pipelines.adapters.sql.tables import BROKEN_CHARACTERS, events, releases
from pipelines.errors import LedgerBroken
from pipelines.records.release import Event, Release
from pipelines.records.summary import Summary, read_summary, summary_of

UNREADABLE = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What a record raises that was altered, or that a newer Shipway wrote."""


def row_of(release: Release) -> dict[str, Any]:
    """What is kept beside a release's events."""
    summary = summary_of(release)
    return {
        "service": release.service,
        "version": release.version,
        "ended": int(release.is_ended),
        "started_at_s": release.started_at_s,
        "phase": summary.phase,
        "broken": "",
        "summary": summary.as_text(),
    }


def summary_of_row(row: Row[Any]) -> Summary:
    """The summary that a row keeps."""
    known = {"id": row.id, "service": row.service, "started_at_s": row.started_at_s, "is_ended": row.ended != 0}
    summary = read_summary(row.summary, known)
    return summary.as_broken(row.broken) if row.broken else summary


def append(connection: Connection, release_id: str, fresh: Sequence[Event]) -> None:
    """Write a release's next events."""
    rows = [{**vars(e), "release_id": release_id, "data": json.dumps(e.data, sort_keys=True)} for e in fresh]
    if rows:
        connection.execute(insert(events), rows)


def written_events(connection: Connection, release_id: str) -> Sequence[Row[Any]]:
    """The rows of a release's events."""
    columns = [column for column in events.c if column is not events.c.release_id]
    query = select(*columns).where(events.c.release_id == release_id).order_by(events.c.seq)
    return connection.execute(query).all()


def fold(row: Row[Any], written: Sequence[Row[Any]]) -> Release:
    """The release of its rows. LedgerBroken names it where the record was altered, cut or cannot be read."""
    try:
        release = Release.fold(_events(_complete(row.version, written)))
        summary_of(release)
    except (LedgerBroken, *UNREADABLE) as error:
        reason = error.reason if isinstance(error, LedgerBroken) else f"an event cannot be read ({error!r})"
        raise LedgerBroken(
            f"release {row.id}: {reason}",
            code="E_CHAIN",
            field=row.id,
            hint=f"restore the ledger from a backup, or shipway resolve {row.id}; nothing was written",
        ) from None
    return release


def said_of(error: LedgerBroken) -> str:
    """Why a record is broken, as its row keeps it: one short line."""
    line = "".join(c if c.isprintable() else "?" for c in error.reason)
    return line.removeprefix(f"release {error.field}: ")[:BROKEN_CHARACTERS]


def sum_up_all(connection: Connection) -> None:
    """Give every release its summary, in a ledger whose rows have none. One that is broken stays, and says so."""
    query = update(releases).where(releases.c.id == bindparam("of"))
    for row in connection.execute(select(releases)).all():
        connection.execute(query, {"of": row.id, **_summed_up(row, written_events(connection, row.id))})


def _summed_up(row: Row[Any], written: Sequence[Row[Any]]) -> Mapping[str, Any]:
    try:
        kept = row_of(fold(row, written))
    except LedgerBroken as error:
        known = Summary(row.id, row.service, started_at_s=row.started_at_s, is_ended=row.ended != 0)
        return {"broken": said_of(error), "summary": known.as_text()}
    return {name: kept[name] for name in ("phase", "broken", "summary")}


def _complete(version: int, written: Sequence[Row[Any]]) -> Sequence[Row[Any]]:
    """The rows of the events. A chain does not show by itself that its end was cut off; the count does."""
    if len(written) != version:
        raise LedgerBroken(f"{version} events were written, {len(written)} are there")
    return written


def _events(rows: Sequence[Row[Any]]) -> Iterable[Event]:
    return (Event(r.seq, r.at_s, r.kind, json.loads(r.data), r.prev, r.hash) for r in rows)
