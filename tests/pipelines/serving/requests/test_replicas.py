"""Which replica is asked, and which one is left alone?"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter

from pipelines.serving.requests import replicas as rooms
from pipelines.serving.requests.replicas import ILL_AFTER, Replicas
from tests.pipelines.serving.plane import GET, OK, Plane, saying, status_of
from tests.waiting import HANG_S

URLS = tuple(f"http://127.0.0.1:{port}" for port in (1, 2, 3))
BAD = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n"


def nobody() -> str:
    """An address at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def test_replicas_take_turns():
    """As long as they have equally much to do."""
    replicas = Replicas()
    assert Counter(replicas.pick(URLS).port for _ in range(30)) == Counter({1: 10, 2: 10, 3: 10})


def test_the_replica_with_the_fewest_calls_is_asked():
    """A slow one gets less."""
    replicas = Replicas()
    for port, calls in ((1, 5), (2, 1), (3, 2)):
        replicas.pick((f"http://127.0.0.1:{port}",)).outstanding = calls
    assert {replicas.pick(URLS).port for _ in range(6)} == {2}


def test_what_belongs_together_is_asked_of_one_replica():
    """And groups are spread over all of them; when a replica goes only its own groups move."""
    replicas = Replicas()
    names = [b"%d" % n for n in range(300)]
    first = {name: replicas.pick(URLS, together=name).port for name in names}
    assert {name: replicas.pick(URLS, together=name).port for name in names} == first
    assert all(60 < count < 140 for count in Counter(first.values()).values())
    moved = {name: replicas.pick(URLS[:2], together=name).port for name in names}
    assert all(moved[name] == port for name, port in first.items() if port != 3)


def test_a_crowded_replica_hands_over_what_would_be_more_than_its_part():
    """A conversation that everybody has at once is answered by all."""
    replicas, asked = Replicas(), Counter()
    for _ in range(30):
        replica = replicas.pick(URLS, together=b"hot")
        replica.outstanding += 1
        asked[replica.port] += 1
    assert min(asked.values()) > 0
    assert max(asked.values()) <= 1.25 * 30 / 3 + 1


def test_what_belongs_together_leaves_a_replica_that_fails():
    """And comes back to it when it answers again."""
    replicas = Replicas()
    first = replicas.pick(URLS, together=b"x")
    assert replicas.pick(URLS, [first], together=b"x") is not first
    assert replicas.pick(URLS, together=b"x") is first


def test_a_replica_that_was_tried_is_not_tried_again_while_there_is_another():
    """A second try goes elsewhere."""
    replicas = Replicas()
    first = replicas.pick(URLS)
    assert first not in [replicas.pick(URLS, [first]) for _ in range(9)]
    assert replicas.pick(URLS[:1], [replicas.pick(URLS[:1])]).port == 1


def test_a_replica_that_fails_is_left_alone_for_longer_each_time(monkeypatch):
    """One failure after its time away is enough; a good answer makes it as good as new."""
    now_s = 100.0
    monkeypatch.setattr(rooms, "monotonic", lambda: now_s)
    replica = Replicas().pick(URLS[:1])
    away = []
    for _ in range(4):
        while not replica.is_away(now_s):
            replica.failed()
        gone_s = now_s
        while replica.is_away(now_s):
            now_s += 0.5
        away.append(now_s - gone_s)
    assert away == [1.0, 2.0, 4.0, 8.0]
    replica.answered()
    replica.failed()
    assert not replica.is_away(now_s)


def test_the_last_replica_is_never_left_alone():
    """Somebody has to be asked."""
    replicas = Replicas()
    for url in URLS:
        for _ in range(ILL_AFTER):
            replicas.pick((url,)).failed()
    assert {replicas.pick(URLS).port for _ in range(6)} == {1, 2, 3}


def test_an_ill_replica_of_stable_costs_nobody_a_request(tmp_path):
    """Neither where nobody listens nor later; after a few failures it is not asked any more."""

    async def run():
        async with Plane(tmp_path) as plane:
            plane.split([await plane.upstream(saying(OK)), nobody()])
            found = [status_of(await plane.say(GET)) for _ in range(30)]
            return Counter(found), plane.counts("stable")

    found, (routed, errors, _) = asyncio.run(run())
    assert (found, routed) == (Counter({200: 30}), 30)
    assert 0 < errors <= ILL_AFTER


def test_a_replica_that_answers_with_errors_is_left_alone(tmp_path):
    """Users see its first few, and then no more."""

    async def run():
        async with Plane(tmp_path) as plane:
            plane.split([await plane.upstream(saying(OK)), await plane.upstream(saying(BAD))])
            return Counter([status_of(await plane.say(GET)) for _ in range(30)])

    assert asyncio.run(run()) == Counter({200: 30 - ILL_AFTER, 500: ILL_AFTER})


def test_what_the_gateway_itself_lacks_is_no_arms_error(tmp_path, monkeypatch):
    """503, and nobody was routed."""

    async def run():
        async with Plane(tmp_path) as plane:
            await plane.stable(saying(OK))
            reader, writer = await asyncio.open_connection("127.0.0.1", plane.port)

            async def exhausted(*_, **__):
                raise OSError(24, "Too many open files")

            monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", exhausted)
            writer.write(GET)
            return status_of(await reader.read()), plane.counts("stable")

    assert asyncio.run(run()) == (503, (0, 0, 0))


def test_connections_to_an_arm_that_is_gone_are_closed(tmp_path):
    """And what is known of it is forgotten."""

    async def run():
        async with Plane(tmp_path) as plane:
            old, new = await plane.upstream(saying(OK)), await plane.upstream(saying(OK))
            plane.split([old])
            await plane.say(GET)
            plane.split([new])
            await plane.say(GET)
            plane.gateway.proxy.tidy(0.0)
            return [replica.port for replica in plane.gateway.proxy.replicas] == [int(new.rsplit(":")[-1])]

    assert asyncio.run(run())


def test_who_vouches_for_an_arm_is_no_others_matter():
    """The same address under another authority is another replica: it was never checked by this one."""
    replicas = Replicas()
    one, other, again = (replicas.pick(("https://m:1",), ca_file=name) for name in ("a.pem", "b.pem", "a.pem"))
    assert (one is again, one is other) == (True, False)
    replicas.tidy({("https://m:1", "b.pem")}, 0.0)
    assert list(replicas) == [other]


def test_a_connection_that_comes_when_nobody_waits_any_more_is_closed(tmp_path):
    """Also where its arm is gone by then: until it has come somebody must remember to close it."""
    closed = asyncio.Event()

    async def waits(reader, writer):
        assert await reader.read() == b""
        closed.set()

    async def run():
        async with Plane(tmp_path) as plane:
            url, replicas = await plane.upstream(waits), plane.gateway.proxy.replicas
            call = rooms.Call(replicas.pick((url,)), Nobody(), b"GET", b"", b"")
            call.begin()
            call.cancel()
            replicas.tidy((), 0.0)
            async with asyncio.timeout(HANG_S):
                await closed.wait()
            return list(replicas)

    assert asyncio.run(run()) == []


class Nobody:
    """Waits for no answer."""
