"""Does every Lock keep the port's promises?"""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine

from pipelines.adapters.memory.records import MemoryLock
from pipelines.adapters.sql.engine import open_engine
from pipelines.adapters.sql.lock import SqlLock
from pipelines.errors import Busy, StaleWriter
from pipelines.ports import Lock, Now, Token


def at(wall_s: float) -> Now:
    """An instant; the monotonic clock of another process says nothing here."""
    return Now(wall_s, 0.0)


class LockContract:
    """What a Lock must do."""

    @pytest.fixture
    def lock(self, tmp_path: Path) -> Lock:
        """The adapter under test."""
        raise NotImplementedError

    def test_a_free_lock_is_taken(self, lock):
        """The token says who, and until when."""
        assert lock.acquire("s", "a", 60.0, at(100.0)) == Token("s", "a", 1, 160.0)
        assert lock.holder("s", at(100.0)) == "a"

    def test_a_held_lock_is_refused_by_the_holders_name(self, lock):
        """Exit code 8; the holder's lease is untouched."""
        lock.acquire("s", "a", 60.0, at(100.0))
        with pytest.raises(Busy) as caught:
            lock.acquire("s", "b", 60.0, at(159.9))
        assert ("a" in caught.value.reason, caught.value.exit_code) == (True, 8)
        assert lock.holder("s", at(159.9)) == "a"

    def test_services_are_locked_apart(self, lock):
        """Another service is another lock."""
        lock.acquire("s", "a", 60.0, at(100.0))
        assert lock.acquire("t", "b", 60.0, at(100.0)).fence == 1

    def test_a_lease_ends(self, lock):
        """At its end somebody else may have it, with a higher fence."""
        first = lock.acquire("s", "a", 60.0, at(100.0))
        assert lock.holder("s", at(160.0)) is None
        assert lock.acquire("s", "b", 60.0, at(160.0)).fence == first.fence + 1

    def test_a_renewal_keeps_it(self, lock):
        """Same fence, later end."""
        token = lock.renew(lock.acquire("s", "a", 60.0, at(100.0)), 60.0, at(150.0))
        assert token == Token("s", "a", 1, 210.0)
        assert lock.holder("s", at(209.0)) == "a"

    def test_a_lease_that_ended_unnoticed_can_be_renewed(self, lock):
        """Nobody took it meanwhile, so nothing was lost."""
        token = lock.acquire("s", "a", 60.0, at(100.0))
        assert lock.renew(token, 60.0, at(500.0)).fence == token.fence

    def test_a_lost_lock_cannot_be_renewed(self, lock):
        """A controller that slept must stop; the new holder keeps its lease."""
        old = lock.acquire("s", "a", 60.0, at(100.0))
        lock.acquire("s", "b", 60.0, at(200.0))
        with pytest.raises(StaleWriter):
            lock.renew(old, 60.0, at(201.0))
        assert lock.holder("s", at(259.0)) == "b"

    def test_the_same_holder_with_an_old_fence_is_stale(self, lock):
        """The fence decides, not the name."""
        old = lock.acquire("s", "a", 60.0, at(100.0))
        lock.acquire("s", "a", 60.0, at(200.0))
        with pytest.raises(StaleWriter):
            lock.renew(old, 60.0, at(201.0))

    def test_a_lock_is_given_back(self, lock):
        """Free at once, and the one who gave it back cannot renew it."""
        token = lock.acquire("s", "a", 60.0, at(100.0))
        lock.release(token)
        assert lock.holder("s", at(101.0)) is None
        with pytest.raises(StaleWriter):
            lock.renew(token, 60.0, at(101.0))

    def test_the_fence_survives_giving_back(self, lock):
        """It only ever grows."""
        fences = []
        for n in range(3):
            token = lock.acquire("s", f"holder {n}", 60.0, at(100.0))
            lock.release(token)
            fences.append(token.fence)
        assert fences == [1, 2, 3]

    def test_giving_back_a_lost_lock_changes_nothing(self, lock):
        """Its new holder keeps it."""
        old = lock.acquire("s", "a", 60.0, at(100.0))
        lock.acquire("s", "b", 60.0, at(200.0))
        lock.release(old)
        assert lock.holder("s", at(201.0)) == "b"

    def test_giving_back_what_was_never_taken_is_fine(self, lock):
        """Nothing happens."""
        lock.release(Token("s", "a", 1, 0.0))
        assert lock.holder("s", at(0.0)) is None

    def test_renewing_what_was_never_taken_is_stale(self, lock):
        """A made-up token opens nothing."""
        with pytest.raises(StaleWriter):
            lock.renew(Token("s", "a", 1, 160.0), 60.0, at(100.0))

    def test_a_dead_holder_loses_it(self, lock):
        """Free at once; whoever was called dead in error cannot renew, and the fence grows."""
        token = lock.acquire("s", "a", 60.0, at(100.0))
        lock.revoke("s", "a")
        assert lock.holder("s", at(101.0)) is None
        with pytest.raises(StaleWriter):
            lock.renew(token, 60.0, at(101.0))
        assert lock.acquire("s", "b", 60.0, at(101.0)).fence == token.fence + 1

    def test_revoking_hits_nobody_else(self, lock):
        """Between the look at the dead one and the word somebody else may have it."""
        lock.acquire("s", "b", 60.0, at(100.0))
        lock.revoke("s", "a")
        lock.revoke("t", "a")
        assert lock.holder("s", at(101.0)) == "b"

    def test_a_forged_holder_cannot_renew(self, lock):
        """Fence and holder must both be right."""
        token = lock.acquire("s", "a", 60.0, at(100.0))
        with pytest.raises(StaleWriter):
            lock.renew(replace(token, holder="b"), 60.0, at(101.0))


class TestMemoryLock(LockContract):
    """The in-memory adapter."""

    @pytest.fixture
    def lock(self, tmp_path: Path) -> Lock:
        """A new one."""
        return MemoryLock()


class TestSqlLock(LockContract):
    """The real one, on SQLite."""

    @pytest.fixture
    def lock(self, tmp_path: Path) -> Lock:
        """On an empty database."""
        return SqlLock(open_engine(tmp_path / "ledger.db"))

    def test_the_fence_outlives_the_process(self, tmp_path):
        """Another engine on the same file goes on counting."""
        for expected in (1, 2):
            engine = open_engine(tmp_path / "other.db")
            lock = SqlLock(engine)
            token = lock.acquire("s", "a", 60.0, at(100.0))
            lock.release(token)
            engine.dispose()
            assert token.fence == expected

    def test_one_of_many_wins(self, lock):
        """Sixteen threads want it at the same instant: one gets it, the others are told who did."""
        won: list[Token] = []
        refused: list[Busy] = []

        def take(name: str) -> None:
            try:
                won.append(lock.acquire("s", name, 60.0, at(100.0)))
            except Busy as error:
                refused.append(error)

        threads = [threading.Thread(target=take, args=(f"holder {n}",)) for n in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(won), len(refused)) == (1, 15)
        assert all(won[0].holder in error.reason for error in refused)


@pytest.mark.postgres
class TestPostgresLock(LockContract):
    """The same SQL on a real PostgreSQL."""

    @pytest.fixture
    def lock(self, postgres_engine: Engine) -> Lock:
        """On an empty ledger."""
        return SqlLock(postgres_engine)
