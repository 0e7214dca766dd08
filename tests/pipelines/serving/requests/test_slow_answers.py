"""An answer that is late counts so, and still reaches its client as long as it flows."""

from __future__ import annotations

import asyncio

import pytest

from pipelines.serving.http1.limits import Limits
from tests.pipelines.serving.plane import GET, OK, Plane, body_of, request_of, saying, status_of
from tests.waiting import HANG_S

TIMEOUT_S = 0.3
KEPT = GET.replace(b"connection: close\r\n", b"")
CHUNKED = b"transfer-encoding: chunked"


def dripping(framing: bytes, *pieces: bytes, pause_s: float = 0.05, hangs: bool = False):
    """An arm that sends a head with this framing, and these pieces one after another."""

    async def script(reader, writer):
        await request_of(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n")
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(pause_s)
        if hangs:
            await asyncio.sleep(30)

    return script


def heard(folder, script, limits=None):
    """What a client hears, and what is counted of stable."""

    async def run():
        async with Plane(folder, TIMEOUT_S, limits) as plane:
            await plane.stable(script)
            return await plane.say(GET), plane.counts("stable"), len(plane.gateway.proxy.open)

    return asyncio.run(run())


def test_an_answer_of_known_length_that_flows_is_not_cut(tmp_path):
    """It comes whole, twice as late as it should. The judge sees a time-out, as of any that is not whole by then."""
    answer, counts, still_open = heard(tmp_path, dripping(b"content-length: 24", *[b"ab"] * 12))
    assert (body_of(answer), counts, still_open) == (b"ab" * 12, (1, 1, 1), 0)


def test_a_late_stream_is_a_slow_answer(tmp_path):
    """As ever: nobody said how long it would be."""
    answer, counts, _ = heard(tmp_path, dripping(CHUNKED, *[b"2\r\nab\r\n"] * 12, b"0\r\n\r\n"))
    assert (body_of(answer).count(b"ab"), answer.endswith(b"0\r\n\r\n"), counts) == (12, True, (1, 0, 0))


@pytest.mark.parametrize("limits", [Limits(), Limits(stalled_s=0.2)], ids=["the service's time", "less"])
def test_an_answer_of_known_length_that_stops_is_cut(tmp_path, limits):
    """When nothing has come for the service's own time, or for what the gateway waits in the middle of an answer."""
    script = dripping(b"content-length: 24", *[b"ab"] * 8, hangs=True)
    answer, counts, still_open = heard(tmp_path, script, limits)
    assert (body_of(answer), counts, still_open) == (b"ab" * 8, (1, 1, 1), 0)


def test_a_late_answer_that_breaks_off_counts_once(tmp_path):
    """It was counted when its time was over."""
    answer, counts, still_open = heard(tmp_path, dripping(b"content-length: 24", *[b"ab"] * 10))
    assert (body_of(answer), counts, still_open) == (b"ab" * 10, (1, 1, 1), 0)


def test_a_client_that_reads_late_gets_all_of_it(tmp_path):
    """It may read nothing for longer than an arm may take to answer, and that says nothing about the arm."""
    size = 8_000_000

    async def run():
        async with Plane(tmp_path, TIMEOUT_S) as plane:
            await plane.stable(dripping(b"content-length: %d" % size, b"x" * size, hangs=True))
            reader, writer = await asyncio.open_connection("127.0.0.1", plane.port, limit=65536)
            writer.write(GET)
            await asyncio.sleep(3 * TIMEOUT_S)
            read = len(await reader.readuntil(b"\r\n\r\n")) * 0
            while data := await reader.read(1 << 20):
                read += len(data)
            writer.close()
            return read, plane.counts("stable")

    assert asyncio.run(run()) == (size, (1, 0, 0))


def test_clients_that_do_not_read_keep_nobody_out(tmp_path):
    """Where as many requests are in flight as may be, they are waited for less, once their answers are late."""
    size = 8_000_000

    async def run():
        async with Plane(tmp_path, TIMEOUT_S, Limits(in_flight=2, pressed_s=0.2)) as plane:
            await plane.stable(dripping(b"content-length: %d" % size, b"x" * size, hangs=True))
            held = [await asyncio.open_connection("127.0.0.1", plane.port, limit=65536) for _ in range(2)]
            for reader, writer in held:
                writer.write(GET)
                await reader.readexactly(1)
            crowded = status_of(await plane.say(GET))
            await plane.stable(saying(OK))
            async with asyncio.timeout(HANG_S):
                said = [status_of(await plane.say(GET))]
                while said[-1] != 200:
                    said.append(status_of(await plane.say(GET)))
            return crowded, plane.counts("stable")[1:]

    assert asyncio.run(run()) == (503, (0, 0))


def test_a_half_closed_client_gets_all_that_it_asked_in_advance(tmp_path):
    """How long it may take begins anew with each request."""

    async def run():
        async with Plane(tmp_path) as plane:
            await plane.stable(saying(OK, waits_s=0.15))
            return await plane.say(KEPT + KEPT + KEPT, ends=True)

    assert asyncio.run(run()).count(b"200 OK") == 3
