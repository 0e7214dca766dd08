"""Odd clients and odd arms, byte by byte: everybody gets the answer that is theirs, and waits have an end."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import pytest

from pipelines.serving.http1.limits import Limits
from tests.pipelines.serving.plane import GET, OK, Plane, body_of, request_of, saying, status_of

POST = b"POST /p HTTP/1.1\r\nhost: x\r\n"
KEPT = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


def answers(folder, *pieces, upstream=OK, limits=None, timeout_s=2.0, **how):
    """What a client hears from a gateway whose stable arm always answers this."""

    async def run():
        async with Plane(folder, timeout_s, limits) as plane:
            await plane.stable(upstream if callable(upstream) else saying(upstream))
            return await plane.say(*pieces, **how), plane.counts("stable")

    return asyncio.run(run())


def test_a_connection_carries_several_requests(tmp_path):
    """Also when they are sent in advance: the answers come in order."""
    numbers = [b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n%d" % n for n in range(3)]
    heard, counts = answers(tmp_path, KEPT + KEPT + GET, upstream=saying(*numbers))
    assert [part.split(b"\r\n\r\n")[1][:1] for part in heard.split(b"HTTP/1.1 200 OK")[1:]] == [b"0", b"1", b"2"]
    assert counts == (3, 0, 0)


def test_what_follows_a_good_request_is_refused_after_its_answer(tmp_path):
    """First 200, then 400 and the end."""
    heard, counts = answers(tmp_path, KEPT + b"nonsense\r\n\r\n")
    assert (heard.count(b"HTTP/1.1 200 OK"), heard.count(b"HTTP/1.1 400 Bad Request")) == (1, 1)
    assert counts == (1, 0, 0)


def test_a_refusal_says_what_is_wrong_in_shipways_form(tmp_path):
    """And no arm hears of it."""
    heard, counts = answers(tmp_path, POST + b"content-length: 1\r\ncontent-length: 2\r\n\r\n")
    assert status_of(heard) == 400
    assert json.loads(body_of(heard))["error"]["code"] == "E_REQUEST"
    assert counts == (0, 0, 0)


def test_a_request_may_come_byte_by_byte(tmp_path):
    """It is understood all the same."""
    pieces = [bytes([byte]) for byte in b"GET / HTTP/1.0\r\n\r\n"]
    assert status_of(answers(tmp_path, *pieces)[0]) == 200


@pytest.mark.parametrize("raw", [b"GET / HT", POST, POST + b"content-length: 5\r\n\r\nab", b""])
def test_who_is_too_slow_is_told_so(tmp_path, raw):
    """408 in the middle of a request, and just the end where nothing was begun."""
    limits = Limits(header_s=0.2, body_s=0.1, idle_s=0.2)
    heard, counts = answers(tmp_path, raw, limits=limits)
    assert (status_of(heard), counts) == (408 if raw else 0, (0, 0, 0))


def test_a_half_closed_client_gets_its_answer(tmp_path):
    """It has said all that it had to say."""
    assert body_of(answers(tmp_path, KEPT, ends=True)[0]) == b"ok"


def test_a_client_that_ends_in_the_middle_of_a_request_is_refused(tmp_path):
    """400, not silence."""
    assert status_of(answers(tmp_path, POST, ends=True)[0]) == 400


def test_a_body_over_the_limit_is_refused_before_it_is_sent(tmp_path):
    """Who asks whether to send it hears 413 at once; a good one is told to go on."""
    head = POST + b"expect: 100-continue\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
    assert status_of(answers(tmp_path, head % 5_000_000)[0]) == 413
    heard, _ = answers(tmp_path, head % 2, b"ab")
    assert (heard.count(b"100 Continue"), heard.count(b"200 OK")) == (1, 1)


def test_one_connection_too_many_is_turned_away(tmp_path):
    """503; those that are there are served on."""

    async def run():
        async with Plane(tmp_path, limits=Limits(connections=1)) as plane:
            await plane.stable(saying(OK))
            reader, writer = await asyncio.open_connection("127.0.0.1", plane.port)
            writer.write(KEPT)
            await reader.readuntil(b"ok")
            turned_away = status_of(await plane.say(GET))
            writer.write(KEPT)
            await reader.readuntil(b"ok")
            writer.close()
            return turned_away

    assert asyncio.run(run()) == 503


def test_connections_that_nobody_uses_make_room(tmp_path, monkeypatch):
    """A client that leaks connections locks nobody out: the one that was unused for longest is closed."""
    monkeypatch.setattr("pipelines.serving.http1.client.DISPLACED_AFTER_S", 0.05)

    async def run():
        async with Plane(tmp_path, limits=Limits(connections=2)) as plane:
            await plane.stable(saying(OK))
            reader, said = await plane.leak()
            return said, await reader.read(), plane.gateway.clients.load.displaced

    assert asyncio.run(run()) == ([503, 200], b"", 2)


@pytest.mark.parametrize("held", [b"GET / HT", POST, POST + b"content-length: 9\r\n\r\nab"])
def test_requests_that_never_end_make_room(tmp_path, held):
    """A client that drips its requests locks nobody out either, once they have had a few seconds."""

    async def run():
        async with Plane(tmp_path, limits=Limits(connections=2, pressed_s=0.2)) as plane:
            await plane.stable(saying(OK))
            lines = [await asyncio.open_connection("127.0.0.1", plane.port) for _ in range(2)]
            for _, writer in lines:
                writer.write(held)
            await asyncio.sleep(0.4)
            return [status_of(await plane.say(GET)) for _ in range(2)], await lines[0][0].read()

    assert asyncio.run(run()) == ([503, 200], b"")


def test_empty_lines_are_no_use_of_a_connection(tmp_path):
    """Who sends nothing else is closed like anybody who sends nothing; before a request they are read over."""

    async def run():
        async with Plane(tmp_path, limits=Limits(idle_s=0.3)) as plane:
            await plane.stable(saying(OK))
            reader, writer = await asyncio.open_connection("127.0.0.1", plane.port)
            for _ in range(600):
                writer.write(b"\r\n")
                await asyncio.sleep(0.05)
                if is_closed := reader.at_eof() or writer.is_closing():
                    break
            return is_closed, status_of(await plane.say(b"\r\n" + GET))

    assert asyncio.run(run()) == (True, 200)


def test_a_fault_before_anybody_was_asked_holds_up_no_evidence(tmp_path, monkeypatch):
    """500, no interval waits for it, and the gateway goes on."""

    async def run():
        async with Plane(tmp_path) as plane:
            await plane.stable(saying(OK))
            with monkeypatch.context() as patched:
                patched.setattr(plane.gateway.proxy.replicas, "pick", lambda *_: 1 / 0)
                broken = status_of(await plane.say(GET))
            await asyncio.sleep(0.2)
            intervals = plane.gateway.intervals
            return broken, len(plane.gateway.proxy.open), intervals.current.undecided, status_of(await plane.say(GET))

    assert asyncio.run(run()) == (500, 0, 0, 200)


def test_a_fault_of_ours_is_answered(tmp_path, caplog):
    """500, and the connection goes on; the log has the path, without what a query may hold."""

    async def run():
        async with Plane(tmp_path) as plane:
            await plane.stable(saying(OK))
            serve, plane.gateway.clients.serve = plane.gateway.clients.serve, lambda *_: 1 / 0
            reader, writer = await asyncio.open_connection("127.0.0.1", plane.port)
            writer.write(KEPT.replace(b" / ", b" /p?email=ada "))
            head = await reader.readuntil(b"\r\n\r\n")
            plane.gateway.clients.serve = serve
            writer.write(KEPT)
            rest = await reader.readuntil(b"ok")
            writer.close()
            return status_of(head), b"E_INTERNAL" in rest, b"200 OK" in rest

    assert asyncio.run(run()) == (500, True, True)
    assert [record.getMessage() for record in caplog.records] == ["GET /p"]


@pytest.mark.parametrize("named", [b"content-encoding", b"close, Content-Type, content-encoding"])
def test_nobody_takes_away_how_a_body_is_read(tmp_path, named):
    """Neither a client from its request nor an arm from its answer."""
    seen, lines = (
        [],
        b"connection: %b\r\ncontent-type: a/b\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\nok" % named,
    )

    async def script(reader, writer):
        seen.append(await request_of(reader))
        writer.write(b"HTTP/1.1 200 OK\r\n" + lines)

    heard, _ = answers(tmp_path, POST + lines, upstream=script, within_s=0.5)
    for said in (heard, seen[0]):
        assert (b"\r\ncontent-type: a/b" in said, b"\r\ncontent-encoding: gzip" in said) == (True, True)


@pytest.mark.parametrize("named", [b"content-length", b"Date, Content-Length", b"x-request-id, content-length"])
def test_an_arm_cannot_take_the_length_away(tmp_path, named):
    """What tells one answer from the next is no matter of one hop, whatever `Connection` says."""

    async def run():
        async with Plane(tmp_path) as plane:
            await plane.stable(saying(b"HTTP/1.1 200 OK\r\nconnection: %b\r\ncontent-length: 2\r\n\r\nok" % named))
            return await plane.say(KEPT + GET)

    heard = asyncio.run(run())
    assert (heard.count(b"200 OK"), heard.lower().count(b"content-length: 2")) == (2, 2)


def test_one_request_too_many_in_flight_is_turned_away(tmp_path):
    """503 with Retry-After, and it counts for no arm."""

    async def run():
        async with Plane(tmp_path, limits=Limits(in_flight=1)) as plane:
            await plane.stable(saying(OK, waits_s=0.3))
            both = await asyncio.gather(plane.say(GET), plane.say(GET))
            return sorted(map(status_of, both)), plane.counts("stable"), len(plane.gateway.proxy.open)

    assert asyncio.run(run()) == ([200, 503], (1, 0, 0), 0)


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-t: t\r\n\r\n",
            b"2\r\nok\r\n0\r\n\r\n",
        ),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, b"ok"),
        (b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n", b""),
        (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\n\r\n", b""),
        (b"HTTP/1.1 299 Odd\r\ncontent-length: 2\r\n\r\nok", b"ok"),
    ],
)
def test_an_answer_is_passed_on(tmp_path, answer, body):
    """However it says how long it is; interim answers and trailers stay behind."""
    heard, counts = answers(tmp_path, GET, upstream=answer)
    assert (body_of(heard), counts) == (body, (1, 0, 0))


def test_an_answer_without_a_length_ends_with_its_connection(tmp_path):
    """For a client of HTTP/1.1 it becomes chunks, for one of HTTP/1.0 it stays as it is."""
    upstream = saying(b"HTTP/1.0 200 OK\r\n\r\nok", closes=True)
    assert body_of(answers(tmp_path, GET, upstream=upstream)[0]).startswith(b"2\r\nok\r\n")
    assert body_of(answers(tmp_path, b"GET / HTTP/1.0\r\n\r\n", upstream=upstream)[0]) == b"ok"


def test_the_answer_to_head_has_no_body(tmp_path):
    """But the length that it would have."""
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 1234\r\n\r\n"
    heard, counts = answers(tmp_path, b"HEAD / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", upstream=head)
    assert (body_of(heard), b"content-length: 1234" in heard, counts) == (b"", True, (1, 0, 0))


GARBAGE = [
    b"\x00\x01 what?\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 1000 + b"\r\n",
    b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000 + b"\r\n\r\n",
    b"HTTP/1.1 200 OK\nbare: lf\n\n",
    b"HTTP/1.1 099 Odd\r\n\r\n" + OK,
    b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + OK,
    b"HTTP/1.1 000 None\r\ncontent-length: 2\r\n\r\nok",
    b"HTTP/1.1 600 Odd\r\ncontent-length: 2\r\n\r\nok",
    b"HTTP/1.1 999 Odd\r\ncontent-length: 2\r\n\r\nok",
    b"HTTP/2.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
    b"HTTP/0.9 200 OK\r\ncontent-length: 2\r\n\r\nok",
    b"HTTP/2.0 100 Continue\r\n\r\n" + OK,
]
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
BROKEN_AT_ONCE = {
    "no size": CHUNKED + b"zz\r\n",
    "a size that is too large": CHUNKED + b"fffffffffffffffff\r\n",
    "more than its size": CHUNKED + b"4\r\nhalfXX",
    "a second one without a size": CHUNKED + b"4\r\nhalf\r\nzz\r\n",
    "too many trailers": CHUNKED + b"4\r\nhalf\r\n0\r\n" + b"x: y\r\n" * 1000 + b"\r\n",
}
"""Chunks that are none, in the same packet as the head."""


@pytest.mark.parametrize("answer", GARBAGE)
def test_garbage_is_a_bad_gateway_and_the_arms_error(tmp_path, answer):
    """502, never the arm's bytes."""
    heard, counts = answers(tmp_path, GET, upstream=saying(answer, closes=True))
    assert (status_of(heard), counts) == (502, (1, 1, 0))


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf",
        CHUNKED + b"4\r\nhalf\r\n",
    ],
)
def test_half_an_answer_breaks_the_connection(tmp_path, answer):
    """The client never takes it for a whole one, and it is the arm's error."""
    heard, counts = answers(tmp_path, GET, upstream=saying(answer, closes=True))
    assert (heard.endswith(b"0\r\n\r\n"), counts) == (False, (1, 1, 0))


@pytest.mark.parametrize("shape", BROKEN_AT_ONCE)
def test_an_answer_that_breaks_before_anything_of_it_was_passed_on_is_none(tmp_path, shape):
    """502 where nobody else can be asked; after the head had been passed on, only a broken connection is honest."""
    broken = BROKEN_AT_ONCE[shape]
    heard, counts = answers(tmp_path, GET, upstream=saying(broken))
    assert (status_of(heard), b"E_STABLE_DOWN" in heard, counts) == (502, True, (1, 1, 0))

    async def late(reader, writer):
        await request_of(reader)
        for part in (CHUNKED, broken.removeprefix(CHUNKED)):
            writer.write(part)
            await asyncio.sleep(0.1)

    heard, counts = answers(tmp_path, GET, upstream=late)
    assert (status_of(heard), heard.endswith(b"0\r\n\r\n"), counts) == (200, False, (1, 1, 0))


@pytest.mark.parametrize("shape", BROKEN_AT_ONCE)
@pytest.mark.parametrize(("asked", "status"), [(GET, 200), (GET.replace(b"GET", b"POST"), 502)])
def test_stable_answers_for_a_canary_that_breaks_at_once(tmp_path, shape, asked, status):
    """Where a request may be asked twice; the canary's failure counts either way."""

    async def run():
        async with Plane(tmp_path) as plane:
            canary, stable = [await plane.upstream(saying(said)) for said in (BROKEN_AT_ONCE[shape], OK)]
            plane.split([stable], [canary])
            heard = await plane.say(asked)
            return status_of(heard), b"E_ASKED_ONCE" in heard, plane.counts("canary"), plane.counts("stable")

    assert asyncio.run(run()) == (status, status == 502, (1, 1, 0), (0, 0, 0))


def test_more_than_it_said_never_reaches_the_next_client(tmp_path):
    """The connection is not used again."""
    poisoned = OK + b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"
    heard, counts = answers(tmp_path, KEPT, KEPT, GET, upstream=saying(poisoned))
    assert (heard.count(b"\r\n\r\nok"), b"evil" in heard, counts) == (3, False, (3, 0, 0))


def test_an_arm_that_speaks_unasked_is_not_asked_over_that_connection(tmp_path):
    """Nobody gets what was said before the question."""

    async def evil(reader, writer):
        await request_of(reader)
        writer.write(OK)
        await asyncio.sleep(0.05)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil")
        await asyncio.sleep(1)

    heard, _ = answers(tmp_path, KEPT, b"", b"", b"", b"", b"", GET, upstream=evil)
    assert (heard.count(b"\r\n\r\nok"), b"evil" in heard) == (2, False)


def test_a_connection_that_was_closed_while_nobody_used_it_costs_nothing(tmp_path):
    """The question is asked once more over a new one, and is no error of the arm."""

    async def closing(reader, writer):
        await request_of(reader)
        writer.write(OK)
        await reader.readexactly(1)  # the next question has begun to come: too late to answer
        writer.transport.abort()

    heard, counts = answers(tmp_path, KEPT, KEPT, GET, upstream=closing)
    assert (heard.count(b"\r\n\r\nok"), counts) == (3, (3, 0, 0))


def test_connection_headers_end_here(tmp_path):
    """In both directions, with those that Connection names; the rest passes as it is."""
    seen = []

    async def script(reader, writer):
        seen.append((await request_of(reader)).lower())
        writer.write(OK.replace(b"\r\n\r\n", b"\r\nconnection: x-hop\r\nx-hop: 1\r\nX-End: 2\r\n\r\n"))

    asked = b"GET /%20a?b HTTP/1.1\r\nhost: x\r\nconnection: close, x-mine\r\nx-mine: 1\r\nte: trailers\r\n"
    heard, _ = answers(tmp_path, asked + b"traceparent: t\r\n\r\n", upstream=script)
    assert (b"x-hop" in heard, b"x-end: 2" in heard, b"x-shipway-arm: stable" in heard) == (False, True, True)
    assert (b"x-mine" in seen[0], b"\r\nte:" in seen[0], b"traceparent: t" in seen[0]) == (False, False, True)
    assert seen[0].startswith(b"get /%20a?b http/1.1\r\nhost: 127.0.0.1:")


def test_chunks_reach_the_arm_under_one_length(tmp_path):
    """No two parsers can disagree about where a request ends."""
    seen = []

    async def script(reader, writer):
        seen.append(await request_of(reader))
        writer.write(OK)

    chunks = b"connection: close\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n2;x=y\r\nbc\r\n0\r\n\r\n"
    answers(tmp_path, POST + chunks, upstream=script)
    assert (seen[0].endswith(b"\r\n\r\nabc"), b"content-length: 3\r\n" in seen[0]) == (True, True)
    assert b"transfer-encoding" not in seen[0]


def test_a_client_that_does_not_read_holds_up_the_arm_not_the_memory(tmp_path):
    """A stream of 64 MB waits in the arm."""

    async def flood(reader, writer):
        await request_of(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(1000):
            writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            await writer.drain()
            sent.append(65536)

    sent: list[int] = []

    async def run():
        async with Plane(tmp_path) as plane:
            await plane.stable(flood)
            reader, writer = await asyncio.open_connection("127.0.0.1", plane.port, limit=65536)
            writer.write(GET)
            await reader.readexactly(10)
            await asyncio.sleep(0.5)
            held = sum(sent)
            rest = 0
            while data := await reader.read(1 << 20):
                rest += len(data)
            return held, rest

    held, rest = asyncio.run(run())
    assert held < 32_000_000
    assert rest > 65_000_000


def test_a_client_that_leaves_frees_what_was_held_for_it(tmp_path):
    """The arm's connection too."""

    async def run():
        async with Plane(tmp_path) as plane:
            await plane.stable(saying(OK, waits_s=1.0))
            _, writer = await asyncio.open_connection("127.0.0.1", plane.port)
            writer.write(POST + b"content-length: 3\r\n\r\nabc")
            await asyncio.sleep(0.1)
            open_, load = plane.gateway.proxy.open, plane.gateway.clients.load
            before = len(open_), load.body_bytes
            writer.transport.abort()
            await asyncio.sleep(0.5)
            return before, (len(open_), load.body_bytes, load.connections), plane.counts("stable")

    assert asyncio.run(run()) == ((1, 3), (0, 0, 0), (1, 1, 1))


def test_a_farewell_finishes_what_is_in_flight(tmp_path):
    """Who waits gets the answer and is told to go; idle connections are closed."""

    async def run():
        async with Plane(tmp_path) as plane:
            await plane.stable(saying(OK, waits_s=0.5))
            idle, _ = await asyncio.open_connection("127.0.0.1", plane.port)
            waiting = asyncio.create_task(plane.say(KEPT))
            await asyncio.sleep(0.1)
            await plane.gateway.farewell()
            return await idle.read(), await waiting

    idle, heard = asyncio.run(run())
    assert (idle, body_of(heard), b"connection: close" in heard) == (b"", b"ok", True)


def test_answers_asked_in_advance_wait_until_the_client_reads(tmp_path):
    """Eight big ones of one client do not fill the memory."""
    big = b"HTTP/1.1 200 OK\r\ncontent-length: 8000000\r\n\r\n" + b"x" * 8_000_000

    async def run():
        async with Plane(tmp_path, timeout_s=10.0) as plane:
            await plane.stable(saying(big))
            reader, writer = await asyncio.open_connection("127.0.0.1", plane.port, limit=65536)
            writer.write(KEPT * 7 + GET)
            await asyncio.sleep(0.5)
            asked = plane.counts("stable")[0]
            rest = 0
            while data := await reader.read(1 << 20):
                rest += len(data)
            return asked, rest, len(plane.gateway.proxy.open)

    asked, rest, in_flight = asyncio.run(run())
    assert asked < 3
    assert (rest > 64_000_000, in_flight) == (True, 0)


def test_of_two_ids_of_a_request_the_first_counts(tmp_path):
    """For the client, and for the arm, which hears of one only."""
    seen = []

    async def script(reader, writer):
        seen.append(await request_of(reader))
        writer.write(OK)

    two = GET.replace(b"\r\n\r\n", b"\r\nx-request-id: mine\r\nX-Request-Id: theirs\r\n\r\n")
    heard, _ = answers(tmp_path, two, upstream=script)
    assert [line for line in heard.split(b"\r\n") if b"request-id" in line] == [b"x-request-id: mine"]
    assert [line for line in seen[0].split(b"\r\n") if b"request-id" in line] == [b"x-request-id: mine"]


@pytest.mark.parametrize("own_id", [b"", b"x-request-id:\r\n"])
def test_a_label_without_an_id_of_its_own_is_answered_without_one(tmp_path, own_id):
    """No header is empty; a question gets a new id."""
    label = b"POST /feedback HTTP/1.1\r\nhost: x\r\nconnection: close\r\n%bcontent-length: 2\r\n\r\n{}" % own_id
    heard, _ = answers(tmp_path, label)
    assert (status_of(heard), b"\r\nx-request-id" in heard) == (422, False)
    heard, _ = answers(tmp_path, GET.replace(b"\r\n\r\n", b"\r\n" + own_id + b"\r\n"))
    ids = [line.partition(b": ")[2] for line in heard.split(b"\r\n") if line.startswith(b"x-request-id")]
    assert list(map(len, ids)) == [32]


def test_an_id_that_is_too_long_to_be_labelled_is_not_kept(tmp_path):
    """It comes back all the same."""
    long = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-request-id: %b\r\n\r\n" % (b"a" * 5000)

    async def run():
        async with Plane(tmp_path) as plane:
            await plane.stable(saying(OK))
            return await plane.say(long), len(plane.gateway.labels._answers)

    heard, kept = asyncio.run(run())
    assert (b"a" * 5000 in heard, kept) == (True, 0)


def test_a_gateway_loads_nothing_heavy():
    """Its memory is paid for by every worker: neither numpy nor another web server is among what it imports."""
    code = (
        "import sys, pipelines.serving.gateway.gateway; print(sorted({'numpy', 'aiohttp', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_answers_from_a_memo_are_marked(tmp_path):
    """Counted as answered; how fast a memo is says nothing about a model."""
    hit = b"HTTP/1.1 200 OK\r\nx-shipway-memo: hit\r\ncontent-length: 2\r\n\r\nok"

    async def run():
        async with Plane(tmp_path) as plane:
            await plane.stable(saying(hit, OK))
            for _ in range(2):
                assert status_of(await plane.say(GET.replace(b"connection: close\r\n", b""), within_s=0.2)) == 200
            return plane.gateway.intervals.current.stratum("b").stable

    counted = asyncio.run(run())
    assert (counted.routed, counted.errors, counted.memo_hits, counted.timed) == (2, 0, 1, 1)
