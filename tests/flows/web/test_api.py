"""Does the API of `up` tell the truth, read-only, to this machine only?"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client.parser import text_string_to_metric_families

from flows.web.api import make_app
from pipelines.adapters.memory.records import (
    MemoryInbox,
    MemoryLedger,
    MemoryLock,
    MemoryNotifier,
    MemoryRuntime,
    MemoryServices,
)
from pipelines.adapters.memory.registry import MemoryRegistry
from pipelines.adapters.memory.traffic import MemoryMetrics, MemoryRouter
from pipelines.errors import DependencyDown
from pipelines.ports import Now, Ports
from pipelines.records.evidence_series import evidence_series
from pipelines.records.release import Candidate, Phase, Release
from pipelines.records.service import Deployment, Service
from pipelines.records.summary import summary_of
from pipelines.records.view import phase_seconds, release_view
from pipelines.services.reconcile import reconcile
from tests.pipelines.rollout.test_look import World

CANDIDATE = Candidate("m", 3, "sha256:a", bundle_digest="sha256:b")
NOW = Now(500.0, 5.0)


def arm(routed: int, errors: int) -> dict[str, Any]:
    """An arm's counts on the wire."""
    return {"routed": routed, "errors": errors, "timeouts": 0, "exceed": {}, "by_slice": {}}


def look(canary: tuple[int, int], stable: tuple[int, int], outcome: str, sentence: str) -> dict[str, Any]:
    """What a look records."""
    reasons = [{"outcome": outcome, "gate": "errors", "sentence": sentence}]
    return {
        "strata": [{"arms": {"canary": arm(*canary), "stable": arm(*stable)}}],
        "verdict": {
            "outcome": outcome,
            "reasons": reasons,
            "progress": {"errors": canary[1] / 2, "errors_noninferior": -0.1},
            "canary_requests": canary[0],
            "stable_requests": stable[0],
        },
        "why": sentence,
    }


def in_canary() -> Release:
    """A release at its first step, which has looked twice."""
    release = Release().record(100.0, "opened", id="r1", service="s", spec={"model": "models:/m/3"}, spec_digest="")
    release = release.record(101.0, "resolved", candidate=vars(CANDIDATE), champion={"version": 2})
    verdict = {"outcome": "pass", "reasons": [{"outcome": "pass", "gate": "accuracy", "sentence": "0.91 ≥ 0.9"}]}
    release = release.enter(Phase.EVALUATED, 110.0, verdict=verdict)
    for at_s, phase in (
        (112.0, Phase.COMPRESSED),
        (113.0, Phase.BUILT),
        (115.5, Phase.STAGED),
        (120.0, Phase.QUALIFIED),
    ):
        release = release.enter(phase, at_s)
    release = release.record(120.5, "exposing", pct=5, step=0).record(121.0, "exposed", pct=5)
    release = release.enter(Phase.CANARY, 121.0, step=0)
    release = release.record(122.0, "looked", **look((10, 1), (190, 2), "inconclusive", "10 requests are too few"))
    return release.record(123.0, "looked", **look((12, 0), (188, 1), "inconclusive", "22 requests are too few"))


def rolled_back() -> Release:
    """The same one, sent home."""
    release = in_canary().record(124.0, "convicted", why="errors").record(124.0, "went_home")
    return release.enter(Phase.ROLLED_BACK, 124.5, why="1 of 22 requests failed")


@pytest.fixture
def ports() -> Ports:
    """One service that runs, and one release in its canary."""
    ports = Ports(
        registry=MemoryRegistry(),
        runtime=MemoryRuntime(),
        router=MemoryRouter(),
        metrics=MemoryMetrics(),
        ledger=MemoryLedger(),
        services=MemoryServices(),
        inbox=MemoryInbox(),
        lock=MemoryLock(),
        notifier=MemoryNotifier(),
    )
    stable = Deployment("sha256:1", "/b/1", "m", 2, "r0")
    reconcile(ports, ports.services.save(Service("s", stable=stable)), "test", NOW)
    ports.ledger.create(in_canary())
    return ports


def ask(ports: Ports, path: str, method: str = "GET", host: str | None = None) -> tuple[int, str, str]:
    """Status, content type and body of one request."""

    async def run() -> tuple[int, str, str]:
        async with TestClient(TestServer(make_app(ports, lambda: NOW))) as client:
            answer = await client.request(method, path, headers={"Host": host} if host is not None else {})
            return answer.status, answer.headers["Content-Type"], await answer.text()

    return asyncio.run(run())


def get(ports: Ports, path: str) -> Any:
    """The JSON of a good answer."""
    status, kind, body = ask(ports, path)
    assert (status, kind) == (200, "application/json; charset=utf-8")
    return json.loads(body)


def error(ports: Ports, path: str, **kwargs: str) -> tuple[int, str]:
    """Status and code of a JSON error."""
    status, kind, body = ask(ports, path, **kwargs)
    assert kind == "application/json; charset=utf-8"
    return status, json.loads(body)["error"]["code"]


def samples(ports: Ports) -> dict[frozenset[str], float]:
    """Every sample of /metrics, by its name and label values (which come in no order of ours)."""
    status, kind, body = ask(ports, "/metrics")
    assert (status, kind.split(";")[0]) == (200, "text/plain")
    families = text_string_to_metric_families(body)
    return {frozenset({s.name, *s.labels.values()}): s.value for family in families for s in family.samples}


def metric(found: dict[frozenset[str], float], name: str, *labels: str) -> float:
    """One of them."""
    return found[frozenset({f"shipway_{name}", *labels})]


def test_health(ports):
    """Everything that should run does."""
    assert get(ports, "/api/health") == {"status": "ok", "services": {"s": []}}


def test_what_does_not_run_is_no_health(ports):
    """503, and by name what is wrong with which service."""
    ports.runtime.fail("s-gateway", "E_PORT: port 1 is taken")
    status, _, body = ask(ports, "/api/health")
    assert (status, json.loads(body)["status"]) == (503, "degraded")
    assert json.loads(body)["services"] == {"s": ["s-gateway is failed: E_PORT: port 1 is taken"]}


def test_services_show_what_serves(ports):
    """The record, the split as the router has it, and the processes."""
    (service,) = get(ports, "/api/services")
    assert (service["name"], service["stable"]["version"], service["gateway"]["state"]) == ("s", 2, "ready")
    assert service["split"]["stable"]["digest"] == "sha256:1"
    assert [s["state"] for s in service["servers"]["sha256:1"]] == ["ready"]


def test_a_router_that_does_not_answer_is_said_to_be_unknown(ports, monkeypatch):
    """Not an error of the whole page, and never an old split."""

    def down(_: str) -> None:
        raise DependencyDown("the gateway does not answer")

    monkeypatch.setattr(ports.router, "read", down)
    (service,) = get(ports, "/api/services")
    assert service["split"] == {"unknown": "E_DEPENDENCY: the gateway does not answer"}


def test_releases_are_the_lines_of_the_list(ports):
    """What `shipway list --json` prints."""
    assert get(ports, "/api/releases") == [summary_of(in_canary()).line()]


def test_a_release_is_its_view_and_its_events(ports):
    """With the whole record, as it was chained."""
    found = get(ports, "/api/releases/r1")
    assert [e["hash"] for e in found.pop("events")] == [e.hash for e in in_canary().events]
    assert found == json.loads(json.dumps(release_view(in_canary())))


def test_the_evidence_is_the_series_and_its_picture(ports):
    """What `shipway evidence` shows."""
    world = World()
    world.look_until(Phase.PROMOTED)
    ports.ledger.chains["r1"] = list(world.release.events)
    assert get(ports, "/api/releases/r1/evidence") == json.loads(json.dumps(evidence_series(world.release).as_dict()))
    status, kind, body = ask(ports, "/api/releases/r1/evidence.svg")
    assert (status, kind, "<svg" in body) == (200, "image/svg+xml", True)


def test_no_evidence_is_no_picture(ports):
    """Of an unknown release, and of one that no user met."""
    ports.ledger.chains["r1"] = list(World().release.events)
    assert get(ports, "/api/releases/r1/evidence")["lines"] == []
    assert error(ports, "/api/releases/r1/evidence.svg") == (422, "E_NO_EVIDENCE")
    for path in ("/api/releases/r9/evidence", "/api/releases/r9/evidence.svg"):
        assert error(ports, path) == (404, "E_NOT_FOUND")


@pytest.mark.parametrize("path", ["/api/releases/r9", "/api/releases/..%2f..%2fetc", "/api/releases/r1'--"])
def test_an_unknown_release_is_a_404(ports, path):
    """In JSON, with the stable code."""
    assert error(ports, path) == (404, "E_NOT_FOUND")


def test_an_unknown_page_is_a_404_in_json(ports):
    """Clients never have to read HTML."""
    assert error(ports, "/api/nothing") == (404, "E_HTTP")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_nothing_can_be_changed(ports, method):
    """The control surface is elsewhere."""
    assert error(ports, "/api/releases/r1", method=method) == (405, "E_HTTP")


def test_a_ledger_that_is_down_is_a_503(ports, monkeypatch):
    """With the reason."""

    def down(**_: object) -> None:
        raise DependencyDown("the ledger cannot be used: disk I/O error", code="E_LEDGER_IO")

    monkeypatch.setattr(ports.ledger, "summaries", down)
    assert error(ports, "/api/releases") == (503, "E_LEDGER_IO")
    assert error(ports, "/metrics") == (503, "E_LEDGER_IO")


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost:80@evil.example", "127.0.0.1:x", ""],
)
def test_another_name_is_refused(ports, host):
    """A page that rebinds its own name to loopback learns nothing."""
    assert error(ports, "/api/releases", host=host) == (421, "E_HOST")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:4321", "LOCALHOST", "[::1]", "[::1]:80"])
def test_loopback_names_are_served(ports, host):
    """With a port and without."""
    assert ask(ports, "/api/health", host=host)[0] == 200


def test_metrics_of_a_running_release(ports):
    """Outcome, share, seconds per phase, requests of both arms."""
    found = samples(ports)
    assert metric(found, "releases", "s", "running") == 1
    assert metric(found, "releases", "s", "promoted") == 0
    assert metric(found, "canary_share_ratio", "s") == 0.05
    assert metric(found, "release_phase_seconds", "s", "evaluate") == 10.0
    assert metric(found, "release_requests", "s", "canary", "any") == 22
    assert metric(found, "release_requests", "s", "canary", "error") == 1
    assert metric(found, "release_requests", "s", "stable", "any") == 378


def test_metrics_say_what_is_proven_and_where_that_decides(ports):
    """At the last look: of harm and of harmlessness, beside the threshold of each."""
    found = samples(ports)
    for of, value in (("harm", 0.0), ("harmlessness", -0.1)):
        assert metric(found, "release_evidence_ratio", "s", "errors", of) == value
        assert metric(found, "release_evidence_threshold_ratio", "s", "errors", of) == 1


def test_metrics_after_the_end(ports):
    """The share is gone, and the outcome counts."""
    ports.ledger.save(rolled_back(), in_canary().version)
    found = samples(ports)
    assert metric(found, "canary_share_ratio", "s") == 0
    assert (metric(found, "releases", "s", "running"), metric(found, "releases", "s", "rolled_back")) == (0, 1)


def test_metrics_of_an_empty_ledger(ports):
    """Nothing was released yet; the page is still one."""
    ports.ledger.chains.clear()
    ports.services.records.clear()
    assert samples(ports) == {}


def test_a_view_of_a_running_release():
    """Where it is, why, what was judged, and who saw it."""
    view = release_view(in_canary())
    assert (view["phase"], view["share_pct"], view["reason"]) == ("canary", 5, "waits at 5 %: 22 requests are too few")
    assert (view["candidate"]["bundle_digest"], view["champion"]) == ("sha256:b", {"version": 2})
    assert view["verdicts"][0]["reasons"][0]["sentence"] == "0.91 ≥ 0.9"
    assert view["steps"] == [{"pct": 5, "at": 121.0}]
    assert (view["canary_requests"], view["canary_errors"]) == (22, 1)
    assert (view["stable_requests"], view["stable_errors"]) == (378, 3)


def test_a_view_of_an_ended_release():
    """Its own last word, and no share."""
    view = release_view(rolled_back())
    assert (view["outcome"], view["share_pct"], view["reason"]) == ("rolled_back", 0, "1 of 22 requests failed")


def test_seconds_add_up_to_the_whole_time():
    """Every second belongs to the part that took it, and one that was gone through twice has both."""
    release = in_canary().enter(Phase.CANARY, 130.0, step=1).enter(Phase.BAKING, 140.0)
    seconds = phase_seconds(release)
    assert (seconds["canary"], sum(seconds.values())) == (1.0 + 9.0 + 10.0, 40.0)
