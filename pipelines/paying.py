"""Which of a service's debts to the registry are due between releases, and what became of them?

Whoever reconciles the service pays, under its lock and only while no release is under way: an alias that moved in the
middle of one would look like somebody else's doing.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.debt import Debt
from pipelines.ending import update_service
from pipelines.errors import Busy, ShipwayError
from pipelines.marking import alias_debt, alias_of, promotion_debts, returned_alias_debts, verdict_debts
from pipelines.outbox import Answer, Told, after_telling, left_untold, tell
from pipelines.ports import Now, Ports
from pipelines.release import Phase, Release
from pipelines.service import Service

PAY_LOCK_S = 60.0


def pay_debts(ports: Ports, service: Service, holder: str, now: Now) -> tuple[Told, ...]:
    """Tell the registry what is due, and record what became of it."""
    if not any(debt.next_s <= now.wall_s for debt in service.owed):
        return ()
    try:
        token = ports.lock.acquire(service.name, holder, PAY_LOCK_S, now)
    except Busy:
        return ()
    try:
        if ports.ledger.summaries(unfinished=True, service=service.name):
            return ()
        return pay(ports, ports.services.load(service.name), now)
    finally:
        ports.lock.release(token)


def pay(ports: Ports, service: Service, now: Now, *, at_once: bool = False) -> tuple[Told, ...]:
    """The same for whoever has the lock; `at_once` also what is not due yet."""
    due = [debt for debt in service.owed if at_once or debt.next_s <= now.wall_s]
    meant = [debt for debt in due if _is_meant(ports, debt)]
    forgotten = tuple(Told(debt, Answer.GONE) for debt in due if debt not in meant)
    told = tell(ports.registry, meant, now.wall_s)
    update_service(ports, service.name, lambda s: s.changed(owed=after_telling(s.owed, (*told, *forgotten))))
    for release_id in dict.fromkeys(t.debt.release_id for t in told):
        _record(ports, ports.ledger.load(release_id), [t for t in told if t.debt.release_id == release_id], now)
    return told


def _is_meant(ports: Ports, debt: Debt) -> bool:
    """Whether its release's end calls for it: one that was shut out may have left a debt that another took back."""
    try:
        release = ports.ledger.load(debt.release_id)
    except ShipwayError:
        return False
    return not debt.alias or (debt.about, debt.version) in {(d.about, d.version) for d in _called_for(release)}


def _called_for(release: Release) -> tuple[Debt, ...]:
    if release.phase is not Phase.PROMOTED:
        return (*returned_alias_debts(release), *verdict_debts(release, release.phase))
    alias = alias_debt(release)
    return (*((alias,) if alias else ()), *promotion_debts(release))


def _record(ports: Ports, release: Release, told: Sequence[Told], now: Now) -> None:
    """What became of the alias, and what will not be told any more; that it is still owed is known already."""
    before, left = release, left_untold(told)
    alias = next((t for t in told if t.debt.alias == alias_of(release) and t.answer is not Answer.OWED), None)
    if alias is not None and release.phase is Phase.PROMOTED:
        release = release.record(now.wall_s, "registry", alias=str(alias.answer), why=alias.why)
    if left:
        release = release.record(now.wall_s, "registry", left=left)
    if release is not before:
        ports.ledger.save(release, before.version)
