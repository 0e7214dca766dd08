"""Which requests may be asked twice?"""

from __future__ import annotations

import asyncio

import pytest

from pipelines.records.settings import GatewaySettings
from pipelines.serving.http1.request import Request
from pipelines.serving.requests.data_plane import Serving
from pipelines.serving.requests.repeats import Repeats
from tests.pipelines.serving.plane import GET, OK, Plane, request_of, saying, status_of


@pytest.mark.parametrize(
    ("method", "target", "expected"),
    [
        (b"GET", b"/anything", True),
        (b"PUT", b"/anything", True),
        (b"POST", b"/anything", False),
        (b"PATCH", b"/anything", False),
        (b"POST", b"/invocations?x=1", True),
        (b"POST", b"/v2/models/m/infer", True),
        (b"POST", b"/v2/models/m/versions/1/infer", True),
        (b"POST", b"/v1/chat/completions", True),
        (b"POST", b"/v1/files", False),
        (b"POST", b"/rank/fast", True),
        (b"POST", b"/rank", False),
        (b"POST", b"/ra\xffnk/", False),
    ],
)
def test_only_what_changes_nothing_may(method, target, expected):
    """What HTTP says, questions to a model, and what is declared."""
    request = Request(method, target, [], {}, is_http11=True)
    assert Repeats(("/rank/*",)).allow(request) is expected


def deaf(heard):
    """An arm that hears a request, and closes without a word."""

    async def script(reader, writer):
        heard.append(await request_of(reader))

    return script


def asked(folder, request, idempotent=()):
    """The answer to one request that the canary does not answer, and what the canary counted."""
    heard = []

    settings = GatewaySettings(timeout_s=2.0, idempotent=idempotent)

    async def run():
        async with Plane(folder, serving=Serving(60.0, settings)) as plane:
            plane.split([await plane.upstream(saying(OK))], [await plane.upstream(deaf(heard))])
            return await plane.say(request), plane.counts("canary")

    answer, counts = asyncio.run(run())
    return status_of(answer), answer, counts, len(heard)


def posting(path):
    """A request that changes something, for all we know."""
    return b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi" % path


@pytest.mark.parametrize(
    ("request_", "expected"),
    [(GET, 200), (posting(b"/invocations"), 200), (posting(b"/rank"), 200), (posting(b"/pay"), 502)],
)
def test_stable_saves_what_may_be_asked_twice(tmp_path, request_, expected):
    """Of anything else the client hears that it failed, with a code of its own; the canary is blamed for all."""
    status, answer, counts, heard = asked(tmp_path, request_, ("/rank",))
    assert (status, counts, heard) == (expected, (1, 1, 0), 1)
    assert (b"E_ASKED_ONCE" in answer) is (expected == 502)


def test_what_was_never_heard_is_saved(tmp_path):
    """Nobody listens where the canary should be: even a payment can be made at stable."""

    async def run():
        async with Plane(tmp_path) as plane:
            plane.split([await plane.upstream(saying(OK))], ["http://127.0.0.1:1"])
            return await plane.say(posting(b"/pay")), plane.counts("canary")

    answer, counts = asyncio.run(run())
    assert (status_of(answer), counts) == (200, (1, 1, 0))


def test_a_payment_gets_a_connection_of_its_own(tmp_path):
    """One that was kept may be closing: whether its last request was heard, nobody would know."""
    connections = []

    async def counting(reader, writer):
        connections.append(1)
        await saying(OK)(reader, writer)

    async def run():
        async with Plane(tmp_path) as plane:
            await plane.stable(counting)
            for path in (b"/invocations", b"/invocations", b"/pay", b"/pay"):
                assert status_of(await plane.say(posting(path))) == 200

    asyncio.run(run())
    assert len(connections) == 3
