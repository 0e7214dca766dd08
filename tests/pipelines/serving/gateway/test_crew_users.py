"""Users who stay at their arm are counted once by a real crew, whichever process meets them and whichever dies."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from contextlib import suppress
from time import monotonic

import httpx
import pytest

from pipelines.records.settings import GatewaySettings
from pipelines.records.split import Arm, TrafficSplit
from pipelines.serving.evidence.users import MINUTE_S
from pipelines.serving.gateway.crew import Crew
from pipelines.serving.gateway.meetings import LATE_S
from pipelines.serving.gateway.options import options_of, serving_of
from tests.pipelines.serving.plane import OK, saying
from tests.waiting import HANG_S

pytestmark = pytest.mark.integration

BAD = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n"
USERS = 12


async def upstream(answer: bytes) -> tuple[asyncio.Server, str]:
    """A server that says one thing, and its address."""
    script = saying(answer)

    async def follow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await script(reader, writer)
        writer.close()

    server = await asyncio.start_server(follow, "127.0.0.1", 0)
    return server, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def ask(port: int, turns: int) -> None:
    """Every user asks so often, each time over a connection of its own."""
    async with httpx.AsyncClient(trust_env=False, limits=httpx.Limits(max_keepalive_connections=0)) as client:
        for _ in range(turns):
            for user in range(USERS):
                await client.get(f"http://127.0.0.1:{port}/", headers={"x-user": f"user {user}"})


async def until(said) -> None:
    """It is so."""
    async with asyncio.timeout(HANG_S):
        while not said():  # noqa: ASYNC110  other processes say so, which set no event here
            await asyncio.sleep(0.05)


def outcomes(crew: Crew) -> Counter[str]:
    """The users that were counted so far."""
    found: Counter[str] = Counter()
    for stratum in crew.decided_after(-1):
        for arm in ("stable", "canary"):
            users = getattr(stratum, arm).users
            if users is not None:
                found.update({f"{arm} users": users.routed, f"{arm} failed": users.errors})
    return found


async def story(crew: Crew, door: socket.socket) -> tuple[Counter[str], Counter[str]]:
    """What was counted too early, and when everybody's minute was over; a worker died in between."""
    (first, stable), (second, canary) = await upstream(OK), await upstream(BAD)
    await crew.open(door)
    duties = [asyncio.ensure_future(duty) for duty in crew.duties()]
    await until(lambda: len(crew._hands) == 2)
    split = TrafficSplit((1, 1), Arm("sha256:1", (stable,)), Arm("sha256:2", (canary,)), 50.0, 600.0)
    await crew.change(split, (0, 0))
    await ask(door.getsockname()[1], 3)
    await until(lambda: len(crew._users._waiting) == USERS)
    await asyncio.sleep(0.3)
    next(iter(crew._hands.values())).kill()
    await until(lambda: len(crew._hands) == 2)
    await ask(door.getsockname()[1], 2)
    await asyncio.sleep(0.5)
    early = outcomes(crew)
    crew.tick(monotonic() + MINUTE_S + LATE_S)
    crew.tick(monotonic() + 2 * MINUTE_S)
    await until(lambda: outcomes(crew))
    for duty in duties:
        duty.cancel()
    await crew.farewell()
    first.close()
    second.close()
    return early, outcomes(crew)


def test_a_user_counts_once_whoever_meets_him(tmp_path):
    """Also when the worker that met him first was killed: what it had said stays."""
    door = socket.create_server(("127.0.0.1", 0))
    said = ["--service", "s", "--port", "1", "--admin-socket", str(tmp_path / "s.sock")]
    said += ["--snapshot", str(tmp_path / "split"), "--interval-s", "0.2"]
    settings = GatewaySettings(workers=2, assign="header:x-user")
    crew = Crew(tmp_path / "split", serving_of(options_of(said), settings), said)
    early, late = asyncio.run(story(crew, door))
    assert early == Counter()
    assert late["canary users"] + late["stable users"] == USERS
    assert (late["canary failed"], late["stable failed"]) == (late["canary users"], 0)
    assert 0 < late["canary users"] < USERS
