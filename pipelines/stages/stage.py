"""Does the candidate run, beside what serves, without any user?"""

from __future__ import annotations

from evals.gate import Outcome, Reason, Verdict
from pipelines.errors import DependencyDown, NotFound
from pipelines.records.release import Release
from pipelines.records.service import Deployment, Service
from pipelines.services.change import deployment_of, update_service
from pipelines.services.units import server_units, servers_of, wanted_units
from pipelines.spec.serve import gateway_settings, server_settings
from pipelines.stages.prompted import pinned
from pipelines.stages.workshop import Findings, Workshop

READY_TIMEOUT_S = 180.0
ENGINE_READY_TIMEOUT_S = 2400.0
"""Of one that starts an engine with weights of any size, which has a bound of its own (`engines/vllm.py`)."""

EXITS_AT_STAGING = 3
"""A server that ended this often before it was ready once is not waited for any longer."""


def stage(shop: Workshop, release: Release) -> Findings:
    """Does the candidate run, beside what serves, without any user?"""
    now = shop.clock()
    settings = server_settings(shop.spec.serve, shop.spec.package, is_contained=bool(release.sealed.image))
    candidate = deployment_of(release, settings, now.wall_s, pinned(release))
    service = _record_candidate(shop, release, candidate)
    for unit in wanted_units(service, now.wall_s):
        shop.ports.runtime.ensure(unit)
    for unit in server_units(service, candidate):
        shop.ports.runtime.ensure(unit)
    began_s = shop.clock().mono_s
    reason = _wait_ready(shop, release)
    exits = servers_of(shop.ports, release.service, release.sealed.bundle_digest).exits
    findings = {"exits": exits, "ready_s": round(shop.clock().mono_s - began_s, 3)}
    if reason:
        why = Reason(Outcome.ERROR, "ready", f"the staged server did not get ready: {reason}")
        return {**findings, "verdict": Verdict.of([why]).as_dict()}
    return findings


def _record_candidate(shop: Workshop, release: Release, deployment: Deployment) -> Service:
    serve = shop.spec.serve

    def with_candidate(service: Service) -> Service:
        return service.changed(
            model=release.sealed.model,
            candidate=deployment,
            replicas=serve.replicas,
            cpus=serve.cpus,
            port=serve.port or service.port,
            settings=gateway_settings(serve, shop.spec.rollout),
            retain_s=shop.spec.retain,
            wanted=True,
        )

    try:
        return update_service(shop.ports, release.service, with_candidate)
    except NotFound:
        return shop.ports.services.save(with_candidate(Service(release.service)))


def _wait_ready(shop: Workshop, release: Release) -> str:
    """Wait until every replica is ready; why they are not where that takes too long or they keep ending.

    DependencyDown where it is the gateway that does not answer: that says nothing about the candidate.
    """
    digest, began_s = release.sealed.bundle_digest, shop.clock().mono_s
    patience_s = ENGINE_READY_TIMEOUT_S if shop.spec.serve.place else READY_TIMEOUT_S
    while True:
        replicas = servers_of(shop.ports, release.service, digest)
        reason, gateway = replicas.down_reason, _gateway_down(shop, release.service)
        if not reason and not gateway:
            return ""
        is_late = shop.clock().mono_s - began_s > patience_s
        if reason and (is_late or replicas.exits >= EXITS_AT_STAGING):
            return reason
        if is_late:
            raise DependencyDown(f"the gateway does not answer: {gateway}", code="E_NOT_READY", field=release.service)
        shop.sleep(0.1)


def _gateway_down(shop: Workshop, service: str) -> str:
    try:
        shop.ports.router.read(service)
    except DependencyDown as error:
        return str(error)
    return ""
