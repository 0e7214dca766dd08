"""One process, one service: every request gets an arm by the current split, and the judge gets honest counts.

The data port serves users on loopback. Whoever may change traffic speaks to the admin socket (mode 0600) instead.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import sys
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import orjson
from aiohttp import web

from pipelines.serving.attributes import Attributes
from pipelines.serving.door import given_door
from pipelines.serving.gateway_metrics import GatewayCounters
from pipelines.serving.intervals import Intervals
from pipelines.serving.labels import LabelRefused, Labels, label_of
from pipelines.serving.proxying import MAX_BODY_BYTES, Proxy, refusal
from pipelines.serving.recorder import Recorder, Recording
from pipelines.serving.split import Arm, TrafficSplit
from pipelines.serving.split_store import Refused, SplitStore

TICK_S = 0.05
LABEL_S = 900.0
DRAIN_S = 10.0
FAREWELL_S = 0.3
"""So long a gateway that ends says so with each answer, before it closes the connections that nobody uses."""
EXIT_PORT_TAKEN = 4


class Gateway:
    """The split, its snapshot, and the evidence of one service."""

    def __init__(
        self,
        snapshot: Path,
        interval_s: float,
        timeout_s: float,
        slices: Sequence[str] = (),
        label_s: float = LABEL_S,
        record: tuple[Path, Recording] | None = None,
    ) -> None:
        self._snapshot = snapshot
        self.boot = uuid.uuid4().hex[:12]
        self.store = SplitStore(_read_snapshot(snapshot), self.boot)
        self.intervals = Intervals(self.boot, interval_s, monotonic())
        self.counters = GatewayCounters()
        self.labels = Labels(self.intervals, label_s)
        self.recorder = Recorder(*record, self.counters.kept) if record else None
        self.proxy = Proxy(
            lambda: self.store.split,
            self.intervals,
            self.counters,
            timeout_s,
            Attributes(slices),
            self.labels,
            self.recorder,
        )
        self.is_ending = False
        self._write_snapshot(self.store.split)

    def put(self, wanted: TrafficSplit, expected: tuple[int, int]) -> TrafficSplit:
        """Make a split current: on the disk first, then in force. OSError where the disk refuses it.

        The way home is not held up by a full disk: a gateway that restarts comes back all-stable in any case.
        """
        checked = self.store.check(wanted, expected)
        try:
            self._write_snapshot(checked)
        except OSError:
            if not checked.is_home_of(self.store.split):
                raise
        split = self.store.put(wanted, expected, monotonic())
        self._changed()
        return split

    async def watch(self) -> None:
        """Cut intervals, and take traffic home when a lease ends."""
        while True:
            await asyncio.sleep(TICK_S)
            self.intervals.cut(monotonic(), self.store.split)
            self.labels.expire(monotonic())
            # Asked again at the end: a renewal may arrive while stable is looked at.
            is_overdue = self.store.is_overdue(monotonic()) and not await self._home_is_dead()
            if is_overdue and self.store.is_overdue(monotonic()):
                self._expire()

    def _expire(self) -> None:
        split = self.store.expired()
        with suppress(OSError):  # a full disk does not keep users at a canary that nobody watches
            self._write_snapshot(split)
        self.store.adopt(split)
        self._changed()
        print(f"lease expired: all traffic to stable, generation {split.generation}", flush=True)  # noqa: T201

    async def _home_is_dead(self) -> bool:
        """Whether stable cannot be reached while the canary can: traffic never moves to a dead arm."""
        split = self.store.split
        if split.stable is None or split.canary is None or await _is_reachable(split.stable):
            return False
        return await _is_reachable(split.canary)

    def _changed(self) -> None:
        self.intervals.cut(monotonic(), self.store.split)
        self.counters.share.set(self.store.split.canary_pct / 100)

    def _write_snapshot(self, split: TrafficSplit) -> None:
        """Durable before it is acknowledged: written aside, synced, then renamed."""
        temp = self._snapshot.with_suffix(".tmp")
        with temp.open("w") as out:
            json.dump(split.as_dict(), out)
            out.flush()
            os.fsync(out.fileno())
        temp.replace(self._snapshot)


async def _is_reachable(arm: Arm) -> bool:
    """Whether some replica of an arm accepts connections."""
    for url in arm.urls:
        parts = urlsplit(url)
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(1.0):
                _, writer = await asyncio.open_connection(parts.hostname, parts.port)
            writer.close()
            return True
    return False


def _read_snapshot(path: Path) -> TrafficSplit:
    """The last split; an unreadable snapshot is an empty one: nobody is served until somebody says what is stable."""
    try:
        return TrafficSplit.from_dict(json.loads(path.read_text()))
    except (OSError, ValueError, KeyError, TypeError):
        return TrafficSplit()


GATEWAY = web.AppKey("gateway", Gateway)


def data_app(gateway: Gateway) -> web.Application:
    """What users reach: everything goes to an arm."""
    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[_limits])
    app[GATEWAY] = gateway
    app.router.add_post("/feedback", _feedback)
    app.router.add_route("*", "/{path:.*}", gateway.proxy.handle)
    app.on_response_prepare.append(_say_farewell)
    return app


async def _feedback(request: web.Request) -> web.Response:
    """A label or a rating, from 0 to 1, of an earlier answer: 200 with whether it is evidence, 4xx where it is none."""
    own_id = request.headers.get("x-request-id", "")
    try:
        request_id, score, version = label_of(orjson.loads(await request.read()))
        is_evidence = request.app[GATEWAY].labels.labelled(request_id, score, version)
    except orjson.JSONDecodeError:
        return refusal(400, "E_BODY", "the body is not JSON", own_id, {}, "body")
    except LabelRefused as error:
        return refusal(error.status, error.code, str(error), own_id, {}, error.field)
    request.app[GATEWAY].counters.labelled.inc()
    return web.json_response({"request_id": request_id, "evidence": is_evidence})


async def _say_farewell(request: web.Request, response: web.StreamResponse) -> None:
    """A client that is told does not send its next request to a connection that is about to be closed."""
    if request.app[GATEWAY].is_ending:
        response.force_close()
        response.headers["connection"] = "close"


@web.middleware
async def _limits(request: web.Request, handler: Any) -> web.StreamResponse:
    try:
        answer: web.StreamResponse = await handler(request)
    except web.HTTPRequestEntityTooLarge:
        limit = f"the body has more than {MAX_BODY_BYTES} bytes"
        return refusal(413, "E_LIMIT", limit, request.headers.get("x-request-id", ""), {})
    except web.RequestPayloadError:
        return refusal(400, "E_BODY", "the body cannot be read", request.headers.get("x-request-id", ""), {})
    return answer


def admin_app(gateway: Gateway) -> web.Application:
    """What the controller reaches, on the admin socket only."""
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


async def serve(gateway: Gateway, host: str, port: int, admin_socket: Path) -> None:
    """Serve until SIGTERM; then finish what is in flight."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await gateway.proxy.open()
    admin = web.AppRunner(admin_app(gateway), access_log=None)
    # Not decompressed: an arm gets the very bytes that the client sent, under the encoding that they are labelled with.
    data = web.AppRunner(
        data_app(gateway),
        access_log=None,
        shutdown_timeout=DRAIN_S,
        handler_cancellation=True,
        auto_decompress=False,
    )
    await data.setup()
    door = given_door(os.environ)
    site = web.SockSite(data, door) if door else web.TCPSite(data, host, port, backlog=1024)
    await site.start()
    await admin.setup()
    await web.SockSite(admin, _private_socket(admin_socket)).start()
    watch = asyncio.create_task(gateway.watch())
    # Without its watch a gateway would leave users at a canary for good: it ends, and comes back all-stable.
    watch.add_done_callback(lambda _: stopped.set())
    await stopped.wait()
    broken = watch.exception() if watch.done() else None
    watch.cancel()
    await site.stop()
    gateway.is_ending = True
    await asyncio.sleep(FAREWELL_S)
    await data.cleanup()
    await admin.cleanup()
    await gateway.proxy.close()
    if gateway.recorder is not None:
        gateway.recorder.close()
    if broken is not None:
        raise broken


def _private_socket(path: Path) -> socket.socket:
    """A Unix socket that only its owner may open, from its first moment on."""
    path.unlink(missing_ok=True)
    before = os.umask(0o177)
    try:
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listening.bind(str(path))
    finally:
        os.umask(before)
    return listening


def main(argv: Sequence[str] | None = None) -> None:
    """Be one service's gateway."""
    import uvloop

    options = _parser().parse_args(argv)
    record = (options.record, options.recording) if options.record else None
    gateway = Gateway(options.snapshot, options.interval_s, options.timeout_s, options.slices, options.label_s, record)
    try:
        uvloop.run(serve(gateway, options.host, options.port, options.admin_socket))
    except OSError as error:
        print(f"E_PORT: cannot listen on {options.port}: {error.strerror}", file=sys.stderr)  # noqa: T201
        sys.exit(EXIT_PORT_TAKEN)


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _recording(text: str) -> Recording:
    return Recording.from_dict(json.loads(text)) or Recording()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pipelines.serving.gateway", description=__doc__)
    parser.add_argument("--service", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1", help="never anything else by default")
    parser.add_argument("--admin-socket", type=Path, required=True)
    parser.add_argument("--snapshot", type=Path, required=True, help="where the split outlives this process")
    parser.add_argument("--interval-s", type=float, default=1.0, help="length of an interval of evidence")
    parser.add_argument("--timeout-s", type=float, default=10.0, help="time for an answer")
    parser.add_argument(
        "--slices", type=_names, default=(), help="headers, or body.PATH, by comma: each value is judged"
    )
    parser.add_argument("--label-s", type=float, default=LABEL_S, help="how long an answer may be labelled")
    parser.add_argument("--record", type=Path, default=None, help="where a sample of the requests is kept")
    parser.add_argument("--recording", type=_recording, default=Recording(), help="which requests are kept, as JSON")
    return parser


if __name__ == "__main__":
    main()
