"""One writer per service, in SQL: a lease with a fencing token that only ever grows."""

from __future__ import annotations

from sqlalchemy import Connection, Engine, insert, select, update
from sqlalchemy.exc import IntegrityError

from pipelines.adapters.sql.engine import reading, transaction
from pipelines.adapters.sql.tables import locks
from pipelines.errors import Busy, StaleWriter
from pipelines.ports import Now, Token


class SqlLock:
    """Implements `ports.Lock`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def acquire(self, service: str, holder: str, ttl_s: float, now: Now) -> Token:
        """Take the lock, or Busy naming the holder. Time is `now`, not the database's."""
        try:
            return self._acquire(service, holder, ttl_s, now)
        except IntegrityError:  # another one took it for the very first time, between our look and our write
            return self._acquire(service, holder, ttl_s, now)

    def renew(self, token: Token, ttl_s: float, now: Now) -> Token:
        """Keep it. StaleWriter where somebody else acquired it since."""
        fresh = Token(token.service, token.holder, token.fence, now.wall_s + ttl_s)
        mine = (locks.c.service == token.service) & (locks.c.fence == token.fence) & (locks.c.holder == token.holder)
        with transaction(self._engine) as connection:
            if connection.execute(update(locks).where(mine).values(until_s=fresh.until_s)).rowcount != 1:
                raise StaleWriter(f"the lock of {token.service} is held by another", code="E_FENCED")
        return fresh

    def release(self, token: Token) -> None:
        """Give it back; the fence stays, so that the next holder's is higher."""
        mine = (locks.c.service == token.service) & (locks.c.fence == token.fence)
        with transaction(self._engine) as connection:
            connection.execute(update(locks).where(mine).values(holder="", until_s=0.0))

    def revoke(self, service: str, holder: str) -> None:
        """Free it, where `holder` still has it; the fence stays."""
        its = (locks.c.service == service) & (locks.c.holder == holder)
        with transaction(self._engine) as connection:
            connection.execute(update(locks).where(its).values(holder="", until_s=0.0))

    def _acquire(self, service: str, holder: str, ttl_s: float, now: Now) -> Token:
        query = select(locks).where(locks.c.service == service).with_for_update()
        with transaction(self._engine) as connection:
            row = connection.execute(query).one_or_none()
            if row is not None and row.holder and row.until_s > now.wall_s:
                raise Busy(f"{service} is held by {row.holder}", field="service", hint="shipway list")
            token = Token(service, holder, (row.fence if row is not None else 0) + 1, now.wall_s + ttl_s)
            _put(connection, token, exists=row is not None)
        return token

    def holder(self, service: str, now: Now) -> str | None:
        """Who holds it now?"""
        query = select(locks.c.holder).where(locks.c.service == service, locks.c.until_s > now.wall_s)
        with reading(self._engine) as connection:
            return connection.execute(query).scalar() or None


def _put(connection: Connection, token: Token, *, exists: bool) -> None:
    values = {"holder": token.holder, "fence": token.fence, "until_s": token.until_s}
    if exists:
        connection.execute(update(locks).where(locks.c.service == token.service).values(**values))
    else:
        connection.execute(insert(locks).values(service=token.service, **values))
