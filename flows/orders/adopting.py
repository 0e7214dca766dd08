"""How does an endpoint that runs already become a service's stable arm? As a record; `up` does the rest."""

from __future__ import annotations

import time
from dataclasses import replace

from flows.control.holders import holder
from flows.control.lock import hold
from flows.wiring import clock
from pipelines.errors import BadInput, DependencyDown, NotFound, ShipwayError
from pipelines.ports import Ports
from pipelines.records.reading import read_services, unfinished_or_refuse
from pipelines.records.service import Service
from pipelines.services.adoption import Endpoint
from pipelines.services.listening import refuse_own_gateway, refuse_promised_port, refuse_taken_port
from pipelines.services.units import gateway_name

SERVES_TIMEOUT_S = 60.0
ASK_AGAIN_S = 0.1


def record_adoption(ports: Ports, name: str, endpoint: Endpoint, port: int) -> Service:
    """The service with the endpoint as stable.

    BadInput E_SERVICE where it has one, E_PORT or E_URL where its gateway could not serve; Busy where it is held.
    """
    _unserved(ports, name)  # before a lock is taken: a wrong input leaves nothing behind
    known = read_services(ports.services).services
    refuse_own_gateway(endpoint.url, (ports.runtime.status(gateway_name(s.name)).url for s in known))
    if port:
        refuse_promised_port(port, (s for s in known if s.name != name), "--port")
        refuse_taken_port(port, "--port")
    with hold(ports, name, holder("adopt")):
        service = _unserved(ports, name)
        stable = endpoint.deployment(clock().wall_s)
        settings = replace(service.settings, api=endpoint.api)
        return ports.services.save(
            service.changed(stable=stable, port=port or service.port, wanted=True, settings=settings)
        )


def _unserved(ports: Ports, name: str) -> Service:
    """The service, new or without anything that serves or is about to."""
    try:
        service = ports.services.load(name)
    except NotFound:
        service = Service(name)
    running = unfinished_or_refuse(ports.ledger, name)
    if service.stable is not None or running:
        what = f"release {running[0].id}" if running else "a stable version"
        raise BadInput(
            f"service {name} has {what} already", code="E_SERVICE", field="SERVICE", hint="adopt under another name"
        )
    return service


def wait_serving(ports: Ports, service: Service) -> str:
    """The gateway's address, once it sends users to the endpoint. DependencyDown where that takes too long."""
    deadline_s = time.monotonic() + SERVES_TIMEOUT_S
    while not _serves(ports, service):
        if time.monotonic() > deadline_s:
            status = ports.runtime.status(gateway_name(service.name))
            raise DependencyDown(f"the gateway does not serve yet: {status.state} {status.reason}", code="E_NOT_READY")
        time.sleep(ASK_AGAIN_S)
    return ports.runtime.status(gateway_name(service.name)).url


def _serves(ports: Ports, service: Service) -> bool:
    try:
        stable = ports.router.read(service.name).stable
    except ShipwayError:
        return False
    return stable is not None and service.stable is not None and stable.digest == service.stable.digest
