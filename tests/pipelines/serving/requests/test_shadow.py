"""Copies of stable's requests: does the canary get them, are they counted apart, and do users never notice?"""

from __future__ import annotations

import asyncio

import pytest

from pipelines.records.settings import GatewaySettings, Shadowing
from pipelines.records.split import Arm
from pipelines.serving.http1.request import Request
from pipelines.serving.requests.data_plane import Serving
from pipelines.serving.requests.replicas import Replicas
from pipelines.serving.requests.shadow import Shadow
from tests.pipelines.serving.plane import Plane, body_of, request_of, status_of

PATH = b"/v2/models/m/infer"
EVERY = Shadowing(pct=100.0, max_in_flight=4)


def asking(path=PATH, method=b"POST"):
    """A request of a client."""
    return b"%b %b HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi" % (method, path)


def says(name, status=200, heard=None, waits_s=0.0, woken=None):
    """An arm that predicts one class, and keeps what it was asked, and when it had waited."""

    async def script(reader, writer):
        while True:
            asked = await request_of(reader)
            if heard is not None:
                heard.append(asked)
            await asyncio.sleep(waits_s)
            if woken is not None:
                woken.append(name)
            writer.write(b"HTTP/1.1 %d X\r\nx-shipway-class: %b\r\ncontent-length: 2\r\n\r\nok" % (status, name))

    return script


def mirrored(folder, stable, canary, requests=None, shadowing=EVERY, timeout_s=2.0, settles_s=0.1):
    """The answers, and the stratum with everything that was counted. The canary has no share."""
    settings = GatewaySettings(timeout_s=timeout_s, shadow=shadowing)

    async def run():
        async with Plane(folder, serving=Serving(60.0, settings)) as plane:
            plane.split([await plane.upstream(stable)], [await plane.upstream(canary)], 0.0)
            answers = await asyncio.gather(*(plane.say(request) for request in requests or (asking(),)))
            await asyncio.sleep(settles_s)
            return answers, plane.gateway.intervals.current.stratum("boot"), plane.gateway.counters.text()

    return asyncio.run(run())


def test_the_canary_is_asked_the_same_and_says_that_it_is_a_shadow(tmp_path):
    """The same path, body and id, with a header of its own; the user gets stable's answer."""
    users, copies = [], []
    (answer,), stratum, _ = mirrored(tmp_path, says(b"a", heard=users), says(b"b", heard=copies))
    assert (status_of(answer), b"x-shipway-arm: stable" in answer, body_of(answer)) == (200, True, b"ok")
    assert [(b"x-shipway-shadow: 1" in asked, asked.endswith(b"\r\n\r\nhi")) for asked in copies] == [(True, True)]
    without = copies[0].replace(b"x-shipway-shadow: 1\r\n", b"").partition(b"\r\nhost:")
    assert without[0] == users[0].partition(b"\r\nhost:")[0]
    assert stratum.shadow.other == 1


@pytest.mark.parametrize(
    ("stable", "canary", "expected"),
    [
        (says(b"a"), says(b"a"), (1, 0, 1, 0, 0)),
        (says(b"a"), says(b"b"), (1, 0, 0, 1, 0)),
        (says(b"a"), says(b"a", status=500), (1, 1, 0, 0, 1)),
        (says(b"a", status=500), says(b"a"), (1, 0, 0, 0, 1)),
    ],
)
def test_both_answers_are_compared(tmp_path, stable, canary, expected):
    """By the class that they name; and nothing of it is evidence on the canary."""
    _, stratum, said = mirrored(tmp_path, stable, canary)
    shadow = stratum.shadow
    assert (shadow.canary.routed, shadow.canary.errors, shadow.same, shadow.other, shadow.failed) == expected
    assert (stratum.canary.routed, stratum.stable.routed) == (0, 1)
    assert b'shipway_gateway_requests_total{arm="canary"' not in said
    assert b"shipway_gateway_shadow_requests_total{outcome=" in said


def test_a_canary_that_hangs_slows_nobody(tmp_path):
    """Its time runs out by itself, and all is said before it answers."""
    woken = []
    hung = says(b"a", waits_s=60, woken=woken)
    (answer,), stratum, _ = mirrored(tmp_path, says(b"a"), hung, timeout_s=0.3, settles_s=0.5)
    assert (status_of(answer), stratum.stable.errors, stratum.shadow.canary.timeouts) == (200, 0, 1)
    assert woken == []


def test_no_more_copies_are_on_their_way_than_allowed(tmp_path):
    """The others are left out, and counted."""
    answers, stratum, _ = mirrored(
        tmp_path, says(b"a"), says(b"a", waits_s=0.3), (asking(),) * 4, Shadowing(100.0, 1), settles_s=0.5
    )
    assert [status_of(answer) for answer in answers] == [200] * 4
    assert (stratum.shadow.canary.routed, stratum.shadow.skipped) == (1, 3)


@pytest.mark.parametrize("request_", [asking(b"/elsewhere"), asking(PATH, b"PUT")])
def test_only_questions_to_a_model_are_copied(tmp_path, request_):
    """Anything else might change something."""
    copies = []
    _, stratum, _ = mirrored(tmp_path, says(b"a"), says(b"a", heard=copies), (request_,))
    assert (copies, stratum.shadow) == ([], None)


def test_the_share_of_copies_is_the_declared_one():
    """Within four standard deviations of 10 %."""
    skipped = []
    shadow = Shadow(Shadowing(10.0, 0), Replicas(), 1.0, lambda *said: skipped.append(said))
    request = Request(b"POST", PATH, [], {}, is_http11=True)
    for _ in range(10_000):
        shadow.mirror(request, b"1", b"", Arm("sha256:1", ("http://127.0.0.1:1",)))
    assert 880 <= len(skipped) <= 1120
