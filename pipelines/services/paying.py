"""Which of a service's debts to the registry are due, and what became of them?

Whoever reconciles the service pays, whatever else goes on: an alias that names what serves is known to every release.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from pipelines.errors import ShipwayError, StaleWriter
from pipelines.ports import Now, Ports
from pipelines.records.debt import Debt
from pipelines.records.release import Phase, Release
from pipelines.records.service import Service
from pipelines.services.change import update_service
from pipelines.services.marking import alias_debts, alias_of, promotion_debts, returned_alias_debts, verdict_debts
from pipelines.services.outbox import Answer, Told, after_telling, left_untold, tell_alone


def pay_debts(ports: Ports, service: Service, now: Now, *, at_once: bool = False) -> tuple[Told, ...]:
    """Tell the registry what is due, or all of it `at_once`, and record what became of it.

    What a release owes that is still under way is told by its own controller.
    """
    due = [debt for debt in service.owed if at_once or debt.next_s <= now.wall_s]
    ended = {name: release for name in {d.release_id for d in due} if (release := _ended(ports, name))}
    ripe = [debt for debt in due if debt.release_id in ended]
    meant = [debt for debt in ripe if _is_meant(ended[debt.release_id], debt)]
    if not ripe:
        return ()
    forgotten = tuple(Told(debt, Answer.GONE) for debt in ripe if debt not in meant)
    told = tell_alone(ports, service.name, meant, now, patience_s=None)
    update_service(ports, service.name, lambda s: s.changed(owed=after_telling(s.owed, (*told, *forgotten))))
    for release_id in dict.fromkeys(t.debt.release_id for t in told):
        with suppress(StaleWriter):  # its controller adds to its record just now
            _record(ports, ports.ledger.load(release_id), [t for t in told if t.debt.release_id == release_id], now)
    return told


def _ended(ports: Ports, release_id: str) -> Release | None:
    """The release, where it can be read and is over."""
    try:
        release = ports.ledger.load(release_id)
    except ShipwayError:
        return None
    return release if release.is_ended else None


def _is_meant(release: Release, debt: Debt) -> bool:
    """Whether the release's end calls for it: a controller that was shut out may have left what another took back."""
    return not debt.alias or (debt.about, debt.version) in {(d.about, d.version) for d in _called_for(release)}


def _called_for(release: Release) -> tuple[Debt, ...]:
    if release.phase is not Phase.PROMOTED:
        return (*returned_alias_debts(release), *verdict_debts(release, release.phase))
    return (*alias_debts(release), *promotion_debts(release))


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
