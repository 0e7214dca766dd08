"""Whose turn is it, where a second release is asked for while one runs?"""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from flows.control.holders import holder
from flows.control.lock import hold
from flows.control.opening import check_turn, opened
from flows.orders import queueing
from flows.orders.queueing import begun, withdraw
from flows.wiring import clock
from pipelines.errors import BadInput, Busy, DependencyDown, ShipwayError, Withdrawn
from pipelines.records.reading import unfinished
from pipelines.records.release import Phase
from pipelines.stages.intake import AlreadyLive
from tests.flows.orders.waiting_room import CHALLENGER, Room, Script


@pytest.fixture
def room(tmp_path, monkeypatch) -> Room:
    """Nothing runs."""
    return Room(tmp_path, monkeypatch)


# ── refuse ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_refusal_names_the_release_and_its_phase(room):
    """Whoever holds the lock, and whatever he is called."""
    room.running()
    room.ports.lock.acquire("s", "resume@there/1:7:1.00", 60.0, clock())
    with (
        pytest.raises(Busy, match=r"release r1 of s is open, held by resume@there/1:7:1\.00"),
        hold(room.ports, "s", holder("adopt")),
    ):
        pass


def test_a_lock_without_a_release_names_its_holder(room):
    """A way home, or an adoption."""
    room.ports.lock.acquire("s", "adopt@there/1:7:1.00", 60.0, clock())
    with pytest.raises(Busy, match=r"adopt@there/1:7:1\.00"), hold(room.ports, "s", holder("release")):
        pass


def test_what_would_be_refused_needs_no_ticket(room):
    """Not even its model is looked up before it is opened."""
    room.running()
    turn = room.line_up("models:/nobody/1", "refuse")
    assert (turn.ticket, room.waiting) == (None, [])
    with pytest.raises(Busy, match="release r1 of s is open"), room.open(turn):
        pass


def test_nothing_older_goes_before_what_is_queued(room):
    """It would be released after the newer one; it says how to take its place."""
    ticket = room.ticket()
    with (
        pytest.raises(Busy, match=f"release {ticket.id} of s .models:/m/3, by ada. is queued") as caught,
        opened(CHALLENGER, room.ports, room.home, room.folder, holder("release")),
    ):
        pass
    assert caught.value.code == "E_BUSY"
    assert room.ports.ledger.summaries() == ()


# ── queue ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_free_service_is_not_waited_for(room):
    """The ticket's id is the release's; who asked, and when, is in its record."""
    turn = room.line_up("models:/m@challenger")
    with room.open(turn) as (release, held):
        assert (release.id, release.sealed.version, held.token.service) == (turn.ticket.id, 2, "s")
        assert room.waiting == []
    opening = release.events[0].data
    assert (opening["actor"], opening["asked_at"]) == (turn.ticket.actor, turn.ticket.since_s)
    assert room.told == []


def test_it_waits_for_what_runs_and_says_so_once(room):
    """Through its phases, and through the release that comes after it."""
    room.running()
    turn = room.line_up()
    script = Script(lambda: None, lambda: (room.ends("r1"), room.running("r2")), lambda: None, lambda: room.ends("r2"))
    with room.open(turn, script) as (release, _):
        assert (release.id, script.actions) == (turn.ticket.id, [])
    assert room.told == [f"queued as {turn.ticket.id}: waits for {name}, which is open" for name in ("r1", "r2")]


def test_it_waits_for_a_lock_too(room):
    """A way home holds the service without a release of its own for a moment."""
    token = room.ports.lock.acquire("s", "rollback@there/1:7:1.00", 60.0, clock())
    turn = room.line_up()
    with room.open(turn, Script(lambda: room.ports.lock.release(token))) as (release, _):
        assert release.id == turn.ticket.id
    assert room.told == [f"queued as {turn.ticket.id}: waits for rollback@there/1:7:1.00"]


def test_what_is_released_is_what_was_asked_for(room):
    """The alias was moved while it waited."""
    room.running()
    turn = room.line_up("models:/m@challenger")
    script = Script(lambda: room.ports.registry.mark("m", aliases={"challenger": 4}), lambda: room.ends("r1"))
    with room.open(turn, script) as (release, _):
        assert (release.sealed.version, release.spec["model"]) == (2, "models:/m/2")


def test_the_newest_waits_and_the_older_one_is_told(room):
    """Exit 8, with the name of the newer; the newer one's ticket is left alone."""
    room.running()
    turn, newer = room.line_up(), replace(room.line_up("models:/m/4").ticket, actor="bob")
    with (
        pytest.raises(Busy, match=f"{newer.id} .models:/m/4, by bob. is newer") as caught,
        room.open(turn, Script(lambda: room.ports.queue.put(newer))),
    ):
        pass
    assert (caught.value.code, caught.value.exit_code, room.waiting) == ("E_REPLACED", 8, [newer.id])


def test_who_stops_waiting_takes_his_ticket_back(room):
    """Ctrl-C: exit 6, and nothing of it had begun."""
    room.running()
    with pytest.raises(Withdrawn, match="nothing of it had begun") as caught, room.open(room.line_up(), Script()):
        pass
    assert (caught.value.exit_code, room.waiting, len(room.ports.ledger.summaries())) == (6, [], 1)


def test_a_person_takes_a_ticket_out(room):
    """The command that waits for it hears that; taking it again takes nothing."""
    room.running()
    turn = room.line_up()
    with (
        pytest.raises(Withdrawn, match="was taken out of the queue"),
        room.open(turn, Script(lambda: withdraw(room.ports, turn.ticket.id, "not today"))),
    ):
        pass
    assert withdraw(room.ports, turn.ticket.id, "again") is None
    assert room.ports.notifier.sentences == [(turn.ticket.id, "not today")]


@pytest.mark.parametrize("error", [BadInput("worse"), AlreadyLive("m version 3 is already live"), DependencyDown("x")])
def test_what_cannot_begin_in_its_turn_does_not_wait_on(room, error):
    """The command hears it; `up` does not begin it again."""
    room.running()
    room.fails = error
    with pytest.raises(type(error)), room.open(room.line_up(), Script(lambda: room.ends("r1"))):
        pass
    assert room.waiting == []


@pytest.mark.parametrize("model", ["models:/m@challenger", "models:/m/2"])
def test_the_same_release_is_gone_on_with(room, model):
    """It was interrupted: whoever asks for it again waits for nobody, by its alias or by the version that it names."""
    asked = CHALLENGER.model_copy(update={"model": model})
    with opened(asked, room.ports, room.home, room.folder, holder("release")) as (release, _):
        pass
    turn = room.line_up(model)
    assert turn.ticket is None
    with room.open(turn) as (again, _):
        assert again.id == release.id


def test_an_alias_that_moved_names_another_release(room):
    """Though the spec is the same, letter by letter."""
    with opened(CHALLENGER, room.ports, room.home, room.folder, holder("release")):
        pass
    room.ports.registry.mark("m", aliases={"challenger": 4})
    assert room.line_up("models:/m@challenger").ticket.spec["model"] == "models:/m/4"


@pytest.mark.parametrize(("busy", "detach", "policy", "left"), [
    (True, True, "queue", True),
    (False, True, "queue", False),
    (True, False, "queue", False),
    (False, True, "supersede", False),
])  # fmt: skip
def test_only_a_detached_ticket_that_must_wait_is_left_to_up(room, busy, detach, policy, left):
    """Everything else is begun by the command that asked, which can still say what is wrong with it."""
    if busy:
        room.running()
    waiter = room.line_up(policy=policy, detach=detach).ticket.waiter
    assert waiter == ("" if left else holder("release"))


def test_of_many_at_once_one_runs_and_the_newest_is_the_last(room, monkeypatch):
    """Each begins in its turn, or hears which one is newer; never two at a time."""
    monkeypatch.setattr(queueing, "POLL_S", 0.01)
    room.running()
    began, replaced, alive = [], [], []

    def ask(version: int) -> None:
        turn = room.line_up(f"models:/m/{version}")
        asked.wait()
        try:
            with room.open(turn) as (release, _):
                alive.append(release.id)
                began.append((release.id, tuple(alive)))
                alive.remove(release.id)
                room.ends(release.id)
        except Busy as error:
            replaced.append((turn.ticket.id, error.code))

    asked = threading.Barrier(5)
    threads = [threading.Thread(target=ask, args=(version,)) for version in range(2, 6)]
    for thread in threads:
        thread.start()
    asked.wait()
    room.ends("r1")
    for thread in threads:
        thread.join(60)
    assert len(began) + len(replaced) == 4
    assert began
    assert {code for _, code in replaced} <= {"E_REPLACED"}
    assert all(together == (release_id,) for release_id, together in began)
    assert (room.waiting, unfinished(room.ports.ledger)) == ([], ())


# ── what is left to `up` ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_ticket_is_begun_by_a_worker(room):
    """In the name of who asked for it."""
    ticket = room.ticket(since_s=1000.0)
    with begun(ticket, room.ports, room.home) as (release, _):
        assert (release.id, release.events[0].data["actor"], room.waiting) == (ticket.id, "ada", [])


@pytest.mark.parametrize("error", [BadInput("these files were convicted before"), AlreadyLive("m is already live")])
def test_a_ticket_that_cannot_begin_is_taken_out_and_said(room, error):
    """And never tried again."""
    ticket, room.fails = room.ticket(), error
    with pytest.raises(type(error)), begun(ticket, room.ports, room.home):
        pass
    assert (room.waiting, room.ports.notifier.sentences) == (
        [],
        [(ticket.id, f"it was queued, and cannot begin: {error}")],
    )


def test_a_ticket_of_another_shipway_is_taken_out(room):
    """Its spec has a key that this one does not know."""
    ticket = room.ticket(spec={"model": "models:/m/3", "hat": "blue"})
    with pytest.raises(BadInput, match="cannot be read any more"), begun(ticket, room.ports, room.home):
        pass
    assert room.waiting == []


@pytest.mark.parametrize("happens", ["down", "busy", "replaced"])
def test_a_ticket_that_cannot_begin_yet_waits_on(room, happens):
    """MLflow is down, somebody was faster, or a newer one came, which waits instead."""
    ticket = room.ticket()
    if happens == "down":
        room.fails = DependencyDown("MLflow is down")
    elif happens == "busy":
        room.running()
    left = room.ticket("models:/m/4") if happens == "replaced" else ticket
    with pytest.raises(ShipwayError), begun(ticket, room.ports, room.home):
        pass
    assert room.waiting == [left.id]
    assert room.ports.notifier.sentences == []


def test_an_error_of_the_release_itself_is_no_error_of_its_ticket(room):
    """It had begun."""
    with pytest.raises(BadInput, match="later"), begun(room.ticket(), room.ports, room.home):
        raise BadInput("later")
    assert room.ports.notifier.sentences == []
    assert room.ports.ledger.summaries()[0].phase == Phase.OPEN


def test_a_newer_one_that_has_begun_already_is_named(room):
    """Its ticket is gone by then: that is no person's doing."""
    older = room.ticket()
    with room.open(room.line_up("models:/m/4", "queue")) as (release, _):
        with pytest.raises(Busy, match=release.id) as caught:
            check_turn(room.ports, older.service, older)
        assert caught.value.code == "E_REPLACED"
