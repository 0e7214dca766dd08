"""Does `up` begin what waits, once, in its turn, and not for ever?"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

import pytest

from flows.control.holders import holder
from flows.up.waiting import MOST_TRIES, WaitingReleases
from pipelines.errors import DependencyDown
from pipelines.ports import Now
from tests.flows.orders.waiting_room import Room


@dataclass
class Worker:
    """A process that runs until somebody says how it ended."""

    code: int | None = None

    def poll(self) -> int | None:
        """Its exit code."""
        return self.code


class Kept:
    """A room, what waits in it, and everything that was started."""

    def __init__(self, room: Room) -> None:
        self.room, self.started, self.mono_s = room, [], 0.0
        self.waiting = WaitingReleases(room.ports, self._start)

    def _start(self, ticket) -> Worker:
        self.started.append((ticket.id, Worker()))
        return self.started[-1][1]

    def look(self, after_s: float = 1.0) -> list[str]:
        """One look; the ids of everything that was started so far."""
        self.mono_s += after_s
        self.waiting.look(Now(self.mono_s, self.mono_s))
        return [ticket_id for ticket_id, _ in self.started]


@pytest.fixture
def kept(tmp_path, monkeypatch) -> Kept:
    """Nothing waits."""
    return Kept(Room(tmp_path, monkeypatch))


def test_what_waits_begins_when_its_service_is_free(kept):
    """Once."""
    assert kept.look() == []
    kept.room.running()
    ticket = kept.room.ticket()
    assert kept.look() == []
    kept.room.ends("r1")
    assert [kept.look(), kept.look(1000.0)] == [[ticket.id], [ticket.id]]


def test_a_living_command_begins_its_own(kept):
    """A killed one does not: its ticket is begun here."""
    code = "from flows.control.holders import holder; print(holder('release'), flush=True)"
    gone = subprocess.check_output([sys.executable, "-c", code], text=True).strip()
    kept.room.ticket(waiter=holder("release"))
    assert kept.look() == []
    ticket = kept.room.ticket(waiter=gone)
    assert kept.look() == [ticket.id]


def test_a_start_that_fails_is_tried_again_later_and_later_and_not_for_ever(kept):
    """Then it is said."""
    ticket = kept.room.ticket()
    for tries in range(1, MOST_TRIES + 1):
        assert kept.look(0.5) == [ticket.id] * tries
        kept.started[-1][1].code = 7
        assert kept.look(min(2.0**tries, 300.0) - 0.5) == [ticket.id] * tries
    assert kept.room.waiting == [ticket.id]
    assert kept.look() == [ticket.id] * MOST_TRIES
    assert kept.room.waiting == []
    assert kept.room.ports.notifier.sentences == [(ticket.id, "it was queued, and could not begin in 20 tries")]


def test_what_has_begun_waits_no_more(kept):
    """Its worker died between the record and the queue; whoever takes the release over finishes it."""
    ticket = kept.room.ticket()
    kept.room.running(ticket.id)
    assert (kept.look(), kept.room.waiting) == ([], [])


def test_a_newer_ticket_is_begun_although_an_older_one_failed(kept):
    """Its tries are its own."""
    kept.room.ticket()
    kept.look()
    kept.started[-1][1].code = 7
    newer = kept.room.ticket("models:/m/4")
    assert kept.look(0.1)[-1] == newer.id


def test_a_ticket_that_cannot_be_looked_at_holds_up_no_other(kept, monkeypatch, caplog):
    """And is named once."""
    first, second = kept.room.ticket(service="a"), kept.room.ticket(service="b")
    load = kept.room.ports.ledger.load

    def broken(release_id: str):
        if release_id == first.id:
            raise DependencyDown("its record is broken")
        return load(release_id)

    monkeypatch.setattr(kept.room.ports.ledger, "load", broken)
    assert (kept.look(), kept.look()) == ([second.id], [second.id])
    assert [record.message for record in caplog.records if "broken" in record.message] == [
        f"{first.id} waits: E_DEPENDENCY: its record is broken"
    ]
