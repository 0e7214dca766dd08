"""How does a release end? Promoted in five writes of a fixed order, or home in four.

Promote: ledger intent → router (stable := candidate) → service record → registry alias → ledger PROMOTED. After a
kill the *router's* stable decides: the candidate → go on; the old one → roll back.
Home: router → ledger → service record (quarantine) → notifier. The failure of a later one never holds up an earlier.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pipelines.errors import AliasMoved, DependencyDown, StaleWriter
from pipelines.ports import Now, Ports, Token
from pipelines.release import Phase, Release
from pipelines.rollout import RollBack
from pipelines.service import Deployment, Service
from pipelines.traffic import make_stable, send_home

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
    stable = ports.router.read(release.service).stable
    if stable is not None and stable.digest == release.sealed.bundle_digest:
        return _after_the_router(ports, release, token, now)
    return take_back(ports, release, token, "the promotion was interrupted, and the router shows the old stable", now)


def take_back(ports: Ports, release: Release, token: Token, why: str, now: Now) -> Release:
    """End a promotion at home: what was stable before it is stable again, and the candidate is not accused."""
    old = stable_before(release)
    make_stable(ports, release.service, old, token, f"{release.id}: taken back")
    relabel(ports, release.service, old, now.wall_s)
    why += _return_alias(ports, release)
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
    return release


def _after_the_router(ports: Ports, release: Release, token: Token, now: Now) -> Release:
    relabel(ports, release.service, release.sealed.bundle_digest, now.wall_s)
    try:
        _move_alias(ports, release)
    except AliasMoved as error:
        return take_back(ports, release, token, str(error), now)
    promoted = release.enter(Phase.PROMOTED, now.wall_s, why=release.reason, label=release.label)
    try:
        ports.ledger.save(promoted, release.version)
    except StaleWriter:
        _leave_no_alias(ports, release)
        raise
    ports.notifier.send(promoted, "promoted")
    return promoted


def _move_alias(ports: Ports, release: Release) -> None:
    candidate = release.sealed
    if not candidate.model:
        return  # back to an adopted endpoint, which is in no registry
    serving, old = candidate.serving_version or candidate.version, _champion_version(release)
    aliases = {"champion": serving, **({"previous-champion": old} if old and old != serving else {})}
    tags = {
        serving: {
            "shipway.release_id": release.id,
            "shipway.verdict": "promoted",
            "shipway.bundle_digest": candidate.bundle_digest,
            "validation_status": "approved",
        }
    }
    ports.registry.mark(candidate.model, aliases=aliases, expected={"champion": old}, tags=tags)


def _leave_no_alias(ports: Ports, release: Release) -> None:
    """This controller is shut out: where its promotion was taken back meanwhile, so is the alias that it moved."""
    stable = ports.router.read(release.service).stable
    if stable is None or stable.digest != release.sealed.bundle_digest:
        _return_alias(ports, release)


def _return_alias(ports: Ports, release: Release) -> str:
    """`champion` names the old version again where this release moved it; what to add to the reason where it does not.

    No traffic waits for this. A registry has no way to take an alias away, so a first release's stays.
    """
    candidate, old = release.sealed, _champion_version(release)
    serving = candidate.serving_version or candidate.version
    if old is None or not candidate.model:
        return ""
    tags = {serving: {"shipway.verdict": "rolled_back"}}
    try:
        ports.registry.mark(candidate.model, aliases={"champion": old}, expected={"champion": serving}, tags=tags)
    except AliasMoved:
        return ""
    except DependencyDown as error:
        return f"; champion was not put back to version {old}: {error}"
    return ""


def _champion_version(release: Release) -> int | None:
    """The version that `champion` named when the release began."""
    resolved = release.last("resolved")
    value = resolved.data.get("alias_champion") if resolved else None
    return int(value) if value is not None else None


def relabel(ports: Ports, service_name: str, digest: str | None, now_s: float) -> Service:
    """The service record after `digest` became stable: the old stable is parked for its `retain_s`."""

    def relabelled(service: Service) -> Service:
        if (service.stable.digest if service.stable else None) == digest:
            return service
        new = next((d for d in (service.candidate, service.previous) if d is not None and d.digest == digest), None)
        parked = replace(service.stable, keep_until_s=now_s + service.retain_s) if service.stable else None
        if new is None and digest is not None:
            return service  # another controller ended this release meanwhile
        stable = replace(new, since_s=now_s, keep_until_s=None) if new else None
        return service.changed(stable=stable, previous=parked, candidate=None)

    return update_service(ports, service_name, relabelled)


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
        return service.changed(candidate=kept, quarantined=quarantined)

    return update_service(ports, release.service, retired)


def update_service(ports: Ports, name: str, change: Any) -> Service:
    """Change a service record by compare-and-set, again where another writer was there first."""
    for _ in range(SAVE_TRIES):
        service = ports.services.load(name)
        changed: Service = change(service)
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
    )
