"""Is a router that cannot do what a spec asks refused before anything happens, and is the right program started?"""

from __future__ import annotations

import pytest

from pipelines.adapters.processes.unit_process import unit_command
from pipelines.adapters.proxies.ability import check_router, check_spoken
from pipelines.errors import BadInput
from pipelines.home import Home
from pipelines.records.service import Deployment, Service
from pipelines.records.settings import GatewaySettings
from pipelines.records.unit import Unit
from pipelines.services.units import wanted_units
from pipelines.spec.spec_file import parse_spec

SPEC = """\
model: models:/sentiment/3
service: sentiment
evaluate:
  data: rows.csv
  gates: [{metric: accuracy, min: 0.5}]
serve: {router: ROUTER}
rollout:
  gates: {latency: null, drift: null}
"""


@pytest.mark.parametrize("router", ["haproxy", "envoy"])
@pytest.mark.parametrize(
    ("before", "after", "field"),
    [
        ("latency: null", "latency: {tolerance: 0.1}", "rollout.gates.latency"),
        ("latency: null, ", "", "rollout.gates.latency"),
        (", drift: null", "", "rollout.gates.drift"),
        ("drift: null", "drift: null, quality: {}", "rollout.gates.quality"),
        ("drift: null", "drift: null, first_token: {}", "rollout.gates.first_token"),
        ("serve: {", "serve: {record: {}, ", "serve.record"),
        ("serve: {", "serve: {drain: 1m, ", "serve.drain"),
        ("serve: {", "serve: {convicted_streams: cut, ", "serve.convicted_streams"),
        ("serve: {", "serve: {metrics: public, ", "serve.metrics"),
        ("serve: {", "serve: {arm_header: false, ", "serve.arm_header"),
        ("serve: {", "serve: {api: openai, ", "serve.api"),
        ("rollout:\n", "rollout:\n  shadow: {}\n", "rollout.shadow"),
        ("rollout:\n", "rollout:\n  assign: {by: header, name: x-user}\n", "rollout.assign"),
        ("rollout:\n", "rollout:\n  slices: [x-lang]\n", "rollout.slices"),
    ],
)
def test_a_gate_that_the_router_cannot_answer_is_named(router, before, after, field):
    """A default counts like a word: otherwise nobody would notice what is not judged."""
    with pytest.raises(BadInput) as caught:
        check_router(parse_spec(SPEC.replace("ROUTER", router).replace(before, after)))
    assert (caught.value.code, caught.value.field, router in str(caught.value)) == ("E_METRIC", field, True)


@pytest.mark.parametrize("router", ["haproxy", "envoy"])
def test_a_program_that_is_missing_is_named(router, monkeypatch):
    """With how to install it."""
    monkeypatch.setattr("pipelines.adapters.proxies.ability._PROGRAMS", {router: lambda: None})
    with pytest.raises(BadInput) as caught:
        check_router(parse_spec(SPEC.replace("ROUTER", router)))
    assert (caught.value.code, caught.value.field) == ("E_ROUTER", "serve.router")


def test_shipways_own_gateway_answers_everything():
    """No gate is refused."""
    check_router(parse_spec(SPEC.replace("ROUTER", "shipway").replace("latency: null, drift: null", "quality: {}")))


@pytest.mark.parametrize("kept", ["stable", "previous"])
def test_only_shipways_own_gateway_speaks_tls(kept):
    """An adopted https:// endpoint would be sent users' requests in clear, also on the way back."""
    adopted = Deployment("external:1", "", "", 0, "adopted", url="https://127.0.0.1:8443")
    check_spoken(Service("s", **{kept: adopted}), "shipway")
    with pytest.raises(BadInput) as caught:
        check_spoken(Service("s", **{kept: adopted}), "haproxy")
    assert (caught.value.code, caught.value.field) == ("E_ROUTER", "serve.router")


def test_a_router_that_nobody_knows_is_refused():
    """The known ones are listed."""
    with pytest.raises(BadInput) as caught:
        parse_spec(SPEC.replace("ROUTER", "nginx"))
    assert caught.value.field == "serve.router"
    assert "haproxy" in str(caught.value.as_dict())


@pytest.mark.parametrize("router", ["haproxy", "envoy"])
def test_the_gateway_of_a_service_is_the_agent_of_its_router(router, tmp_path):
    """The same unit, socket and snapshot; another program."""
    home = Home.open(tmp_path)
    (unit,) = wanted_units(Service("s", port=20_001, settings=GatewaySettings(router=router)), 0.0)
    command = unit_command(home, unit)
    assert command[3] == "pipelines.adapters.proxy_keeper"
    assert command[command.index("--router") + 1] == router
    own = unit_command(home, Unit("s-gateway", "gateway", "s", port=20_001, settings=GatewaySettings()))
    for option in ("--admin-socket", "--snapshot", "--port"):
        assert command[command.index(option) + 1] == own[own.index(option) + 1]
