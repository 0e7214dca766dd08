"""What does `up` put right when a controller died between two writes?"""

from __future__ import annotations

import pytest

from pipelines.errors import DependencyDown
from pipelines.records.release import Phase
from pipelines.services.reconcile import reconcile
from tests.pipelines.rollout.test_look import NEW, World


def ended(phase: Phase, errors: int = 0) -> World:
    """A world whose release has ended in its record, and whose controller died of the next write."""
    world = World()
    world.look_until(Phase.CANARY)
    save = world.ports.services.save

    def dies(_):
        raise DependencyDown("the disk is full", code="E_LEDGER_IO")

    world.ports.services.save = dies
    with pytest.raises(DependencyDown):
        world.look_until(phase, errors=errors)
    world.ports.services.save = save
    world.ports.lock.release(world.token)
    return world


def test_convicted_bytes_are_quarantined_even_where_their_controller_died():
    """The record says convicted: the next `up` takes the candidate down and quarantines its files."""
    world = ended(Phase.ROLLED_BACK, errors=3)
    assert not world.ports.services.load("s").quarantined
    reconcile(world.ports, world.ports.services.load("s"), "up", world.now())
    service = world.ports.services.load("s")
    assert (service.candidate, list(service.quarantined)) == (None, ["sha256:src"])
    assert NEW not in {unit.digest for unit in world.ports.runtime.units("s")}


def test_a_release_that_runs_keeps_its_candidate():
    """Nobody holds its lock for the moment; that is no end."""
    world = World()
    world.look_until(Phase.CANARY)
    world.ports.lock.release(world.token)
    reconcile(world.ports, world.ports.services.load("s"), "up", world.now())
    assert world.ports.services.load("s").candidate.digest == NEW
    assert NEW in {unit.digest for unit in world.ports.runtime.units("s")}
