"""A gateway's data plane in this process, between raw bytes and upstreams that say exactly what a test wants."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Self

from pipelines.records.settings import GatewaySettings
from pipelines.records.split import Arm, TrafficSplit
from pipelines.serving.http1.limits import Limits
from pipelines.serving.requests.data_plane import DataPlane, Serving

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
GET = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"


def saying(*answers: bytes, closes: bool = False, waits_s: float = 0.0) -> Script:
    """An upstream that answers each request on a connection with the next of these bytes, the last one for ever."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for turn in range(1_000_000):
            await request_of(reader)
            await asyncio.sleep(waits_s)
            writer.write(answers[min(turn, len(answers) - 1)])
            await writer.drain()
            if closes:
                break

    return script


async def request_of(reader: asyncio.StreamReader) -> bytes:
    """One request with its body, by content-length. IncompleteReadError where the gateway closed."""
    head = await reader.readuntil(b"\r\n\r\n")
    lengths = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return head + await reader.readexactly(int(lengths[0]) if lengths else 0)


class Plane:
    """One gateway; everything is closed afterwards."""

    def __init__(
        self, folder: Path, timeout_s: float = 2.0, limits: Limits | None = None, serving: Serving | None = None
    ) -> None:
        usual = Serving(60.0, GatewaySettings(timeout_s=timeout_s), limits or Limits())
        self.gateway = DataPlane(folder / "split", serving or usual)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(self.gateway.clients.protocol, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        sweep = loop.create_task(self.gateway.sweep())
        self._stack.callback(sweep.cancel)
        self._stack.callback(server.close)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.gateway.clients.cut()
        await self._stack.aclose()
        self.gateway.proxy.replicas.close()
        await asyncio.sleep(0.01)

    async def upstream(self, script: Script) -> str:
        """The address of an upstream that follows a script on every connection."""

        async def follow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await script(reader, writer)
            writer.close()

        server = await asyncio.start_server(follow, "127.0.0.1", 0)
        self._stack.callback(server.close)
        return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    def split(self, stable: list[str], canary: list[str] | None = None, pct: float = 100.0) -> None:
        """Who serves."""
        fence, n = self.gateway.store.split.generation
        arms = [Arm(f"sha256:{i}", tuple(urls)) if urls else None for i, urls in enumerate((stable, canary))]
        shares = (pct, 600.0) if canary else (0.0, None)
        self.gateway.put(TrafficSplit((max(1, fence), n + 1), *arms, *shares), (fence, n))

    async def stable(self, script: Script) -> None:
        """One upstream is stable, and there is no canary."""
        self.split([await self.upstream(script)])

    async def say(self, *pieces: bytes, ends: bool = False, within_s: float = 5.0) -> bytes:
        """Send these bytes, one piece after another; everything that comes back until the gateway closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        with suppress(ConnectionError):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.02 if len(pieces) > 1 else 0)
            if ends:
                writer.write_eof()
        heard = bytearray()
        with suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(within_s):
                while data := await reader.read(65536):
                    heard += data
        writer.close()
        return bytes(heard)

    async def leak(self) -> tuple[asyncio.StreamReader, list[int]]:
        """Somebody takes two connections and uses none: what he hears on the first; what two others are answered."""
        leaked = [await asyncio.open_connection("127.0.0.1", self.port) for _ in range(2)]
        for _, writer in leaked:
            self._stack.callback(writer.close)
        await asyncio.sleep(0.2)
        return leaked[0][0], [status_of(await self.say(GET)) for _ in range(2)]

    def counts(self, arm: str) -> tuple[int, int, int]:
        """Routed, errors and time-outs of an arm in the open interval."""
        counted = self.gateway.intervals.current.arms[arm]
        return counted.routed, counted.errors, counted.timeouts


def status_of(answer: bytes) -> int:
    """The status of the first answer, 0 where there is none."""
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0


def body_of(answer: bytes) -> bytes:
    """Everything after the first head."""
    return answer.partition(b"\r\n\r\n")[2]
