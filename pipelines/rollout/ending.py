"""How does a release end? Promoted in five writes of a fixed order, or home in four.

Promote: ledger intent → router (stable := candidate) → service record → registry alias → ledger PROMOTED. After a
kill the *router's* stable decides: the candidate → go on; the old one → roll back. An alias that somebody else moved
takes the promotion back; a registry that cannot be told otherwise holds nothing up, and is owed it
(`services/outbox.py`).
Home: router → ledger → service record (quarantine) → notifier → registry. The failure of a later one never holds up an
earlier.
"""

from __future__ import annotations

from typing import Any

from pipelines.errors import NotFound, StaleWriter
from pipelines.ports import Now, Ports, Token
from pipelines.records.release import Phase, Release
from pipelines.rollout.decision import RollBack
from pipelines.services.change import change_if_there, relabel, retire_candidate
from pipelines.services.marking import alias_debts, promotion_debts, returned_alias_debts, verdict_debts
from pipelines.services.outbox import Answer, Told, after_telling, left_untold, tell_alone
from pipelines.services.traffic import make_stable, send_home, shut_out_others


def promote(ports: Ports, release: Release, token: Token, why: str, now: Now) -> Release:
    """Make the candidate stable, then say so. Safe to kill at any point."""
    before, label = release, _label(release)
    release = release.enter(Phase.PROMOTING, now.wall_s, why=why, label=label)
    ports.ledger.save(release, before.version)
    return carry_out(ports, release, token, now)


def _label(release: Release) -> str:
    """What a promotion has not been held against: nothing, or an adopted endpoint that no offline gate can ask."""
    if not release.champion:
        return "unproven"
    return "" if release.champion["bundle"] else "unproven offline"


def carry_out(ports: Ports, release: Release, token: Token, now: Now) -> Release:
    """Promote what the record says is being promoted."""
    make_stable(ports, release.service, release.sealed.bundle_digest, token, f"{release.id}: promoted")
    return _after_the_router(ports, release, token, now)


def resume_promotion(ports: Ports, release: Release, token: Token, now: Now) -> Release:
    """Finish a promotion that was interrupted: what the router shows as stable decides."""
    stable = shut_out_others(ports, release.service, token).stable
    if stable is not None and stable.digest == release.sealed.bundle_digest:
        return _after_the_router(ports, release, token, now)
    return take_back(ports, release, token, "the promotion was interrupted, and the router shows the old stable", now)


def take_back(ports: Ports, release: Release, token: Token, why: str, now: Now) -> Release:
    """End a promotion at home: what was stable before it is stable again, and the candidate is not accused."""
    old = stable_before(release)
    make_stable(ports, release.service, old, token, f"{release.id}: taken back")
    relabel(ports, release, old, now.wall_s, returned_alias_debts(release))
    return end_at_home(ports, release, RollBack(why, convicts=False), {}, now)


def stable_before(release: Release) -> str | None:
    """Which bytes were stable when the release began? None on a first release."""
    return str(release.champion["digest"]) if release.champion else None


def go_home(
    ports: Ports, release: Release, token: Token, decision: RollBack, look: dict[str, Any], now: Now
) -> Release:
    """All traffic to stable, then the record: which end, and whether the bytes are convicted."""
    send_home(ports, release, token)
    return end_at_home(ports, release, decision, look, now)


def end_at_home(ports: Ports, release: Release, decision: RollBack, look: dict[str, Any], now: Now) -> Release:
    """Record an end whose traffic is already at stable."""
    before = release
    if look:
        release = release.record(now.wall_s, "looked", **look)
    release = release.record(now.wall_s, "went_home", why=decision.why)
    if decision.end is Phase.ROLLED_BACK and decision.convicts:
        release = release.record(now.wall_s, "convicted", why=decision.why)
    release = release.enter(decision.end, now.wall_s, why=decision.why)
    ports.ledger.save(release, before.version)
    retire_candidate(ports, release, now)
    ports.notifier.send(release, f"{decision.end}: {decision.why}")
    return tell_registry(ports, release, now)


def _after_the_router(ports: Ports, release: Release, token: Token, now: Now) -> Release:
    alias = alias_debts(release)
    owed = (*alias, *promotion_debts(release))
    relabel(ports, release, release.sealed.bundle_digest, now.wall_s, owed)
    told = tell_alone(ports, release.service, alias, now)
    if any(t.answer is Answer.MOVED for t in told):
        return take_back(ports, release, token, told[0].why, now)
    try:
        return conclude_promoted(ports, release, told, now)
    except StaleWriter:
        _leave_no_alias(ports, release, now)
        raise


def conclude_promoted(ports: Ports, release: Release, told: tuple[Told, ...], now: Now) -> Release:
    """Record that the candidate serves and what became of the alias; then tell the registry the rest."""
    before = release
    for t in told:
        release = release.record(now.wall_s, "registry", alias=str(t.answer), why=t.why)
    promoted = release.enter(Phase.PROMOTED, now.wall_s, why=release.reason, label=release.label)
    ports.ledger.save(promoted, before.version)
    ports.notifier.send(promoted, "promoted")
    return tell_registry(ports, promoted, now, told)


def tell_registry(ports: Ports, release: Release, now: Now, before: tuple[Told, ...] = ()) -> Release:
    """Tell the registry what the service owes it of an ended release; what cannot be told any more is recorded.

    Nothing waits for this: what the registry does not take stays owed.
    """
    asked = {t.debt.about for t in before}
    try:
        owed = ports.services.load(release.service).owed
    except NotFound:  # a first release that ended before it had a service
        owed = verdict_debts(release, release.phase)
    mine = (debt for debt in owed if debt.release_id == release.id and debt.about not in asked)
    told = tell_alone(ports, release.service, mine, now, before)
    if told:
        change_if_there(ports, release.service, lambda s: s.changed(owed=after_telling(s.owed, told)))
    left = left_untold(told[len(before) :])
    if not left:
        return release
    noted = release.record(now.wall_s, "registry", left=left)
    ports.ledger.save(noted, release.version)
    return noted


def _leave_no_alias(ports: Ports, release: Release, now: Now) -> None:
    """This controller is shut out: where its promotion was taken back meanwhile, so is the alias that it moved."""
    stable = ports.router.read(release.service).stable
    if stable is None or stable.digest != release.sealed.bundle_digest:
        tell_alone(ports, release.service, returned_alias_debts(release), now)
