"""How does a controller speak to the agent of a proxy? By the same admin socket as to Shipway's own gateway."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Protocol

from aiohttp import web

from pipelines.adapters.proxies.proxy import ProxyTrouble
from pipelines.records.split import Generation, TrafficSplit
from pipelines.serving.sockets import private_socket
from pipelines.serving.split.contract import AdminAnswer, SplitHolder, health_of, put_split, strata_of


class Administered(SplitHolder, Protocol):
    """Who holds the split of a proxy."""

    def read(self) -> TrafficSplit:
        """The split, as the proxy shows it."""
        ...

    def put(self, wanted: TrafficSplit, expected: Generation) -> TrafficSplit:
        """Set it; Refused for a stale writer."""
        ...

    def metrics(self) -> bytes:
        """The proxy's own counters."""
        ...


async def serve_admin(agent: Administered, path: Path) -> web.AppRunner:
    """Answer on a Unix socket that only its owner may open."""
    admin = _Admin(agent)
    app = web.Application(middlewares=[_troubles])
    app.router.add_get("/split", admin.read)
    app.router.add_put("/split", admin.put)
    app.router.add_get("/strata", admin.strata)
    app.router.add_get("/health", admin.health)
    app.router.add_get("/metrics", admin.metrics)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.SockSite(runner, private_socket(path)).start()
    return runner


class _Admin:
    """The routes. What blocks happens in a thread: a lease must not wait for a proxy that is slow to answer."""

    def __init__(self, agent: Administered) -> None:
        self._agent = agent

    async def read(self, _: web.Request) -> web.Response:
        """The split, as the proxy shows it."""
        split = await asyncio.to_thread(self._agent.read)
        return web.json_response(split.as_dict())

    async def put(self, request: web.Request) -> web.Response:
        """Another split, once the proxy shows it."""

        async def change(wanted: TrafficSplit, expected: Generation) -> TrafficSplit:
            return await asyncio.to_thread(self._agent.put, wanted, expected)

        return _told(await put_split(await request.read(), change, _refuse_tls))

    async def strata(self, request: web.Request) -> web.Response:
        """What was counted after an interval."""
        return _told(await asyncio.to_thread(strata_of, self._agent, request.query))

    async def health(self, _: web.Request) -> web.Response:
        """Whether the agent lives, and its proxy answers."""
        await asyncio.to_thread(self._agent.read)
        return _told(health_of(self._agent.boot))

    async def metrics(self, _: web.Request) -> web.Response:
        """The proxy's own Prometheus page."""
        body = await asyncio.to_thread(self._agent.metrics)
        return web.Response(body=body, content_type="text/plain")


def _told(told: AdminAnswer) -> web.Response:
    status, said = told
    return web.json_response(said, status=status)


def _refuse_tls(split: TrafficSplit) -> None:
    """ValueError where an arm speaks TLS, which the proxy was not told: it would send users' requests in clear."""
    arms = [arm for arm in (split.stable, split.canary) if arm]
    if any(url.startswith("https:") for arm in arms for url in arm.urls):
        raise ValueError("only Shipway's own gateway speaks TLS to an arm")


@web.middleware
async def _troubles(request: web.Request, handler: web.Handler) -> web.StreamResponse:  # type: ignore[name-defined]
    try:
        answer: web.StreamResponse = await handler(request)
    except ProxyTrouble as error:
        return web.json_response({"reason": str(error)}, status=502)
    return answer
