"""Does a person read where a service answers, and a request that works there?"""

from __future__ import annotations

import json
import shlex

import pytest

from flows.show.address import address_lines
from flows.wiring import wire
from pipelines.home import Home
from pipelines.ports import Ports
from pipelines.records.service import Deployment, Service
from pipelines.records.settings import GatewaySettings
from pipelines.records.unit import Unit
from pipelines.services.units import gateway_name


@pytest.fixture
def ports(tmp_path) -> Ports:
    """A home whose service `tweets` has a gateway."""
    made = wire(Home.open(tmp_path / "home"))
    made.runtime.ensure(Unit(gateway_name("tweets"), "gateway", "tweets", port=20_001, settings=GatewaySettings()))
    return made


def test_a_service_is_asked_with_one_line(ports):
    """The line is a whole command: the protocol's route, and a body that is JSON."""
    ports.services.save(Service("tweets", stable=Deployment("sha256:1", "/bundle", "tweets", 1, "r-1")))
    where, curl = address_lines(ports, "tweets")
    url = "http://127.0.0.1:20001/v2/models/tweets/infer"
    assert where == f"tweets serves at {url}"
    program, *options, body, last = shlex.split(curl)
    assert (program, options[0], last) == ("curl", "-H", url)
    assert json.loads(body)["inputs"][0]["name"] == "text"


def test_a_language_model_is_asked_by_openais_routes(ports):
    """A client is told the address that it takes, and the line is a conversation."""
    settings = GatewaySettings(api="openai")
    stable = Deployment("sha256:1", "/bundle", "tweets", 1, "r-1")
    ports.services.save(Service("tweets", stable=stable, settings=settings))
    where, curl = address_lines(ports, "tweets")
    assert where == "tweets serves at http://127.0.0.1:20001/v1"
    *_, body, url = shlex.split(curl)
    assert url == "http://127.0.0.1:20001/v1/chat/completions"
    asked = json.loads(body)
    assert (asked["model"], asked["messages"][0]["role"]) == ("tweets", "user")


def test_an_adopted_endpoint_is_asked_in_its_own_words(ports):
    """Nobody knows them here: the address is all that is said."""
    adopted = Deployment("sha256:1", "", "", 0, "", url="http://127.0.0.1:5000")
    ports.services.save(Service("tweets", stable=adopted))
    assert address_lines(ports, "tweets") == ["tweets serves at http://127.0.0.1:20001"]


def test_a_service_without_a_gateway_has_no_address(ports):
    """As before its first release."""
    assert address_lines(ports, "other") == []
