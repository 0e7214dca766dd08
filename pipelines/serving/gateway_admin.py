"""What does the controller reach of a gateway, on the admin socket only?"""

from __future__ import annotations

from time import monotonic

from aiohttp import web

from pipelines.serving.gateway import Gateway
from pipelines.serving.split import TrafficSplit
from pipelines.serving.split_store import Refused

GATEWAY = web.AppKey("gateway", Gateway)


def admin_app(gateway: Gateway) -> web.Application:
    """The split, the evidence and the counters."""
    app = web.Application()
    app[GATEWAY] = gateway
    app.router.add_get("/split", _get_split)
    app.router.add_put("/split", _put_split)
    app.router.add_get("/strata", _strata)
    app.router.add_get("/health", _health)
    app.router.add_get("/metrics", _metrics)
    return app


async def _get_split(request: web.Request) -> web.Response:
    return web.json_response(request.app[GATEWAY].store.split.as_dict())


async def _put_split(request: web.Request) -> web.Response:
    """409 with the current split for a stale writer, 400 for what is no split."""
    gateway = request.app[GATEWAY]
    try:
        raw = await request.json()
        fence, n = raw["expected"]
        split = gateway.put(TrafficSplit.from_dict(raw), (int(fence), int(n)))
    except Refused as error:
        return web.json_response({"reason": str(error), "split": error.current.as_dict()}, status=409)
    except (ValueError, KeyError, TypeError, IndexError, OverflowError, AttributeError) as error:
        return web.json_response({"reason": f"not a split: {error!r}"[:300]}, status=400)
    except OSError as error:
        return web.json_response({"reason": f"the snapshot cannot be written: {error}"}, status=507)
    return web.json_response(split.as_dict())


async def _strata(request: web.Request) -> web.Response:
    gateway = request.app[GATEWAY]
    same_boot = request.query.get("boot") in {"", None, gateway.boot}
    try:
        after = int(request.query.get("after", "-1")) if same_boot else -1
    except ValueError:
        return web.json_response({"reason": "after must be the number of an interval"}, status=400)
    gateway.intervals.cut(monotonic(), gateway.store.split)
    strata = [s.as_dict() for s in gateway.intervals.decided_after(after)]
    return web.json_response({"boot": gateway.boot, "strata": strata})


async def _health(request: web.Request) -> web.Response:
    return web.json_response({"boot": request.app[GATEWAY].boot, "live": True})


async def _metrics(request: web.Request) -> web.Response:
    return web.Response(body=request.app[GATEWAY].counters.text(), content_type="text/plain")
