"""Looks go on whatever waits for them, and what a look raised reaches whoever waits."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from flows.control.driving import Driving, last_of
from pipelines.errors import StaleWriter
from pipelines.records.release import Phase
from tests.pipelines.rollout.test_look import World


def test_tasks_wait_for_their_phases():
    """The canary's task ends where the bake begins, the bake's at the end."""
    world = World()
    driving = Driving(world.controller(), world.release, world.sleep)
    assert driving.wait(frozenset({Phase.BAKING})).phase in {Phase.BAKING, Phase.PROMOTED}
    assert driving.wait(frozenset()).phase is Phase.PROMOTED
    assert last_of(driving, world.release).phase is Phase.PROMOTED


def test_a_fenced_controller_is_told():
    """The error of a look is raised where the release is waited for; the last state stays known."""
    world = World()
    world.look_until(Phase.CANARY)
    lost = threading.Event()

    def sleep(_: float) -> None:
        lost.set()
        raise StaleWriter("the lock was lost", code="E_FENCED")

    driving = Driving(replace(world.controller()), world.release, sleep)
    with pytest.raises(StaleWriter):
        driving.wait(frozenset({Phase.BAKING}))
    assert lost.is_set()
    assert last_of(driving, world.release).phase is Phase.CANARY
