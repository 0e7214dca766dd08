"""How does a service go back to its previous version, after promotion too? As a new, immediate release."""

from __future__ import annotations

import uuid

from flows.holders import holder
from flows.holding import exposed_ttl_s, hold
from flows.wiring import actor, clock
from pipelines.ending import carry_out
from pipelines.errors import BadInput
from pipelines.ports import Ports, Token
from pipelines.release import Candidate, Phase, Release
from pipelines.service import Deployment, Service
from pipelines.units import arm_of

LOCK_S = 60.0


def back_to_previous(ports: Ports, service: Service, reason: str) -> Release:
    """The parked previous version becomes stable now. BadInput E_NO_TARGET where there is none."""
    stable, previous = check_target(service)
    arm_of(ports, service.name, previous.digest)
    with hold(ports, service.name, holder("rollback"), exposed_ttl_s(LOCK_S)) as held:
        return _release_previous(ports, service, stable, previous, held.token, reason)


def check_target(service: Service) -> tuple[Deployment, Deployment]:
    """What serves, and what to go back to. BadInput E_NO_TARGET where there is nothing; asks nobody."""
    if service.previous is None or service.stable is None:
        raise BadInput(
            f"service {service.name} has no previous version to go back to",
            code="E_NO_TARGET",
            field="SERVICE",
            hint="release the version that you want instead",
        )
    return service.stable, service.previous


def _release_previous(
    ports: Ports, service: Service, stable: Deployment, previous: Deployment, token: Token, reason: str
) -> Release:
    now = clock()
    # An adopted endpoint is in no registry: meanwhile the alias stayed where the last release had put it.
    alias = stable.version if stable.model else previous.version
    release_id = f"{service.name}-back-{uuid.uuid4().hex[:6]}"
    why = f"rollback of {stable.model} v{stable.version} by {actor()}" + (f": {reason}" if reason else "")
    opened = Release().record(
        now.wall_s,
        "opened",
        id=release_id,
        service=service.name,
        spec={"rollback": service.name},
        spec_digest="",
        actor=actor(),
    )
    candidate = Candidate(
        model=previous.model,
        version=previous.source_version or previous.version,
        artifact_digest=previous.artifact_digest,
        config_digest=previous.config_digest,
        bundle_digest=previous.digest,
        bundle=previous.bundle,
        serving_version=previous.version,
        image=previous.image,
    )
    champion = {"digest": stable.digest, "version": stable.version, "bundle": stable.bundle}
    resolved = opened.record(now.wall_s, "resolved", candidate=vars(candidate), champion=champion, alias_champion=alias)
    # One write: a record that died before its intent would be an open release without a spec to go on with.
    promoting = resolved.enter(Phase.PROMOTING, now.wall_s, why=why)
    ports.ledger.create(promoting)
    return carry_out(ports, promoting, token, now)
