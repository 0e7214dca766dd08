"""How does a service go back to its previous version, after promotion too? At once, whatever the registry says.

Traffic is first: `shipway up` is asked only where the parked version does not answer by itself.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack, suppress

from flows.control.background import start_up
from flows.control.holders import holder
from flows.control.lock import Held, exposed_ttl_s, hold
from flows.wiring import actor, clock
from pipelines.errors import Busy, DependencyDown
from pipelines.home import Home
from pipelines.ports import Ports
from pipelines.records.reading import readable, unfinished
from pipelines.records.release import Release
from pipelines.records.service import Service
from pipelines.rollout.way_home import Order, awake, check_bytes, check_target, go_back, refuse_again
from pipelines.services.change import update_service

LOCK_S = 60.0
LOCK_TRIES = 600
"""Who reconciles a service, or goes back himself, holds its lock for a moment only, or for as long as a
registry hangs that is asked for an alias: a minute."""

ASK_AGAIN_S = 0.1
CARRIED_OUT_S = 90.0


def order_home(home: Home, ports: Ports, service: Service, reason: str, force: str = "") -> Release:
    """Go back now; where nobody runs what should answer, `up` is started, and it goes on with the order.

    What forbids it is said before anything moves: E_HOME_ALREADY, E_NO_TARGET, E_TAKEN_AWAY, a damaged bundle.
    """
    refuse_again(next(readable(ports.ledger, service.name), None), service, clock(), force)
    _, previous = check_target(service, force)
    check_bytes(previous, force)
    try:
        return back_to_previous(ports, service, reason, force)
    except DependencyDown:
        update_service(ports, service.name, lambda parked: awake(parked, clock()))
        start_up(home)
        return _carried_out(ports, service, reason, force)


def back_to_previous(
    ports: Ports, service: Service, reason: str, force: str = "", sleep: Callable[[float], None] = time.sleep
) -> Release:
    """The parked previous version becomes stable now.

    BadInput E_NO_TARGET where there is none, E_TAKEN_AWAY where a person took it away and `force` gives no reason.
    """
    check_target(service, force)
    with ExitStack() as stack:
        held = _held_soon(stack, ports, service.name, sleep)
        order = Order(f"{service.name}-back-{uuid.uuid4().hex[:6]}", actor(), reason, force)
        return go_back(ports, service.name, held.token, order, clock())


def _held_soon(stack: ExitStack, ports: Ports, service: str, sleep: Callable[[float], None]) -> Held:
    for _ in range(LOCK_TRIES):
        with suppress(Busy):
            return stack.enter_context(hold(ports, service, holder("rollback"), exposed_ttl_s(LOCK_S)))
        sleep(ASK_AGAIN_S)
    return stack.enter_context(hold(ports, service, holder("rollback"), exposed_ttl_s(LOCK_S)))


def _carried_out(ports: Ports, service: Service, reason: str, force: str) -> Release:
    """The order's end, by `up` where it was recorded, and otherwise by this process once the servers are there."""
    deadline_s = clock().mono_s + CARRIED_OUT_S
    while True:
        try:
            order = newest_order(ports, service.name)
            if order is None:
                return back_to_previous(ports, service, reason, force)
            return wait_ended(ports, order, deadline_s)
        except DependencyDown:
            if clock().mono_s > deadline_s:
                raise
            time.sleep(ASK_AGAIN_S)


def newest_order(ports: Ports, service: str) -> Release | None:
    """The way home that is under way."""
    return next((r for r in unfinished(ports.ledger, service) if r.is_way_home), None)


def wait_ended(ports: Ports, release: Release, deadline_s: float) -> Release:
    """The release once it has ended. DependencyDown E_CONTROLLER where that takes too long."""
    while not release.is_ended:
        if clock().mono_s > deadline_s:
            raise DependencyDown(
                f"{release.id} is not carried out yet",
                code="E_CONTROLLER",
                field=release.service,
                hint=f"shipway status {release.id}; shipway resolve {release.id} ends it",
            )
        time.sleep(ASK_AGAIN_S)
        release = ports.ledger.load(release.id)
    return release
