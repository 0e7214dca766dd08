"""How does a service's record change when a release begins to serve, ends, or is forgotten? By compare-and-set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from pipelines.errors import DependencyDown, NotFound, StaleWriter
from pipelines.ports import Now, Ports
from pipelines.records.debt import Debt
from pipelines.records.release import Phase, Release
from pipelines.records.service import Deployment, Service
from pipelines.records.settings import ServerSettings
from pipelines.records.split import Rewrite
from pipelines.services.marking import alias_of, verdict_debts
from pipelines.services.outbox import with_debts

SAVE_TRIES = 5


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
    return retire_candidate(ports, release, now) if release.is_ended else service


def retire_candidate(ports: Ports, release: Release, now: Now) -> Service:
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

    return change_if_there(ports, release.service, retired)


def forget_candidate(ports: Ports, release: Release) -> None:
    """A release that ended before any user: its servers are no longer wanted, and the registry is to hear of it."""

    def without(service: Service) -> Service:
        mine = service.candidate is not None and service.candidate.release_id == release.id
        owed = with_debts(service.owed, verdict_debts(release, release.phase))
        return service.changed(candidate=None if mine else service.candidate, owed=owed)

    change_if_there(ports, release.service, without)


def change_if_there(ports: Ports, name: str, change: Callable[[Service], Service]) -> Service:
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


def deployment_of(
    release: Release, settings: ServerSettings, now_s: float, rewrite: Rewrite | None = None
) -> Deployment:
    """The deployment that a sealed candidate is."""
    candidate = release.sealed
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
        settings=settings,
        made=candidate.serving_made or candidate.made,
        source_made=candidate.made,
        alias=alias_of(release),
        rewrite=rewrite,
    )
