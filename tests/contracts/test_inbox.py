"""Does every Inbox keep the port's promises?"""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine

from pipelines.adapters.memory.records import MemoryInbox
from pipelines.adapters.sql.engine import open_engine
from pipelines.adapters.sql.inbox import SqlInbox
from pipelines.ports import Command, Inbox

PAUSE = Command("c2", "r1", "pause", "alice", about="step 2")
ABORT = Command("c1", "r1", "abort", "bob", "it's wrong; stop")


class InboxContract:
    """What an Inbox must do."""

    @pytest.fixture
    def inbox(self, tmp_path: Path) -> Inbox:
        """The adapter under test."""
        raise NotImplementedError

    def test_an_empty_inbox_has_nothing(self, inbox):
        """For any release."""
        assert inbox.pending("r1") == ()

    def test_commands_wait_in_the_order_they_were_sent(self, inbox):
        """Not by id, not by verb."""
        inbox.send(PAUSE)
        inbox.send(ABORT)
        assert inbox.pending("r1") == (PAUSE, ABORT)

    def test_the_same_id_again_changes_nothing(self, inbox):
        """A delivery that is repeated, even with another body, is one command."""
        inbox.send(PAUSE)
        inbox.send(PAUSE)
        inbox.send(Command(PAUSE.id, "r1", "promote", "mallory"))
        assert inbox.pending("r1") == (PAUSE,)

    def test_what_was_obeyed_does_not_wait(self, inbox):
        """And it does not come back when it is sent again."""
        inbox.send(PAUSE)
        inbox.send(ABORT)
        inbox.done(PAUSE.id)
        inbox.send(PAUSE)
        assert inbox.pending("r1") == (ABORT,)

    def test_releases_have_their_own_commands(self, inbox):
        """Another release's controller does not see them."""
        inbox.send(ABORT)
        assert inbox.pending("r2") == ()

    def test_marking_an_unknown_command_is_fine(self, inbox):
        """Nothing happens, to the others neither."""
        inbox.send(PAUSE)
        inbox.done("c9")
        assert inbox.pending("r1") == (PAUSE,)


class TestMemoryInbox(InboxContract):
    """The in-memory adapter."""

    @pytest.fixture
    def inbox(self, tmp_path: Path) -> Inbox:
        """An empty one."""
        return MemoryInbox()


class TestSqlInbox(InboxContract):
    """The real one, on SQLite."""

    @pytest.fixture
    def inbox(self, tmp_path: Path) -> Inbox:
        """On an empty database."""
        return SqlInbox(open_engine(tmp_path / "ledger.db"))


@pytest.mark.postgres
class TestPostgresInbox(InboxContract):
    """The same SQL on a real PostgreSQL."""

    @pytest.fixture
    def inbox(self, postgres_engine: Engine) -> Inbox:
        """On an empty ledger."""
        return SqlInbox(postgres_engine)
