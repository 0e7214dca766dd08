"""Does what runs match what a service should run?

`up` asks this again and again: after a crash, a reboot or a finished CI runner the answer brings everything back.
Nothing that the router points at is ever removed.
"""

from __future__ import annotations

from pipelines.errors import Busy, DependencyDown, ShipwayError
from pipelines.ports import Now, Ports
from pipelines.records.service import Service
from pipelines.services.change import settle
from pipelines.services.traffic import make_stable
from pipelines.services.units import wanted_units

REPAIR_LOCK_S = 10.0


def reconcile(ports: Ports, service: Service, holder: str, now: Now) -> None:
    """Ensure every wanted unit, remove the others, and give a gateway without a stable arm its arm back.

    Where nobody works on the service, what an ended release left behind is cleared away, too.
    """
    service = _settled(ports, service, now)
    wanted = wanted_units(service, now.wall_s)
    existing = {unit.name: unit for unit in ports.runtime.units(service.name)}
    for unit in wanted:
        if unit.name not in existing:
            ports.runtime.ensure(unit)
    if not service.wanted:
        _remove(ports, tuple(existing))
        return
    routed = _routed_digests(ports, service)
    if routed is not None:
        keep = {unit.name for unit in wanted} | {u.name for u in existing.values() if u.digest in routed}
        _remove(ports, tuple(name for name in existing if name not in keep))
        _repair(ports, service, routed, holder, now)


def _settled(ports: Ports, service: Service, now: Now) -> Service:
    """The service without what an ended release left behind; a record that cannot be read stops nothing."""
    try:
        return settle(ports, service, now) if ports.lock.holder(service.name, now) is None else service
    except ShipwayError:
        return service


def _remove(ports: Ports, names: tuple[str, ...]) -> None:
    for name in names:
        ports.runtime.remove(name)


def _routed_digests(ports: Ports, service: Service) -> set[str] | None:
    """Which digests the router points at, or None where it does not answer: then nothing is removed."""
    try:
        split = ports.router.read(service.name)
    except DependencyDown:
        return None
    return {arm.digest for arm in (split.stable, split.canary) if arm is not None}


def _repair(ports: Ports, service: Service, routed: set[str], holder: str, now: Now) -> None:
    """A gateway that lost its snapshot serves nobody: stable is known, so say it again, under the lock."""
    if routed or service.stable is None:
        return
    try:
        token = ports.lock.acquire(service.name, holder, REPAIR_LOCK_S, now)
    except Busy:
        return
    try:
        make_stable(ports, service.name, service.stable.digest, token, "reconciled")
    except ShipwayError:
        return
    finally:
        ports.lock.release(token)
