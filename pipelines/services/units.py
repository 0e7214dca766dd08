"""Which processes does a service need, and what is seen of them?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

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
    gateway = Unit(name, "gateway", service.name, port=service.port, settings=service.settings)
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
            release_id=deployment.release_id,
            version=deployment.version,
            image=deployment.image,
            settings=replace(deployment.settings, cpus=service.cpus),
            rewrite=deployment.rewrite,
        )
        for replica in range(service.replicas)
    )


@dataclass(frozen=True)
class Servers:
    """What was seen of the wanted replicas of one version, each asked once."""

    digest: str
    service: str
    seen: tuple[tuple[Unit, UnitStatus], ...] = ()

    @property
    def statuses(self) -> tuple[UnitStatus, ...]:
        """What each of them said."""
        return tuple(status for _, status in self.seen)

    @property
    def down_reason(self) -> str:
        """Why can these bytes not serve? "" while every replica is ready."""
        if not self.seen:
            return "no replica is wanted"
        unready = (s for s in self.statuses if s.state != "ready")
        return "; ".join(f"{s.state}: {s.reason}" if s.reason else s.state for s in unready)

    @property
    def dead_reason(self) -> str:
        """Why can nobody be served by these bytes? "" while any replica is ready."""
        return "" if any(s.state == "ready" for s in self.statuses) else self.down_reason

    @property
    def exits(self) -> int:
        """How often did a replica of these bytes die and come back?"""
        return sum(s.restarts for s in self.statuses)

    def arm(self) -> Arm:
        """The arm of these bytes: every replica that is ready. DependencyDown where none is."""
        urls = tuple(s.url for s in self.statuses if s.state == "ready")
        if not urls:
            raise DependencyDown(f"no replica of {self.digest[:19]} is ready", code="E_NOT_READY", field=self.service)
        unit = self.seen[0][0]
        return Arm(self.digest, urls, unit.ca_file, unit.rewrite)


def servers_by_digest(ports: Ports, service: str, digests: Iterable[str]) -> dict[str, Servers]:
    """What is seen of these versions? The units are listed once, and each replica is asked once."""
    units = ports.runtime.units(service)
    return {
        digest: Servers(digest, service, tuple((u, ports.runtime.status(u.name)) for u in units if u.digest == digest))
        for digest in dict.fromkeys(digests)
    }


def servers_of(ports: Ports, service: str, digest: str) -> Servers:
    """What is seen of one version?"""
    return servers_by_digest(ports, service, (digest,))[digest]
