"""Streams of a canary that was sent home, and of a gateway that ends: do they finish, or say that they were cut?"""

from __future__ import annotations

import asyncio
import socket

from pipelines.records.settings import GatewaySettings
from pipelines.records.split import Arm, TrafficSplit
from pipelines.serving.requests.data_plane import DataPlane, Serving
from pipelines.serving.requests.drain import Leaving
from tests.pipelines.serving.evidence.test_streams import chunk, streaming
from tests.pipelines.serving.plane import GET, Plane, saying

DONE = b"data: [DONE]\n\n"
FLOWING = streaming(*[chunk(b"data: a\n\n")] * 6, chunk(DONE) + b"0\r\n\r\n", pause_s=0.05)
ENDLESS = streaming(chunk(b"data: a\n\n"), pause_s=0.05, hangs=True)


def heard_of_a_canary_sent_home(folder, script, serving):
    """What the client of a canary hears that goes home in the middle of its stream, and the gateway."""

    async def run():
        async with Plane(folder, serving=serving) as plane:
            stable = await plane.upstream(saying(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"))
            plane.split([stable], [await plane.upstream(script)])
            asked = asyncio.create_task(plane.say(GET))
            await asyncio.sleep(0.2)
            plane.split([stable])
            return await asked, plane

    return asyncio.run(run())


def told(plane):
    """How many streams were cut off, as Prometheus is told."""
    name = b"shipway_gateway_streams_withdrawn_total "
    lines = plane.gateway.counters.text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(name))


def test_a_stream_of_a_canary_that_goes_home_ends_by_itself(tmp_path):
    """With its own last word, since it has `drain_s` for it."""
    answer, plane = heard_of_a_canary_sent_home(tmp_path, FLOWING, Serving(settings=GatewaySettings(drain_s=2.0)))
    assert (DONE in answer, b"event: error" in answer, told(plane)) == (True, False, 0.0)


def test_a_stream_that_does_not_end_in_time_is_cut_with_an_error_event(tmp_path):
    """In order, and the canary is not accused of it."""
    answer, plane = heard_of_a_canary_sent_home(tmp_path, ENDLESS, Serving(60.0, GatewaySettings(drain_s=0.3)))
    assert (b"event: error" in answer, answer.endswith(b"0\r\n\r\n")) == (True, True)
    assert plane.gateway.proxy.open == set()
    assert (told(plane), plane.gateway.counters.plain()["arms"]["canary"]["outcomes"]) == (1.0, {"ok": 1})


def test_the_streams_of_a_convicted_canary_can_be_cut_at_once(tmp_path):
    """Where the spec says so, they do not go on for `drain_s`."""
    cut = Serving(settings=GatewaySettings(drain_s=60.0, convicted_streams="cut"))
    answer, plane = heard_of_a_canary_sent_home(tmp_path, FLOWING, cut)
    assert (DONE in answer, b"event: error" in answer, told(plane)) == (False, True, 1.0)


def test_other_answers_of_a_canary_that_goes_home_are_not_cut(tmp_path):
    """They have a time of their own."""
    slow = saying(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nme", waits_s=0.4)
    answer, plane = heard_of_a_canary_sent_home(
        tmp_path, slow, Serving(settings=GatewaySettings(convicted_streams="cut"))
    )
    assert (answer.endswith(b"me"), told(plane)) == (True, 0.0)


def heard_of_a_gateway_that_ends(folder, script, drain_s):
    """What the client of a stream hears whose gateway is asked to end."""

    async def run():
        gateway = DataPlane(folder / "split", Serving(60.0, GatewaySettings(drain_s=drain_s)))
        await gateway.open(door := socket.create_server(("127.0.0.1", 0)))
        async with Plane(folder) as upstreams:
            stable = Arm("sha256:0", (await upstreams.upstream(script),))
            gateway.put(TrafficSplit((1, 1), stable), (0, 0))
            reader, writer = await asyncio.open_connection(*door.getsockname())
            writer.write(GET)
            await asyncio.sleep(0.2)
            await gateway.farewell()
            answer = await reader.read()
            writer.close()
            return answer

    return asyncio.run(run())


def test_a_gateway_that_ends_lets_streams_end(tmp_path):
    """Within its time."""
    answer = heard_of_a_gateway_that_ends(tmp_path, FLOWING, 2.0)
    assert (DONE in answer, answer.endswith(b"0\r\n\r\n"), b"event: error" in answer) == (True, True, False)


def test_a_gateway_that_ends_cuts_what_does_not(tmp_path):
    """The client is told, and its connection ends in order."""
    answer = heard_of_a_gateway_that_ends(tmp_path, ENDLESS, 0.1)
    assert (b"event: error" in answer, answer.endswith(b"0\r\n\r\n")) == (True, True)


class Answer:
    """One answer that goes on until it is ended."""

    def __init__(self, digest):
        self.digest, self.is_ended = digest, False

    def withdraw(self):
        """It is ended."""
        self.is_ended = True


def ended_after(*splits):
    """Which streams of a, b and c are ended, long after the last of these pairs of stable and canary."""
    leaving, streams = Leaving(5.0), [Answer(name) for name in "abc"]
    for n, pair in enumerate(splits):
        stable, canary = (Arm(name, ("http://127.0.0.1:1",)) if name else None for name in pair)
        leaving.changed(TrafficSplit((1, n), stable, canary, lease_s=1.0 if canary else None), float(n))
    leaving.sweep(streams, 100.0)
    return "".join(stream.digest for stream in streams if stream.is_ended)


def test_only_a_canary_that_left_is_ended():
    """Not one that was promoted, came back, or kept its share; nor the stable that it took the place of."""
    assert [
        ended_after(("a", "b"), ("a", "")),
        ended_after(("a", "b"), ("a", "b")),
        ended_after(("a", "b"), ("b", "")),
        ended_after(("a", "b"), ("a", ""), ("a", "b")),
        ended_after(("a", "b"), ("a", "c")),
    ] == ["b", "", "", "", "b"]
