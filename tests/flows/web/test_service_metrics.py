"""Does somebody on call see which services are well, and what their gateways count, told apart by service?"""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from flows.web.service_metrics import service_metrics_text
from pipelines.errors import DependencyDown
from pipelines.ports import Now
from pipelines.records.reading import unfinished
from pipelines.records.service import Deployment, Service
from pipelines.services.reconcile import reconcile
from pipelines.serving.evidence.counters import GatewayCounters
from pipelines.serving.http1.limits import Load
from tests.flows.web.test_api import NOW, ports

__all__ = ["ports"]

PAGE = """\
# HELP shipway_gateway_attempts Attempts
# TYPE shipway_gateway_attempts counter
shipway_gateway_attempts_total{arm="stable",outcome="ok"} 7
# TYPE envoy_cluster_upstream counter
envoy_cluster_upstream_total 3
"""


def told(ports, exposition, now: Now = NOW) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample, by name and labels."""
    families = text_string_to_metric_families(service_metrics_text(ports, unfinished(ports.ledger), exposition, now))
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def sample(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    """One of them."""
    return f"shipway_{name}", frozenset(labels.items())


def test_the_counters_of_gateways_are_told_by_service(ports):
    """Two gateways have one family, and another proxy's own page is not passed on."""
    other = Deployment("sha256:2", "/b/2", "n", 5, "r9")
    reconcile(ports, ports.services.save(Service("t", stable=other)), "test", NOW)
    found = told(ports, lambda _service: PAGE)
    for service in ("s", "t"):
        assert found[sample("gateway_attempts_total", arm="stable", outcome="ok", service=service)] == 7
    assert not [name for name, _ in found if name.startswith("envoy")]


def test_what_a_gateway_counts_itself_is_told(ports):
    """Displaced connections, for instance."""
    counters = GatewayCounters(Load(displaced=3, turned_away=2))
    found = told(ports, lambda _service: counters.text().decode())
    names = ("connections_displaced_total", "connections_turned_away_total")
    assert [found[sample(f"gateway_{name}", service="s")] for name in names] == [3, 2]


@pytest.mark.parametrize("page", ["what?", PAGE + 'shipway_x{a="b\n', "shipway_x{} one", "\0", PAGE * 2 + "}{"])
def test_a_page_that_cannot_be_read_hides_no_other(ports, page):
    """A proxy's that is not Shipway's, or half of one."""
    other = Deployment("sha256:2", "/b/2", "n", 5, "r9")
    reconcile(ports, ports.services.save(Service("t", stable=other)), "test", NOW)
    found = told(ports, {"s": page, "t": PAGE}.get)
    assert found[sample("gateway_attempts_total", arm="stable", outcome="ok", service="t")] == 7
    assert found[sample("unit_up", service="s", unit="s-gateway", kind="gateway")] == 1


def test_what_serves_and_how_it_is_are_told(ports):
    """The version, each unit, and the age of the last look."""
    ports.runtime.fail("s-gateway", "it ended")
    found = told(ports, lambda _service: "", Now(130.0, 1.0))
    assert found[sample("service_info", service="s", model="m", version="2", digest="sha256:1")] == 1
    assert found[sample("unit_up", service="s", unit="s-gateway", kind="gateway")] == 0
    assert found[sample("unit_up", service="s", unit="s-1-0", kind="server")] == 1
    assert found[sample("last_look_age_seconds", service="s")] == 7
    assert found[sample("registry_owed", service="s")] == 0


def test_a_release_that_nobody_looks_after_is_told(ports):
    """Its last look may be old because there is nothing to see: the lock says whether somebody goes on."""
    assert told(ports, lambda _service: "")[sample("release_looked_after", service="s")] == 0
    ports.lock.acquire("s", "release@host", 60.0, NOW)
    assert told(ports, lambda _service: "")[sample("release_looked_after", service="s")] == 1


def test_a_gateway_that_does_not_answer_hides_nothing_else(ports):
    """Its counters are missing; that it is down is told by its unit."""

    def silent(_service: str) -> str:
        raise DependencyDown("the gateway does not answer", code="E_ROUTER")

    found = told(ports, silent)
    assert found[sample("unit_up", service="s", unit="s-gateway", kind="gateway")] == 1
    assert not [name for name, _ in found if name.startswith("shipway_gateway")]
