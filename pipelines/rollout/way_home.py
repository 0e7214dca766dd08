"""How does a service go back to the version before? By an order of its own, which nothing undoes.

It is no promotion backwards: traffic goes to the parked version whatever a registry says, an alias that is not ours is
left alone, and a kill at any point leaves an order that is carried out, not taken back. It ends: in the record as
promoted, with what became of the alias, or as aborted where the parked version could not serve for too long.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

from pipelines.errors import BadInput, ShipwayError
from pipelines.ports import Now, Ports, Token
from pipelines.records.release import Candidate, Phase, Release
from pipelines.records.service import Deployment, Service
from pipelines.rollout.ending import conclude_promoted, stable_before
from pipelines.services.change import relabel
from pipelines.services.marking import alias_debts, promotion_debts, withdrawal_debts
from pipelines.services.outbox import tell_alone
from pipelines.services.traffic import make_stable, shut_out_others
from pipelines.services.units import servers_of
from pipelines.supply.bundle import verify_bundle

LABEL = "way home"
JUST_NOW_S = 600.0
_TAKEN_HOME = frozenset({Phase.ROLLED_BACK, Phase.ABORTED})


def check_target(service: Service, force: str = "") -> tuple[Deployment, Deployment]:
    """What serves, and what to go back to; asks nobody.

    BadInput E_NO_TARGET where there is nothing, E_TAKEN_AWAY where that is what a person took away (without `force`).
    """
    stable, previous = service.stable, service.previous
    if previous is None or stable is None:
        raise BadInput(
            f"service {service.name} has no previous version to go back to",
            code="E_NO_TARGET",
            field="SERVICE",
            hint="release the version that you want instead",
        )
    taken = service.quarantined.get(previous.identity, "")
    if taken and not force:
        raise BadInput(
            f"{named(previous)} was taken away ({taken}); {named(stable)} serves now, and nothing was changed",
            code="E_TAKEN_AWAY",
            field="SERVICE",
            hint=f'shipway rollback {service.name} --force "the reason to bring it back"',
        )
    return stable, previous


def refuse_again(newest: Release | None, service: Service, now: Now, force: str = "") -> None:
    """A person took a canary home just now: the same word again would take away what everybody went home to.

    BadInput E_HOME_ALREADY, for `JUST_NOW_S`, unless `force` gives a reason.
    """
    if newest is None or newest.is_way_home or force or service.stable is None:
        return
    word = next((e for e in newest.of_kind("commanded") if e.data["verb"] == "rollback"), None)
    ended_s = newest.ended_at_s or 0.0
    was_met = bool(newest.of_kind("exposed"))
    if newest.phase not in _TAKEN_HOME or not was_met or word is None or now.wall_s - ended_s > JUST_NOW_S:
        return
    ago = f"{now.wall_s - ended_s:.0f} s ago"
    raise BadInput(
        f"{newest.id} was taken home {ago} ({newest.reason}); {named(service.stable)} serves now",
        code="E_HOME_ALREADY",
        field="SERVICE",
        hint=f'shipway rollback {service.name} --force "the reason to go back further"',
    )


def named(deployment: Deployment) -> str:
    """What serves, for a person."""
    return f"{deployment.model} v{deployment.version}" if deployment.model else deployment.url


def ordered(service: Service, release_id: str, actor: str, reason: str, now: Now) -> Release:
    """The record of the order, with its intent: what serves, what shall, and who said so."""
    stable, previous = service.stable, service.previous
    if stable is None or previous is None:
        raise ValueError(f"{service.name} has no way home")
    why = f"rollback of {named(stable)} to {named(previous)} by {actor}" + (f": {reason}" if reason else "")
    spec = {"rollback": service.name, "registry": {"alias": stable.alias}}
    opened = Release().record(
        now.wall_s, "opened", id=release_id, service=service.name, spec=spec, spec_digest="", actor=actor
    )
    # An adopted endpoint is in no registry: meanwhile the alias stayed where the last release had put it.
    alias = stable.version if stable.model else previous.version
    resolved = opened.record(
        now.wall_s,
        "resolved",
        candidate=vars(_candidate(previous)),
        champion={"digest": stable.digest, "version": stable.version, "bundle": stable.bundle},
        alias_champion=alias,
    )
    # One write: a record that died before its intent would be an open release without a spec to go on with.
    return resolved.enter(Phase.PROMOTING, now.wall_s, why=why, label=LABEL)


@dataclass(frozen=True)
class Order:
    """Who orders a service home, and why. With `force` (a reason, too) it goes back to what was taken away as well."""

    release_id: str
    actor: str
    reason: str
    force: str = ""

    @property
    def why(self) -> str:
        """Both reasons, where two were given."""
        return "; ".join(dict.fromkeys(said for said in (self.reason, self.force) if said))


def go_back(ports: Ports, name: str, token: Token, order: Order, now: Now) -> Release:
    """The parked version becomes stable, by an order of its own. DependencyDown where it does not answer.

    The service is read again, under its lock: whoever had that may have gone back, and going back twice is going forth.
    """
    service = ports.services.load(name)
    _, previous = check_target(service, order.force)
    servers_of(ports, name, previous.digest).arm()
    release = ordered(service, order.release_id, order.actor, order.why, now)
    ports.ledger.create(release)
    return carry_on(ports, release, token, now)


def awake(service: Service, now: Now) -> Service:
    """The service whose parked version is to run again, though its time was over."""
    if service.previous is None:
        return service
    until_s = max(service.previous.keep_until_s or 0.0, now.wall_s + service.retain_s)
    return service.changed(previous=replace(service.previous, keep_until_s=until_s))


def check_bytes(previous: Deployment, force: str = "") -> None:
    """The parked version's bundle is whole: what is damaged could not be started again.

    UnsafeArtifact or NotFound before anything moves; with `force` its server, which checked its bytes, goes on alone.
    """
    if previous.url or force:
        return
    try:
        verify_bundle(Path(previous.bundle), previous.digest)
    except ShipwayError as error:
        error.hint = 'its server may still run: add --force "the reason" to go back to that; or release a version'
        raise


def _candidate(previous: Deployment) -> Candidate:
    return Candidate(
        model=previous.model,
        version=previous.source_version or previous.version,
        artifact_digest=previous.artifact_digest,
        config_digest=previous.config_digest,
        bundle_digest=previous.digest,
        bundle=previous.bundle,
        serving_version=previous.version,
        image=previous.image,
        made=previous.source_made,
        serving_made=previous.made,
    )


def carry_on(ports: Ports, release: Release, token: Token, now: Now) -> Release:
    """Traffic to the parked version, then the service's record, then the registry, then the record's end.

    Safe to kill at any point, and to repeat. DependencyDown where the parked version cannot serve yet.
    """
    digest = release.sealed.bundle_digest
    stable = shut_out_others(ports, release.service, token).stable
    if stable is None or stable.digest != digest:
        make_stable(ports, release.service, digest, token, f"{release.id}: way home")
    alias, service = alias_debts(release), ports.services.load(release.service)
    taken = next((d for d in (service.stable, service.previous) if d and d.digest == stable_before(release)), None)
    withdrawn = withdrawal_debts(release, taken) if taken else ()
    owed = (*alias, *promotion_debts(release), *withdrawn)
    relabel(ports, release, digest, now.wall_s, owed, taken_away=_taken_away(release))
    told = tell_alone(ports, release.service, alias, now)
    return conclude_promoted(ports, release, told, now)


def _taken_away(release: Release) -> str:
    at = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(release.started_at_s))
    return f"{release.reason}, {at}, {release.id}"


def abandon(ports: Ports, release: Release, why: str, now: Now) -> Release:
    """End an order that was not carried out: what serves goes on, and the order is not tried again."""
    ended = release.enter(Phase.ABORTED, now.wall_s, why=why)
    ports.ledger.save(ended, release.version)
    ports.notifier.send(ended, f"aborted: {why}")
    return ended
