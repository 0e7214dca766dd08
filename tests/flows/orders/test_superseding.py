"""Does a newer release take the place of one that no user has met, and of no other?"""

from __future__ import annotations

import threading

import pytest

from flows.orders import queueing
from flows.orders.superseding import supersede
from flows.wiring import clock
from pipelines.errors import Busy, Withdrawn
from pipelines.ports import Command
from pipelines.records.reading import unfinished
from pipelines.records.release import Phase
from pipelines.rollout.obeying import abort_unseen
from pipelines.rollout.words import UNSEEN
from pipelines.spec.rollout import StepSpec
from tests.flows.orders.waiting_room import Room, Script
from tests.pipelines.rollout.test_look import SPEC, World

LATE = Command("late", "r1", "abort", "ada", "superseded by s-2", UNSEEN)


@pytest.fixture
def room(tmp_path, monkeypatch) -> Room:
    """Nothing runs."""
    return Room(tmp_path, monkeypatch)


def controlled(room: Room) -> None:
    """Somebody alive works on r1."""
    room.running()
    room.token = room.ports.lock.acquire("s", "release@there/1:7:1.00", 60.0, clock())


def test_what_nobody_has_met_is_aborted_and_the_newer_one_opens(room):
    """Its controller obeys, and the record says who took its place."""
    controlled(room)
    turn = room.line_up(policy="supersede")

    def obey() -> None:
        abort_unseen(room.ports, room.ports.ledger.load("r1"), clock())
        room.ports.lock.release(room.token)

    with room.open(turn, Script(lambda: None, obey)) as (release, _):
        assert release.id == turn.ticket.id
    old = room.ports.ledger.load("r1")
    assert (old.phase, old.reason) == (Phase.ABORTED, f"abort by {turn.ticket.actor}: superseded by {turn.ticket.id}")
    assert room.told == [f"{turn.ticket.id} supersedes r1, which is open"]
    assert room.waiting == []


def test_what_nobody_controls_is_ended_at_once(room):
    """Under its service's lock."""
    room.running()
    turn = room.line_up(policy="supersede")
    with room.open(turn, Script(lambda: None)) as (release, _):
        assert release.id == turn.ticket.id
    assert room.ports.ledger.load("r1").phase is Phase.ABORTED


@pytest.mark.parametrize("phase", [Phase.CANARY, Phase.PROMOTING])
def test_what_users_have_met_is_not_superseded(room, phase):
    """Refused with that reason, exit 8, before anything is written."""
    room.running(phase=phase)
    with pytest.raises(Busy, match=f"release r1 of s is {phase}, .* users have met it") as caught:
        room.line_up(policy="supersede")
    assert (caught.value.exit_code, room.waiting, room.ports.inbox.pending("r1")) == (8, [], ())


def test_what_users_met_meanwhile_is_not_superseded(room):
    """The ticket and the word are taken back, and it is left alone."""
    controlled(room)

    def meets_users() -> None:
        release = room.ports.ledger.load("r1")
        room.ports.ledger.save(release.record(1001.0, "exposing", pct=5, step=0, why="x"), release.version)

    with (
        pytest.raises(Busy, match="users have met it"),
        room.open(room.line_up(policy="supersede"), Script(meets_users)),
    ):
        pass
    assert (room.waiting, room.ports.inbox.pending("r1")) == ([], ())
    assert not room.ports.ledger.load("r1").is_ended


def test_who_stops_waiting_takes_his_word_back(room):
    """What was not obeyed yet is not wanted any more."""
    controlled(room)
    heard = []
    with (
        pytest.raises(Withdrawn),
        room.open(room.line_up(policy="supersede"), Script(lambda: heard.extend(room.ports.inbox.pending("r1")))),
    ):
        pass
    assert [(word.verb, word.about) for word in heard] == [("abort", UNSEEN)]
    assert (room.ports.inbox.pending("r1"), room.waiting) == ((), [])


def test_it_does_not_wait_for_ever(room, monkeypatch):
    """A step that hears nobody."""
    monkeypatch.setattr(queueing, "SUPERSEDE_S", -1.0)
    controlled(room)
    with (
        pytest.raises(Busy, match="has not ended within"),
        room.open(room.line_up(policy="supersede"), Script(lambda: None)),
    ):
        pass
    assert room.waiting == []


def test_what_waits_is_superseded_too(room):
    """It hears which one is newer."""
    older = room.ticket()
    turn = room.line_up("models:/m/4", "supersede")
    with room.open(turn, Script()) as (release, _):
        assert release.id == turn.ticket.id
    assert (older.id in room.waiting, room.waiting) == (False, [])


def test_who_was_replaced_orders_nobody_to_end(room):
    """The newer one has begun by the time that the older one looks at what runs."""
    older, newer = (room.line_up(f"models:/m/{version}", "supersede").ticket for version in (3, 4))
    room.ports.queue.put(older)
    room.ports.queue.put(newer)
    room.running(newer.id)
    with pytest.raises(Busy) as caught:
        supersede(room.ports, older)
    assert (caught.value.code, room.ports.inbox.pending(newer.id)) == ("E_REPLACED", ())


def test_of_two_at_once_one_is_left(room, monkeypatch):
    """Each takes the place of whatever runs; the older one hears so, as a release or as a ticket."""
    monkeypatch.setattr(queueing, "POLL_S", 0.01)
    room.running()
    ends, is_last = {}, threading.Event()

    def ask(version: int) -> None:
        turn = room.line_up(f"models:/m/{version}", "supersede")
        asked.wait()
        try:
            with room.open(turn) as (release, _):
                ends[version] = work(release.id)
        except Busy as error:
            ends[version] = error.code

    def work(release_id: str) -> str:
        while not is_last.wait(0.01):
            if room.ports.inbox.pending(release_id):
                return str(abort_unseen(room.ports, room.ports.ledger.load(release_id), clock()).phase)
        room.ends(release_id)
        return "last"

    asked = threading.Barrier(3)
    threads = [threading.Thread(target=ask, args=(version,)) for version in range(2, 5)]
    for thread in threads:
        thread.start()
    waited = threading.Event()
    for _ in range(6000):
        if len(ends) == 2:
            break
        waited.wait(0.01)
    is_last.set()
    for thread in threads:
        thread.join(60)
    assert list(ends.values()).count("last") == 1
    assert set(ends.values()) <= {"last", "aborted", "E_REPLACED"}
    assert (room.waiting, unfinished(room.ports.ledger)) == ([], ())


# ── what the controller does ────────────────────────────────────────────────────────────────────────────────────────


def test_a_release_that_waits_for_its_first_approval_is_superseded():
    """Nobody has met it."""
    steps = (StepSpec(pct=10, approve=True), StepSpec(pct=50))
    world = World(SPEC.model_copy(update={"rollout": SPEC.rollout.model_copy(update={"steps": steps})}))
    world.look()
    world.ports.inbox.send(LATE)
    world.look()
    assert (world.release.phase, world.release.reason) == (Phase.ABORTED, "abort by ada: superseded by s-2")


def test_a_word_that_comes_after_the_first_users_is_not_obeyed():
    """It was about a release that nobody had met; it holds up no other word, and is answered."""
    world = World()
    world.look_until(Phase.CANARY)
    world.ports.inbox.send(LATE)
    world.ports.inbox.send(Command("p", "r1", "pause", "ada"))
    world.look()
    assert (world.release.phase, world.release.paused, world.share) == (Phase.CANARY, True, 10)
    assert world.ports.inbox.pending("r1") == ()
    assert [said.data["verb"] for said in world.release.of_kind("commanded")] == ["pause"]
