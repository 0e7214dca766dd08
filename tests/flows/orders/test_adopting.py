"""May an endpoint be adopted here? What could never serve is refused before anything is written down."""

from __future__ import annotations

import socket

import pytest

from flows.orders.adopting import record_adoption
from pipelines.errors import BadInput
from pipelines.ports import Ports
from pipelines.records.service import Service
from pipelines.services.adoption import Endpoint
from pipelines.services.units import wanted_units
from tests.faults.world import memory_ports

ENDPOINT = Endpoint("http://127.0.0.1:9", "oip")


@pytest.fixture
def ports() -> Ports:
    """A home with a service that listens on a port of its own."""
    made = memory_ports()
    made.services.save(Service("other", port=23456))
    for unit in wanted_units(made.services.load("other"), 0.0):
        made.runtime.ensure(unit)
    return made


def refused(ports: Ports, endpoint: Endpoint, port: int) -> BadInput:
    """The refusal, after which nothing is written down."""
    with pytest.raises(BadInput) as caught:
        record_adoption(ports, "new", endpoint, port)
    assert ports.services.names() == ("other",)
    return caught.value


def test_a_taken_port_is_refused(ports):
    """Somebody listens there."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        error = refused(ports, ENDPOINT, port)
    assert (error.code, error.field, str(port) in error.reason) == ("E_PORT", "--port", True)


def test_a_port_of_another_service_is_refused(ports):
    """Whether or not its gateway runs just now."""
    error = refused(ports, ENDPOINT, 23456)
    assert (error.code, "other" in error.reason) == ("E_PORT", True)


def test_a_gateway_of_this_home_is_no_endpoint(ports):
    """Users would go round in a circle."""
    url = ports.runtime.status("other-gateway").url
    assert refused(ports, Endpoint(url, "oip"), 0).code == "E_URL"


@pytest.mark.parametrize(("protocol", "api"), [("oip", "inference"), ("openai", "openai"), ("mlflow", "inference")])
def test_answers_of_a_language_model_are_followed(ports, protocol, api):
    """Its gateway counts first tokens and tokens from the first request on."""
    record_adoption(ports, "new", Endpoint("http://127.0.0.1:9", protocol), 0)
    assert ports.services.load("new").settings.api == api


def test_a_free_port_is_recorded(ports):
    """And the endpoint is stable."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    made = record_adoption(ports, "new", ENDPOINT, port)
    assert (made.port, made.stable.url) == (port, ENDPOINT.url)
