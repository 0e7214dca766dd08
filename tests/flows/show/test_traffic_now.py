"""Is a gateway that cannot answer yet told apart from one that should?"""

from __future__ import annotations

import pytest

from flows.show.traffic_now import live_of, traffic_line
from pipelines.errors import DependencyDown
from pipelines.records.service import Service
from tests.pipelines.rollout.test_look import World


@pytest.fixture
def world(monkeypatch) -> World:
    """A world whose gateway does not answer."""
    world = World()

    def away(_: str) -> None:
        raise DependencyDown("the gateway does not answer: [Errno 2] No such file or directory", code="E_ROUTER")

    monkeypatch.setattr(world.ports.router, "read", away)
    return world


@pytest.mark.parametrize("record", [None, Service("s2"), Service("s2", wanted=True)])
def test_before_the_first_promotion_nothing_serves_yet(world, record):
    """Which is normal, and said so; a script finds it where it finds what is not known."""
    if record is not None:
        world.ports.services.save(record)
    live = live_of(world.ports, "s2")
    assert live == {"unknown": "nothing serves yet", "idle": True}
    assert traffic_line(live) == "nothing serves yet"


def test_a_service_that_was_stopped_is_no_alarm(world):
    """A person wanted it."""
    world.ports.services.save(world.ports.services.load("s").changed(wanted=False))
    assert traffic_line(live_of(world.ports, "s")) == "s is stopped (shipway down)"


def test_a_gateway_that_should_answer_is_one(world):
    """The error stands there."""
    assert traffic_line(live_of(world.ports, "s")).startswith("unknown: E_ROUTER: the gateway does not answer")


def test_a_split_is_said_in_shares():
    """Read back from the router."""
    world = World()
    assert traffic_line(live_of(world.ports, "s")) == "all at stable"
    world.look()
    assert traffic_line(live_of(world.ports, "s")).startswith("canary 10 %, lease ")
