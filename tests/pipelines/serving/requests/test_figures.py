"""Shares and outcomes of arms are their operator's: users get them only where the service says so."""

from __future__ import annotations

import asyncio
import re

import pytest

from pipelines.records.settings import GatewaySettings
from pipelines.serving.http1.limits import Limits
from pipelines.serving.requests.data_plane import Serving
from pipelines.serving.requests.figures import are_asked
from tests.pipelines.serving.plane import GET, OK, Plane, body_of, request_of, saying, status_of

SPELT = [
    b"/metrics",
    b"/metrics?format=text",
    b"/metrics?",
    b"/metrics/",
    b"/metrics/arms",
    b"/%6detrics",
    b"/metric%73",
    b"/%6D%65%74%72%69%63%73?a=b",
    b"//metrics",
    b"/./metrics",
    b"/../metrics",
    b"/.%2e/%2E/metrics",
]
OTHERS = [
    b"/",
    b"/metricsx",
    b"/xmetrics",
    b"/v2/models/metrics/infer",
    b"/x?/metrics",
    b"/v1/metrics",
    b"/%256detrics",
]


@pytest.mark.parametrize("target", SPELT)
def test_what_an_arm_would_take_for_its_own_counts_is_seen(target):
    """However it is spelt."""
    assert are_asked(target)


@pytest.mark.parametrize("target", OTHERS)
def test_other_paths_are_the_arms(target):
    """A model may be called metrics."""
    assert not are_asked(target)


@pytest.mark.parametrize("target", [b"/" * 8000, b"/." * 4000, b"/%2e%2e" * 1100, b"/metric" + b"/" * 8000])
def test_no_target_takes_long(target):
    """No way to read one is tried twice; a slip in that would not end."""
    assert not are_asked(target)


def asked(folder, *requests: bytes, **settings: object) -> tuple[list[bytes], list[bytes]]:
    """What clients hear one after another, and what the arm was asked."""
    seen: list[bytes] = []

    async def script(reader, writer):
        while True:
            seen.append(await request_of(reader))
            writer.write(OK.replace(b"\r\n\r\n", b"\r\nx-shipway-model-version: 7\r\nx-shipway-arm: best\r\n\r\n"))

    async def run():
        async with Plane(folder, serving=Serving(60.0, GatewaySettings(**settings))) as plane:
            await plane.stable(script)
            return [await plane.say(request) for request in requests]

    return asyncio.run(run()), seen


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"POST", b"OPTIONS"])
@pytest.mark.parametrize("target", SPELT)
def test_counts_are_nobodys_unless_the_service_says_so(tmp_path, method, target):
    """404 as anywhere where nothing is; no arm is asked, whose own counts would tell as much."""
    (heard,), seen = asked(tmp_path, GET.replace(b"GET /", method + b" " + target))
    assert (status_of(heard), seen) == (404, [])


def test_counts_that_are_public_are_the_gateways_own(tmp_path):
    """Not those of the arm that would have been asked."""
    requests = [GET, GET, GET.replace(b"GET /", b"GET /metrics")]
    (*_, heard), seen = asked(tmp_path, *requests, metrics="public")
    assert (status_of(heard), len(seen)) == (200, 2)
    assert b"content-type: text/plain; version=0.0.4; charset=utf-8\r\n" in heard
    assert b'shipway_gateway_requests_total{arm="stable",outcome="ok"} 2.0' in body_of(heard)


def test_public_counts_are_read_only(tmp_path):
    """HEAD has the head alone; what would change something is refused, with what is allowed."""
    head, post = (GET.replace(b"GET /", method + b" /metrics") for method in (b"HEAD", b"POST"))
    (head, post), seen = asked(tmp_path, head, post, metrics="public")
    assert (status_of(head), body_of(head), status_of(post), seen) == (200, b"", 405, [])
    assert b"allow: GET, HEAD\r\n" in post


@pytest.mark.parametrize(("is_told", "expected"), [(True, [b"arm: stable", b"model-version: 7"]), (False, [])])
def test_clients_hear_who_answered_unless_the_service_hides_it(tmp_path, is_told, expected):
    """Neither the arm nor its version; the request's id comes either way."""
    (heard,), _ = asked(tmp_path, GET, arm_header=is_told)
    assert sorted(re.findall(rb"x-shipway-((?:arm|model-version): \w+)", heard)) == expected
    assert b"\r\nx-request-id: " in heard


def test_displaced_and_turned_away_connections_are_counted(tmp_path, monkeypatch):
    """A client that leaks connections is seen before others complain."""
    monkeypatch.setattr("pipelines.serving.http1.client.DISPLACED_AFTER_S", 0.05)

    async def run():
        async with Plane(tmp_path, limits=Limits(connections=2)) as plane:
            await plane.stable(saying(OK))
            _, said = await plane.leak()
            page = plane.gateway.exposition()
            return said, re.findall(rb"\nshipway_gateway_connections_(\w+)_total (\d+)", page)

    assert asyncio.run(run()) == ([503, 200], [(b"displaced", b"2"), (b"turned_away", b"1")])
