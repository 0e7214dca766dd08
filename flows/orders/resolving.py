"""How is a state left that nothing else leaves? A release is ended as the router shows it; a service is forgotten."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, replace

from flows.control.holders import holder, living_holder
from flows.control.lock import hold
from flows.orders.commands import obey_now
from flows.wiring import actor, clock
from pipelines.errors import BadInput, Busy, DependencyDown, LedgerBroken, NotFound
from pipelines.home import Home
from pipelines.ports import Command, Ports
from pipelines.records.reading import newest_first
from pipelines.records.release import Phase, Release
from pipelines.records.service import Service
from pipelines.records.split import TrafficSplit
from pipelines.rollout.ending import resume_promotion
from pipelines.rollout.obeying import home_unrecorded
from pipelines.rollout.way_home import named
from pipelines.services.change import update_service
from pipelines.services.paying import pay_debts
from pipelines.services.units import servers_of


def resolve_release(ports: Ports, release_id: str, force: str) -> Release | str:
    """The release after it was ended; for a record that cannot be read, the sentence that says it was set aside."""
    try:
        release = ports.ledger.load(release_id)
    except LedgerBroken as broken:
        return _set_aside(ports, release_id, broken, force)
    if release.is_ended:
        return _settle_registry(ports, release, force)
    _shut_out(ports, release.service, force)
    if release.phase is Phase.PROMOTING and not release.is_way_home:
        with hold(ports, release.service, holder("resolve")) as held:
            return resume_promotion(ports, ports.ledger.load(release.id), held.token, clock())
    ports.inbox.send(Command(f"{release.id}-resolve", release.id, "abort", actor(), force or "resolved"))
    return obey_now(ports, release)


def _shut_out(ports: Ports, service: str, force: str) -> None:
    """Nobody else works on the service from now on. Busy where somebody does, and no reason was given."""
    living = living_holder(ports, service, clock())
    if living is None:
        return
    if not force:
        raise Busy(
            f"{service} is worked on by {living}",
            field="ID",
            hint='shipway abort ID ends it in good order; --force "the reason" shuts its controller out',
        )
    ports.lock.revoke(service, living)


def _settle_registry(ports: Ports, release: Release, force: str) -> Release:
    """What the registry was not told is told once more; with a reason it is dropped, and the record says so."""
    service = ports.services.load(release.service)
    mine = [debt for debt in service.owed if debt.release_id == release.id]
    if not mine:
        raise BadInput(f"release {release.id} has ended: {release.phase}", code="E_ENDED", field="ID")
    if force:
        dropped = [f"{debt.named()}: dropped by {actor()}: {force}" for debt in mine]
        update_service(ports, service.name, lambda s: s.changed(owed=tuple(d for d in s.owed if d not in mine)))
        noted = release.record(clock().wall_s, "registry", left=dropped)
        ports.ledger.save(noted, release.version)
        return noted
    pay_debts(ports, service, clock(), at_once=True)
    return ports.ledger.load(release.id)


def _set_aside(ports: Ports, release_id: str, broken: LedgerBroken, force: str) -> str:
    """A record that nobody can read holds nothing up any more; its bytes in the ledger stay as they are.

    Whatever share its canary has goes home by the gateway alone, and its lease would end there anyway.
    """
    row = next(r for r in newest_first(ports.ledger) if r.id == release_id)
    _shut_out(ports, row.service, force)
    with hold(ports, row.service, holder("resolve")):
        if not row.is_ended:
            with suppress(DependencyDown, NotFound):
                split = home_unrecorded(ports, row.service)
                update_service(ports, row.service, lambda s: _as_routed(s, split))
        ports.ledger.set_aside(release_id, f"set aside by {actor()}: {force or 'resolved'}; {broken.reason}")
    return f"{release_id} cannot be read ({broken.reason}); it is set aside, and holds nothing up any more"


def _as_routed(service: Service, split: TrafficSplit) -> Service:
    """The service as its router shows it: the broken release may have been promoted just before."""
    candidate, serves = service.candidate, split.stable.digest if split.stable else None
    if candidate is None or candidate.digest != serves:
        return service.changed(candidate=None)
    return service.changed(stable=replace(candidate, keep_until_s=None), previous=service.stable, candidate=None)


ROUND_S = 1.0
"""A round of `up` that began before still wants the units; the next one does not."""


@dataclass(frozen=True)
class Removed:
    """What was stopped with a service, or will be by the next `up`, and what the registry goes on saying."""

    units: tuple[str, ...]
    alias: str


def remove_service(home: Home, ports: Ports, name: str, force: str) -> Removed:
    """Stop what runs for it and forget its record. Without a reason only one that serves nobody and is left alone.

    NotFound; BadInput E_SERVES; Busy where a release of it is under way.
    """
    service = ports.services.load(name)
    stable = service.stable
    serves = stable is not None and not servers_of(ports, name, stable.digest).dead_reason and service.wanted
    if serves and not force:
        raise BadInput(
            f"{name} serves {named(stable) if stable else ''}",
            code="E_SERVES",
            field="SERVICE",
            expected="a service that is taken down, or a reason",
            hint=f'shipway down {name} first, or --force "the reason"',
        )
    _shut_out(ports, name, force)
    with hold(ports, name, holder("remove")) as held:
        for row in ports.ledger.summaries(unfinished=True, service=name):
            _end_with_service(ports, row.id, force)
        update_service(ports, name, lambda s: s.changed(wanted=False))
        for ticket in ports.queue.tickets():
            if ticket.service == name:
                ports.queue.take(ticket.id)
        time.sleep(ROUND_S)
        taken = ports.services.load(name)
        units = tuple(unit.name for unit in ports.runtime.units(name))
        for unit in units:
            ports.runtime.remove(unit)
        ports.services.remove(taken)
        # A later service of this name begins without what this one's gateway remembered.
        for left in (*(home.folder("run") / f"{name}.{kind}" for kind in ("split", "token")), home.admin_socket(name)):
            left.unlink(missing_ok=True)
        del held
    alias = f"{stable.model}@{stable.alias} → {stable.version}" if stable and stable.model else ""
    return Removed(units, alias)


def _end_with_service(ports: Ports, release_id: str, force: str) -> None:
    """Its servers and its gateway go: whatever it was doing, it is over."""
    if not force:
        raise Busy(
            f"release {release_id} is under way", field="SERVICE", hint=f"shipway abort {release_id}, or --force REASON"
        )
    why = f"its service was removed by {actor()}: {force}"
    try:
        release = ports.ledger.load(release_id)
    except LedgerBroken:
        ports.ledger.set_aside(release_id, why)
        return
    ended = release.enter(Phase.ABORTED, clock().wall_s, why=why)
    ports.ledger.save(ended, release.version)
