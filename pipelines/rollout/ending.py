"""How does a release end? Promoted in five writes of a fixed order, or home in four.

Promote: ledger intent → router (stable := candidate) → service record → registry alias → ledger PROMOTED. After a
kill the *router's* stable decides: the candidate → go on; the old one → roll back. An alias that somebody else moved
takes the promotion back; a registry that cannot be told otherwise holds nothing up, and is owed it (`outbox.py`).
Home: router → ledger → service record (quarantine) → notifier → registry. The failure of a later one never holds up an
earlier.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from pipelines.errors import DependencyDown, NotFound, StaleWriter
from pipelines.ports import Now, Ports, Token
from pipelines.records.debt import Debt
from pipelines.records.release import Phase, Release
from pipelines.records.service import Deployment, Service
from pipelines.rollout.decision import RollBack
from pipelines.services.marking import alias_debts, alias_of, promotion_debts, returned_alias_debts, verdict_debts
from pipelines.services.outbox import Answer, Told, after_telling, left_untold, tell_alone, with_debts
from pipelines.services.traffic import make_stable, send_home, shut_out_others

SAVE_TRIES = 5
CONTAINER_MEMORY_MB = 4096
"""A container without a limit could take the machine down with all other servers."""


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
    _retire_candidate(ports, release, now)
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
        _change_if_there(ports, release.service, lambda s: s.changed(owed=after_telling(s.owed, told)))
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


def relabel(
    ports: Ports, release: Release, digest: str | None, now_s: float, debts: Sequence[Debt] = (), taken_away: str = ""
) -> Service:
    """The service record after `digest` became stable: the old stable is parked for its `retain_s`.

    Where a person took the old one away, it is quarantined for the reason `taken_away`; what is stable is not.
    StaleWriter where another controller has ended this release meanwhile, and the service may have gone on since.
    """

    def relabelled(service: Service) -> Service:
        if ports.ledger.load(release.id).is_ended:
            raise StaleWriter(f"release {release.id} has been ended by another", code="E_FENCED")
        owed = with_debts((d for d in service.owed if d.release_id != release.id), debts)
        old = service.stable
        if (old.digest if old else None) == digest:
            return service.changed(owed=owed)
        new = next((d for d in (service.candidate, service.previous) if d is not None and d.digest == digest), None)
        if new is None and digest is not None:
            return service  # another controller ended this release meanwhile
        quarantined = {**service.quarantined, **({old.identity: taken_away} if old and taken_away else {})}
        if new is not None:
            quarantined.pop(new.identity, None)
        return service.changed(
            stable=replace(new, since_s=now_s, keep_until_s=None) if new else None,
            previous=replace(old, keep_until_s=now_s + service.retain_s) if old else None,
            candidate=None,
            quarantined=quarantined,
            owed=owed,
        )

    return update_service(ports, release.service, relabelled)


def settle(ports: Ports, service: Service, now: Now) -> Service:
    """Retire a candidate whose release has ended: its controller died after the record and before this."""
    candidate = service.candidate
    if candidate is None or candidate.keep_until_s is not None:
        return service
    release = ports.ledger.load(candidate.release_id)
    return _retire_candidate(ports, release, now) if release.is_ended else service


def _retire_candidate(ports: Ports, release: Release, now: Now) -> Service:
    """A convicted digest is quarantined; one that users met and that is held stays warm for `retain`; the rest goes."""
    is_warm = release.phase is Phase.HELD and release.last("went_home") is not None

    def retired(service: Service) -> Service:
        mine = service.candidate if service.candidate and service.candidate.release_id == release.id else None
        warm = replace(mine, keep_until_s=now.wall_s + service.retain_s) if mine and is_warm else None
        kept = warm if mine else service.candidate
        quarantined = dict(service.quarantined)
        if release.convicted and release.candidate:
            quarantined[release.candidate.artifact_digest] = f"{release.id}: {release.reason}"
        owed = with_debts(service.owed, verdict_debts(release, release.phase))
        return service.changed(candidate=kept, quarantined=quarantined, owed=owed)

    return _change_if_there(ports, release.service, retired)


def _change_if_there(ports: Ports, name: str, change: Callable[[Service], Service]) -> Service:
    """The same as `update_service`; a release that ended before its service was recorded has nothing to change."""
    try:
        return update_service(ports, name, change)
    except NotFound:
        return Service(name)


def update_service(ports: Ports, name: str, change: Callable[[Service], Service]) -> Service:
    """Change a service record by compare-and-set, again where another writer was there first."""
    for _ in range(SAVE_TRIES):
        service = ports.services.load(name)
        changed = change(service)
        if changed == service:
            return service
        try:
            return ports.services.save(changed)
        except StaleWriter:
            continue
    raise DependencyDown(f"the record of service {name} kept changing", code="E_LEDGER_IO", field=name)


def deployment_of(release: Release, now_s: float) -> Deployment:
    """The deployment that a sealed candidate is."""
    candidate, package = release.sealed, release.spec.get("package", {})
    return Deployment(
        digest=candidate.bundle_digest,
        bundle=candidate.bundle,
        model=candidate.model,
        version=candidate.serving_version or candidate.version,
        release_id=release.id,
        config_digest=candidate.config_digest,
        artifact_digest=candidate.artifact_digest,
        source_version=candidate.version,
        since_s=now_s,
        image=candidate.image,
        memory_mb=int(package.get("memory_mb") or (CONTAINER_MEMORY_MB if candidate.image else 0)),
        pids=int(package.get("pids", 0)) if candidate.image else 0,
        drain_s=float(release.spec.get("serve", {}).get("drain_s", Deployment.drain_s)),
        made=candidate.serving_made or candidate.made,
        source_made=candidate.made,
        alias=alias_of(release),
    )
