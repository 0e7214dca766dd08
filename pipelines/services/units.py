"""Which processes does a service need, and what is seen of them?"""

from __future__ import annotations

from pipelines.errors import DependencyDown
from pipelines.ports import Ports
from pipelines.records.service import Deployment, Service
from pipelines.records.split import Arm
from pipelines.records.unit import Unit, UnitStatus


def gateway_name(service: str) -> str:
    """The name of a service's gateway unit."""
    return f"{service}-gateway"


def server_name(service: str, digest: str, replica: int) -> str:
    """The name of one replica's unit: the same bytes always have the same name."""
    return f"{service}-{digest.rpartition(':')[2][:12]}-{replica}"


def wanted_units(service: Service, now_s: float) -> tuple[Unit, ...]:
    """Which units must be running for this service now?"""
    if not service.wanted:
        return ()
    name = gateway_name(service.name)
    gateway = Unit(
        name,
        "gateway",
        service.name,
        port=service.port,
        timeout_s=service.timeout_s,
        slices=service.slices,
        label_s=service.label_s,
        assign=service.assign,
        workers=service.workers,
        record=service.record,
        router=service.router,
        drain_s=service.drain_s,
        convicted_streams=service.convicted_streams,
        idempotent=service.idempotent,
        shadow=service.shadow,
    )
    return (gateway, *(u for d in service.deployments(now_s) for u in server_units(service, d)))


def server_units(service: Service, deployment: Deployment) -> tuple[Unit, ...]:
    """The replicas of one deployment; an adopted endpoint is one, however many it has."""
    if deployment.url:
        name = server_name(service.name, deployment.digest, 0)
        external = Unit(
            name,
            "external",
            service.name,
            deployment.digest,
            url=deployment.url,
            probe=deployment.probe,
            ca_file=deployment.ca_file,
        )
        return (external,)
    return tuple(
        Unit(
            name=server_name(service.name, deployment.digest, replica),
            kind="server",
            service=service.name,
            digest=deployment.digest,
            bundle=deployment.bundle,
            cpus=service.cpus,
            release_id=deployment.release_id,
            version=deployment.version,
            image=deployment.image,
            memory_mb=deployment.memory_mb,
            pids=deployment.pids,
            drain_s=deployment.drain_s,
        )
        for replica in range(service.replicas)
    )


def replicas_of(ports: Ports, service: str, digest: str) -> tuple[UnitStatus, ...]:
    """What is seen of every wanted replica of a digest."""
    return tuple(ports.runtime.status(u.name) for u in ports.runtime.units(service) if u.digest == digest)


def arm_of(ports: Ports, service: str, digest: str) -> Arm:
    """The arm of a digest. DependencyDown where no replica is ready."""
    units = [unit for unit in ports.runtime.units(service) if unit.digest == digest]
    urls = tuple(s.url for s in (ports.runtime.status(unit.name) for unit in units) if s.state == "ready")
    if not urls:
        raise DependencyDown(f"no replica of {digest[:19]} is ready", code="E_NOT_READY", field=service)
    return Arm(digest, urls, units[0].ca_file)


def down_reason(ports: Ports, service: str, digest: str) -> str:
    """Why can these bytes not serve right now? "" while every replica is ready."""
    seen = replicas_of(ports, service, digest)
    if not seen:
        return "no replica is wanted"
    return "; ".join(f"{s.state}: {s.reason}" if s.reason else s.state for s in seen if s.state != "ready")


def dead_reason(ports: Ports, service: str, digest: str) -> str:
    """Why can nobody be served by these bytes right now? "" while any replica is ready."""
    alive = any(s.state == "ready" for s in replicas_of(ports, service, digest))
    return "" if alive else down_reason(ports, service, digest)


def exits_of(ports: Ports, service: str, digest: str) -> int:
    """How often did a replica of these bytes die and come back?"""
    return sum(s.restarts for s in replicas_of(ports, service, digest))
