"""The read-only JSON API of `shipway up`, on loopback: services, releases, evidence, and metrics for Prometheus."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from flows.show.evidence_picture import draw
from flows.show.traffic_now import live_of
from flows.web.release_metrics import metrics_text
from flows.web.service_metrics import Exposition, health, service_metrics_text
from flows.web.snapshot import Snapshot
from pipelines.errors import BadInput, NotFound, ShipwayError
from pipelines.ports import Now, Ports
from pipelines.records.evidence_series import EvidenceSeries, evidence_series
from pipelines.records.reading import PAGE, checked, unfinished
from pipelines.records.view import release_view
from pipelines.services.units import gateway_name, servers_by_digest

LOOPBACK_HOSTS = {"127.0.0.1", "localhost", "[::1]"}

MOST_LISTED = 1000

log = logging.getLogger("shipway.api")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def make_app(ports: Ports, clock: Callable[[], Now], exposition: Exposition = lambda _service: "") -> web.Application:
    """The application. Port calls block, so they run in threads. What gateways count comes from `exposition`."""
    snapshot = Snapshot(lambda: _metrics(ports, exposition, clock()), clock)

    async def services(_: web.Request) -> web.Response:
        return _json(await asyncio.to_thread(_services, ports, clock))

    async def releases(request: web.Request) -> web.Response:
        return _json(await asyncio.to_thread(_releases, ports, request.query))

    async def release(request: web.Request) -> web.Response:
        return _json(await asyncio.to_thread(_release, ports, request.match_info["id"]))

    async def evidence(request: web.Request) -> web.Response:
        return _json(await asyncio.to_thread(lambda: _evidence(ports, request.match_info["id"]).as_dict()))

    async def picture(request: web.Request) -> web.Response:
        svg = await asyncio.to_thread(lambda: draw(_evidence(ports, request.match_info["id"]), "svg"))
        return web.Response(body=svg, content_type="image/svg+xml")

    async def metrics(_: web.Request) -> web.Response:
        text = await snapshot.text()
        return web.Response(body=text.encode(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def how_well(_: web.Request) -> web.Response:
        services = await asyncio.to_thread(health, ports, clock())
        ill = any(services.values())
        return _json({"status": "degraded" if ill else "ok", "services": services}, 503 if ill else 200)

    app = web.Application(middlewares=[_guard])
    app.router.add_get("/api/health", how_well)
    app.router.add_get("/api/services", services)
    app.router.add_get("/api/releases", releases)
    app.router.add_get("/api/releases/{id}", release)
    app.router.add_get("/api/releases/{id}/evidence", evidence)
    app.router.add_get("/api/releases/{id}/evidence.svg", picture)
    app.router.add_get("/metrics", metrics)
    return app


@web.middleware
async def _guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Loopback names only (a page elsewhere must not reach us by its own name), and errors as JSON."""
    if not _is_loopback(request.host):
        return _error(BadInput("this API answers to loopback names only", code="E_HOST", field="Host"), 421)
    try:
        return await handler(request)
    except NotFound as error:
        return _error(error, 404)
    except ShipwayError as error:
        return _error(error, 422 if isinstance(error, BadInput) else 503)
    except web.HTTPException as error:
        return _error(BadInput(f"{request.method} {request.path}: {error.reason}", code="E_HTTP"), error.status)


def _is_loopback(host: str) -> bool:
    """Whether a Host header names this machine, with a port or without."""
    name, _, port = host.lower().rpartition(":")
    return host.lower() in LOOPBACK_HOSTS or (name in LOOPBACK_HOSTS and port.isdecimal())


def _error(error: ShipwayError, status: int) -> web.Response:
    return _json({"error": error.as_dict()}, status)


def _metrics(ports: Ports, exposition: Exposition, now: Now) -> str:
    running = unfinished(ports.ledger)
    return metrics_text(ports, running) + service_metrics_text(ports, running, exposition, now)


def _services(ports: Ports, clock: Callable[[], Now]) -> list[dict[str, Any]]:
    return [_service_or_why(ports, name, clock()) for name in ports.services.names()]


def _service_or_why(ports: Ports, name: str, now: Now) -> dict[str, Any]:
    """What is broken in one service hides no other."""
    try:
        return _service(ports, name, now)
    except ShipwayError as error:
        return {"name": name, "broken": str(error)}
    except Exception as error:
        log.exception("service %s", name)
        return {"name": name, "broken": repr(error)}


def _service(ports: Ports, name: str, now: Now) -> dict[str, Any]:
    service = ports.services.load(name)
    servers = servers_by_digest(ports, name, [d.digest for d in service.deployments(now.wall_s)])
    units = {digest: [vars(status) for status in replicas.statuses] for digest, replicas in servers.items()}
    gateway = vars(ports.runtime.status(gateway_name(name)))
    return {**service.as_dict(), "split": live_of(ports, name), "gateway": gateway, "servers": units}


def _releases(ports: Ports, query: Mapping[str, str]) -> list[dict[str, Any]]:
    """A page of the list, or of the broken records alone."""
    limit = query.get("limit", str(PAGE))
    if not (limit.isascii() and limit.isdigit() and len(limit) <= 4 and 1 <= int(limit) <= MOST_LISTED):
        raise BadInput("this is no number of releases", code="E_LIMIT", field="limit", expected=f"1 to {MOST_LISTED}")
    rows = ports.ledger.summaries(limit=int(limit), before=query.get("before"), broken="broken" in query)
    return [row.line() for row in checked(ports.ledger, rows)]


def _release(ports: Ports, release_id: str) -> dict[str, Any]:
    release = ports.ledger.load(release_id)
    return {**release_view(release), "events": [vars(e) for e in release.events]}


def _evidence(ports: Ports, release_id: str) -> EvidenceSeries:
    return evidence_series(ports.ledger.load(release_id))


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(text=json.dumps(value, default=str), content_type="application/json", status=status)
