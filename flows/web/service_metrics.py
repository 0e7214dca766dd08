"""What does Prometheus learn about services: who runs, which version serves, and what their gateways count?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from pipelines.errors import DependencyDown, ShipwayError
from pipelines.ports import Now, Ports
from pipelines.records.reading import read_services
from pipelines.records.release import Release
from pipelines.records.service import Service
from pipelines.services.units import wanted_units

if TYPE_CHECKING:
    from pipelines.records.unit import Unit, UnitStatus

Exposition = Callable[[str], str]
"""What the gateway of a service counts, as text. DependencyDown where it does not answer."""

OURS = "shipway_"
"""A proxy that is not Shipway's has a page of its own, as large as it likes."""


def health(ports: Ports, now: Now) -> dict[str, list[str]]:
    """By service, why it is not well: what should run and does not. A service that is well has nothing."""
    known = read_services(ports.services)
    ill = {name: [reason] for name, reason in known.broken.items()}
    for service in known.services:
        reasons = (_trouble(unit, status) for unit, status in _units(ports, service, now))
        ill[service.name] = [reason for reason in reasons if reason]
    return ill


def service_metrics_text(ports: Ports, running: Sequence[Release], exposition: Exposition, now: Now) -> str:
    """The exposition of every service that can be read; how old the looks at its `running` release are."""
    registry = CollectorRegistry()
    gauges = _ServiceGauges(registry)
    pages = {}
    for service in read_services(ports.services).services:
        gauges.tell(service, ports, now)
        pages[service.name] = _families(exposition, service.name)
    looks = {release.service: release.last("looked") for release in running}
    for name, look in looks.items():
        gauges.looked_after.labels(name).set(ports.lock.holder(name, now) is not None)
        if look is not None:
            gauges.last_look.labels(name).set(max(0.0, now.wall_s - look.at_s))
    registry.register(_Pages(pages))
    return generate_latest(registry).decode()


def _units(ports: Ports, service: Service, now: Now) -> list[tuple[Unit, UnitStatus]]:
    """What should run, and what is seen of it; who runs without us is asked by his callers only."""
    units = (unit for unit in wanted_units(service, now.wall_s) if unit.kind != "external")
    return [(unit, ports.runtime.status(unit.name)) for unit in units]


def _trouble(unit: Unit, status: UnitStatus) -> str:
    return "" if status.state == "ready" else f"{unit.name} is {status.state}: {status.reason}".removesuffix(": ")


def _families(exposition: Exposition, service: str) -> list[Metric]:
    """What the gateway of a service says of itself; one that says nothing that can be read hides no other."""
    try:
        return [f for f in text_string_to_metric_families(exposition(service)) if f.name.startswith(OURS)]
    except (DependencyDown, ValueError):
        return []


class _ServiceGauges:
    """The gauges of single services."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"shipway_{name}", text, ["service", *labels], registry=registry)

        self._info = gauge("service_info", "Which version serves", "model", "version", "digest")
        self._up = gauge("unit_up", "Whether a gateway or server answers that it is ready", "unit", "kind")
        self._restarts = gauge("unit_restarts", "Starts after the first", "unit", "kind")
        self._bytes = gauge("unit_resident_bytes", "Its memory", "unit", "kind")
        self._lease = gauge("lease_seconds", "Length of the canary's lease; 0 where there is no canary")
        self._owed = gauge("registry_owed", "What the registry has still to be told")
        self.last_look = gauge("last_look_age_seconds", "Since the running release's last look that saw anything")
        self.looked_after = gauge("release_looked_after", "Whether a controller holds the running release's lock")

    def tell(self, service: Service, ports: Ports, now: Now) -> None:
        """What is seen of one service now."""
        stable = service.stable
        if stable is not None:
            self._info.labels(service.name, stable.model, str(stable.version), stable.digest).set(1)
        self._owed.labels(service.name).set(len(service.owed))
        self._lease.labels(service.name).set(_lease_s(ports, service.name))
        for unit, status in _units(ports, service, now):
            labels = (service.name, unit.name, unit.kind)
            self._up.labels(*labels).set(status.state == "ready")
            self._restarts.labels(*labels).set(status.restarts)
            if status.rss_mb is not None:
                self._bytes.labels(*labels).set(status.rss_mb * 1e6)


def _lease_s(ports: Ports, service: str) -> float:
    try:
        split = ports.router.read(service)
    except ShipwayError:
        return 0.0
    return float(split.lease_s or 0.0) if split.canary else 0.0


class _Pages(Collector):
    """What the gateways say of themselves, each sample with the service that it is of."""

    def __init__(self, pages: Mapping[str, Sequence[Metric]]) -> None:
        self._pages = pages

    def collect(self) -> Iterator[Metric]:
        """One family a name, whoever has samples of it."""
        families: dict[str, Metric] = {}
        for service, page in self._pages.items():
            for family in page:
                ours = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                for sample in family.samples:
                    ours.add_sample(sample.name, {**sample.labels, "service": service}, sample.value)
        yield from families.values()
