"""Does every Queue keep the port's promises?"""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine

from pipelines.adapters.memory.records import MemoryQueue
from pipelines.adapters.sql.engine import open_engine
from pipelines.adapters.sql.queue import SqlQueue
from pipelines.records.queue import NoQueue, Queue, Ticket

SPEC = {"model": "models:/m/3", "rollout": {"steps": [{"pct": 5.0, "approve": False}]}}
FIRST = Ticket("s-1", "s", SPEC, "/data", "ada", 1000.5, "known; it's meant", "release@here:1:2.00")
SECOND = replace(FIRST, id="s-2", since_s=1001.0, waiter="")
OTHER = replace(FIRST, id="a-1", service="a")


class QueueContract:
    """What a Queue must do."""

    @pytest.fixture
    def queue(self, tmp_path: Path) -> Queue:
        """The adapter under test."""
        raise NotImplementedError

    def test_nothing_waits_at_first(self, queue):
        """And what does not wait cannot be taken."""
        assert (queue.tickets(), queue.take("s-1")) == ((), False)

    def test_a_ticket_comes_back_as_it_was(self, queue):
        """Every field of it."""
        queue.put(FIRST)
        assert queue.tickets() == (FIRST,)

    def test_the_newest_of_a_service_waits(self, queue):
        """The one before it is gone; it cannot be taken any more, and takes nobody with it."""
        queue.put(FIRST)
        queue.put(SECOND)
        assert (queue.tickets(), queue.take(FIRST.id), queue.tickets()) == ((SECOND,), False, (SECOND,))

    def test_services_have_their_own(self, queue):
        """In the order of their names."""
        queue.put(FIRST)
        queue.put(OTHER)
        assert queue.tickets() == (OTHER, FIRST)

    def test_a_ticket_is_taken_once(self, queue):
        """The second who asks is told so."""
        queue.put(FIRST)
        queue.put(OTHER)
        assert (queue.take(FIRST.id), queue.take(FIRST.id), queue.tickets()) == (True, False, (OTHER,))

    def test_the_same_ticket_again_changes_nothing(self, queue):
        """A delivery that is repeated."""
        queue.put(FIRST)
        queue.put(FIRST)
        assert queue.tickets() == (FIRST,)

    def test_of_many_at_once_one_waits(self, queue):
        """And it is one of them, whole."""
        tickets = [replace(FIRST, id=f"s-{n}", since_s=float(n)) for n in range(8)]
        threads = [threading.Thread(target=queue.put, args=(ticket,)) for ticket in tickets]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (left,) = queue.tickets()
        assert left in tickets


class TestMemoryQueue(QueueContract):
    """The in-memory adapter."""

    @pytest.fixture
    def queue(self, tmp_path: Path) -> Queue:
        """An empty one."""
        return MemoryQueue()


class TestSqlQueue(QueueContract):
    """The real one, on SQLite."""

    @pytest.fixture
    def queue(self, tmp_path: Path) -> Queue:
        """On an empty database."""
        return SqlQueue(open_engine(tmp_path / "ledger.db"))


@pytest.mark.postgres
class TestPostgresQueue(QueueContract):
    """The same SQL on a real PostgreSQL."""

    @pytest.fixture
    def queue(self, postgres_engine: Engine) -> Queue:
        """On an empty ledger."""
        return SqlQueue(postgres_engine)


def test_no_queue_keeps_nothing():
    """Where none is wired."""
    queue = NoQueue()
    queue.put(FIRST)
    assert (queue.tickets(), queue.take(FIRST.id)) == ((), False)
