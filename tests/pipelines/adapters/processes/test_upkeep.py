"""What is started, stopped, killed or forgotten, and when?"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.adapters.processes.unit_files import Observed
from pipelines.adapters.processes.upkeep import (
    MAX_BACKOFF_S,
    Plan,
    Seen,
    next_backoff_s,
    patience_s,
    plan,
    restarts_after,
    shares_door,
)
from pipelines.ports import Now
from pipelines.records.settings import GatewaySettings, ServerSettings
from pipelines.records.unit import Unit
from pipelines.serving.engines.vllm import STOP_S

SERVER = Unit("s-0", "server", "s", digest="sha256:1", port=20_001)
GATEWAY = Unit("s-gateway", "gateway", "s", port=20_002, settings=GatewaySettings())
NOW = Now(1_000.0, 100.0)


def running(unit: Unit, **fields: object) -> Seen:
    """A process that runs."""
    return replace(Seen(Observed(unit, pid=7), True, 0.0), **fields)


def dead(unit: Unit, **fields: object) -> Seen:
    """A process that ended."""
    return replace(Seen(Observed(unit, pid=7, state="failed"), False, 0.0), **fields)


def wanted(*units: Unit) -> dict[str, Unit]:
    """By name."""
    return {unit.name: unit for unit in units}


def seen(*found: Seen) -> dict[str, Seen]:
    """By name."""
    return {s.observed.unit.name: s for s in found}


CASES = {
    "nothing wanted, nothing there": (wanted(), seen(), Plan()),
    "wanted and running": (wanted(SERVER), seen(running(SERVER)), Plan()),
    "wanted, never seen": (wanted(SERVER), seen(), Plan(start=(SERVER,))),
    "wanted, dead": (wanted(SERVER), seen(dead(SERVER)), Plan(start=(SERVER,))),
    "wanted, dead, waiting": (wanted(SERVER), seen(dead(SERVER, not_before_s=100.5)), Plan()),
    "wanted, dead, waited enough": (wanted(SERVER), seen(dead(SERVER, not_before_s=100.0)), Plan(start=(SERVER,))),
    "not wanted": (wanted(), seen(running(SERVER)), Plan(stop=("s-0",))),
    "not wanted, dead": (wanted(), seen(dead(SERVER)), Plan(forget=("s-0",))),
    "draining": (wanted(), seen(running(SERVER, stopping_since_s=100.0 - patience_s(SERVER))), Plan()),
    "overdue": (wanted(), seen(running(SERVER, stopping_since_s=99.9 - patience_s(SERVER))), Plan(kill=("s-0",))),
    "changed": (wanted(replace(SERVER, digest="sha256:2")), seen(running(SERVER)), Plan(stop=("s-0",))),
    "changed, dead": (wanted(replace(SERVER, digest="sha256:2")), seen(dead(SERVER)), Plan(forget=("s-0",))),
    "wanted again while it drains": (wanted(SERVER), seen(running(SERVER, stopping_since_s=99.0)), Plan()),
    "wanted again, drained": (wanted(SERVER), seen(dead(SERVER, stopping_since_s=99.0)), Plan(forget=("s-0",))),
    "the gateway goes first": (wanted(), seen(running(GATEWAY), running(SERVER)), Plan(stop=("s-gateway",))),
    "and its servers after it": (
        wanted(),
        seen(dead(GATEWAY, stopping_since_s=99.0), running(SERVER)),
        Plan(stop=("s-0",), forget=("s-gateway",)),
    ),
    "another service's gateway does not matter": (
        wanted(),
        seen(running(replace(GATEWAY, service="t"), stopping_since_s=99.0), running(SERVER)),
        Plan(stop=("s-0",)),
    ),
}


CHANGED = replace(GATEWAY, settings=GatewaySettings(slices=("tier",)))
OTHER_PORT, OTHER_ROUTER = replace(GATEWAY, port=20_003), replace(GATEWAY, settings=GatewaySettings(router="haproxy"))


@pytest.mark.parametrize(
    ("unit", "doors", "expected"),
    [
        (CHANGED, ("s-gateway",), Plan(relieve=("s-gateway",))),
        (CHANGED, (), Plan(stop=("s-gateway",))),
        (OTHER_PORT, ("s-gateway",), Plan(stop=("s-gateway",))),
        (OTHER_ROUTER, ("s-gateway",), Plan(stop=("s-gateway",))),
        (GATEWAY, ("s-gateway",), Plan()),
    ],
)
def test_a_gateway_drains_beside_its_successor(unit, doors, expected):
    """Where both are Shipway's, at one door that is ours to lend."""
    assert plan(wanted(unit), seen(running(GATEWAY)), NOW, doors) == expected


def test_servers_stay_while_a_relieved_gateway_drains():
    """Its streams are theirs."""
    leaving = running(replace(GATEWAY, name="s-gateway~7"), stopping_since_s=99.0)
    assert plan(wanted(CHANGED), seen(leaving, running(CHANGED), running(SERVER)), NOW, ("s-gateway",)) == Plan()


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        (CHANGED, True),
        (OTHER_ROUTER, True),
        (OTHER_PORT, False),
        (replace(GATEWAY, settings=GatewaySettings(router="envoy")), False),
        (None, False),
    ],
)
def test_a_door_stays_open_for_who_can_use_it(unit, expected):
    """A gateway at the same port that takes what it is lent."""
    assert shares_door(unit, GATEWAY) is expected


def test_envoys_door_stays_open_for_the_next_envoy():
    """It listens beside Envoy's own sockets, and is of no use to others."""
    envoy = replace(GATEWAY, settings=GatewaySettings(router="envoy"))
    found = [shares_door(replace(unit, digest="sha256:2"), envoy) for unit in (envoy, GATEWAY, OTHER_ROUTER)]
    assert found == [True, False, False]


@pytest.mark.parametrize("case", CASES, ids=lambda name: name.replace(" ", "-"))
def test_plan(case):
    """Every situation of one unit, and the order between a gateway and its servers."""
    units, found, expected = CASES[case]
    assert plan(units, found, NOW) == expected


STATES = st.sampled_from([None, running, dead])
TIMES = st.one_of(st.none(), st.floats(0, 200))


@given(st.booleans(), st.booleans(), STATES, TIMES, st.floats(0, 200))
def test_one_unit_gets_at_most_one_order(is_wanted, is_changed, make, stopping, not_before_s):
    """Nothing is started while it runs, killed before it was asked, or both started and forgotten."""
    unit = replace(SERVER, digest="sha256:2") if is_changed else SERVER
    found = seen(make(SERVER, stopping_since_s=stopping, not_before_s=not_before_s)) if make else {}
    todo = plan(wanted(unit) if is_wanted else {}, found, NOW)
    orders = [len(todo.start), len(todo.stop), len(todo.kill), len(todo.forget)]
    assert sum(orders) <= 1
    assert not (todo.start and make is running)
    assert not (todo.kill and stopping is None)


def test_back_off_doubles_up_to_a_limit():
    """A crash loop costs less and less, and is never given up."""
    waits = [0.0]
    while len(waits) < 10:
        waits.append(next_backoff_s(waits[-1]))
    assert waits == [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, MAX_BACKOFF_S]


def test_only_a_process_that_was_there_is_restarted():
    """The first start is none, and a start that failed was none."""
    failed = replace(dead(SERVER), observed=Observed(SERVER, restarts=3, state="failed"))
    assert [restarts_after(s) for s in (None, dead(SERVER), failed)] == [0, 1, 3]


def test_a_server_with_an_engine_of_its_own_has_more_time_to_end():
    """The engine ends first, after all answers are whole."""
    brought = replace(SERVER, settings=ServerSettings(engine_at="/env/bin/python"))
    assert patience_s(brought) - patience_s(SERVER) >= STOP_S
