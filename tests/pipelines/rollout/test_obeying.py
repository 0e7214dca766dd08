"""A word that no controller hears, under a lock that somebody else took: the clock and the token are the caller's."""

from __future__ import annotations

import pytest

from pipelines.ports import Command, Now
from pipelines.records.release import Phase
from pipelines.rollout.obeying import abort_unseen, hold_unseen, obey
from tests.pipelines.rollout.test_look import World


@pytest.fixture
def world() -> World:
    """A qualified release that no user has met."""
    return World()


LATE = Now(5000.0, 5000.0)


def test_a_word_is_obeyed_at_the_callers_instant(world):
    """Home under his token, and every event at his time."""
    world.look_until(Phase.CANARY)
    known = len(world.release.events)
    world.ports.inbox.send(Command("c", "r1", "rollback", "ada", "slow"))
    ended = obey(world.ports, world.release, world.token, LATE)
    assert (ended.phase, ended.reason, world.share) == (Phase.ROLLED_BACK, "rollback by ada: slow", 0)
    assert {event.at_s for event in ended.events[known:]} == {5000.0}


def test_what_no_user_met_is_aborted_without_touching_traffic(world):
    """Who said so is recorded, his word is answered, and the servers are not wanted any more."""
    before = world.ports.router.read("s")
    world.ports.inbox.send(Command("c", "r1", "abort", "ada", "wrong file"))
    ended = obey(world.ports, world.release, world.token, LATE)
    assert (ended.phase, ended.reason) == (Phase.ABORTED, "abort by ada: wrong file")
    assert world.ports.router.read("s") == before
    assert world.ports.inbox.pending("r1") == ()
    assert world.ports.services.load("s").candidate is None


def test_an_abort_without_a_word_says_that_it_was_stopped(world):
    """A signal leaves no name."""
    assert abort_unseen(world.ports, world.release, LATE).reason == "stopped"


def test_what_nobody_can_go_on_with_is_held(world):
    """With the reason; its candidate is not kept, since no user met it."""
    ended = hold_unseen(world.ports, world.release, "no worker starts", LATE)
    assert (ended.phase, ended.reason, ended.ended_at_s) == (Phase.HELD, "no worker starts", 5000.0)
    assert world.ports.services.load("s").candidate is None


def test_what_has_ended_is_not_held_again(world):
    """Somebody was faster."""
    ended = abort_unseen(world.ports, world.release, LATE)
    assert hold_unseen(world.ports, ended, "no worker starts", LATE) is ended
