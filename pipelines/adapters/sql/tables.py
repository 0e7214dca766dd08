"""The tables that the SQL adapters share, alike on SQLite and PostgreSQL."""

from __future__ import annotations

from sqlalchemy import Column, Float, ForeignKey, Index, Integer, MetaData, PrimaryKeyConstraint, String, Table, Text

BROKEN_CHARACTERS = 300

tables = MetaData()

meta = Table("meta", tables, Column("name", String(40), primary_key=True), Column("value", Integer, nullable=False))

releases = Table(
    "releases",
    tables,
    Column("id", String(200), primary_key=True),
    Column("service", String(128), nullable=False, index=True),
    Column("version", Integer, nullable=False),
    Column("ended", Integer, nullable=False, index=True),
    Column("started_at_s", Float, nullable=False),
    Column("phase", String(40), nullable=False, server_default=""),
    Column("broken", String(BROKEN_CHARACTERS), nullable=False, server_default=""),
    Column("summary", Text, nullable=False, server_default=""),
)
"""`phase`, `broken` and `summary` are what the events say, so that lists and counts read none of them.

`ended` is 0, 1, or `ASIDE`: ended by a person's word on a record that cannot be written any more.
"""

ASIDE = 2

Index("releases_newest", releases.c.started_at_s.desc(), releases.c.id)
Index("releases_newest_of", releases.c.service, releases.c.started_at_s.desc(), releases.c.id)
Index("releases_counted", releases.c.service, releases.c.phase, releases.c.ended, releases.c.broken)
_IS_BROKEN = releases.c.broken != ""
Index("releases_broken", releases.c.broken, sqlite_where=_IS_BROKEN, postgresql_where=_IS_BROKEN)

events = Table(
    "events",
    tables,
    Column("release_id", String(200), ForeignKey("releases.id"), nullable=False),
    Column("seq", Integer, nullable=False),
    Column("at_s", Float, nullable=False),
    Column("kind", String(40), nullable=False),
    Column("data", Text, nullable=False),
    Column("prev", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
    PrimaryKeyConstraint("release_id", "seq"),
)

services = Table(
    "services",
    tables,
    Column("name", String(128), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("body", Text, nullable=False),
)

commands = Table(
    "commands",
    tables,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("id", String(200), nullable=False, unique=True),
    Column("release_id", String(200), nullable=False, index=True),
    Column("verb", String(20), nullable=False),
    Column("actor", String(200), nullable=False),
    Column("reason", Text, nullable=False),
    Column("done", Integer, nullable=False),
    Column("about", String(200), nullable=False, server_default=""),
)

locks = Table(
    "locks",
    tables,
    Column("service", String(128), primary_key=True),
    Column("holder", String(300), nullable=False),
    Column("fence", Integer, nullable=False),
    Column("until_s", Float, nullable=False),
)

queue = Table(
    "queue",
    tables,
    Column("service", String(128), primary_key=True),
    Column("id", String(200), nullable=False, unique=True),
    Column("body", Text, nullable=False),
)
