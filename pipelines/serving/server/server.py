"""One process, one bundle: verifies the bytes, loads them, and answers on loopback.

It is ready only after a real inference, and does not start where the bundle is not the one that was evaluated.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from pipelines.errors import BadInput, ShipwayError
from pipelines.records.settings import ServerSettings
from pipelines.serving.engines import STREAMING, load_engine, streaming_engine
from pipelines.serving.engines.engine import Engine
from pipelines.serving.engines.streaming import EnginePlace
from pipelines.serving.http1.encodings import decoded
from pipelines.serving.privacy.redactor import Redactor
from pipelines.serving.server.bodies import error_answer, parse_json
from pipelines.serving.settings_file import read_settings
from pipelines.supply.bundle import verify_bundle
from pipelines.tasks.known import wire_of
from pipelines.tasks.wire import Door, NotFinite, Wire

MAX_BODY_BYTES = 2 * 1024 * 1024
MAX_QUEUE, MAX_WAIT_S = 1024, 5.0
"""Whoever would wait longer than this is refused at once and may ask elsewhere."""
TYPICAL_OF_LAST = 0.1
EXIT_INPUT, EXIT_WRONG_BYTES = 2, 3

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class LoadedModel:
    """A loaded model with its callers' wire and names, its one worker thread, and what is counted."""

    engine: Engine
    wire: Wire
    model: str
    version: str
    ready: bool = False
    waiting: int = 0
    typical_s: float = 0.0
    pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "inference"))
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def __post_init__(self) -> None:
        self.requests = Counter("shipway_server_requests", "Answers by status", ["status"], registry=self.registry)
        self.seconds = Histogram("shipway_server_inference_seconds", "Time in the engine", registry=self.registry)
        self.queue = Gauge("shipway_server_queue_requests", "Requests that wait or run", registry=self.registry)

    async def predict(self, rows: Sequence[Any]) -> Any:
        """Ask the engine in its own thread, so that health checks are answered meanwhile."""
        if self.waiting >= MAX_QUEUE or self.waiting * self.typical_s > MAX_WAIT_S:
            raise web.HTTPServiceUnavailable(
                text=error_answer(BadInput("too many requests wait", code="E_BUSY_SERVER")).decode(),
                content_type="application/json",
                headers={"Retry-After": "1"},
            )
        self.waiting += 1
        self.queue.set(self.waiting)
        try:
            return await asyncio.get_running_loop().run_in_executor(self.pool, self._timed, rows)
        finally:
            self.waiting -= 1
            self.queue.set(self.waiting)

    def _timed(self, rows: Sequence[Any]) -> Any:
        began = perf_counter()
        try:
            return self.engine.predict(rows)
        finally:
            took_s = perf_counter() - began
            self.typical_s += TYPICAL_OF_LAST * (took_s - self.typical_s)
            self.seconds.observe(took_s)


SERVED = web.AppKey("served", LoadedModel)


def make_app(served: LoadedModel) -> web.Application:
    """The application: where the task's callers ask, health, and metrics."""
    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[_answer_for_everything])
    app[SERVED] = served
    model = f"/v2/models/{served.model}"
    app.router.add_get("/v2", _metadata)
    app.router.add_get("/v2/health/live", _live)
    app.router.add_get("/v2/health/ready", _ready)
    app.router.add_get("/ping", _ready)
    app.router.add_get("/version", _version)
    app.router.add_get("/metrics", _metrics)
    app.router.add_get(model, _model)
    app.router.add_get(f"{model}/ready", _ready)
    for door in served.wire.doors(served.model, served.version):
        app.router.add_post(door.path, _asked_at(door))
    return app


@web.middleware
async def _answer_for_everything(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Errors as JSON of the right kind; the version and the request's id on every answer."""
    served = request.app[SERVED]
    try:
        response = await handler(request)
    except web.HTTPRequestEntityTooLarge:
        limit = BadInput(
            "the body is too large", code="E_LIMIT", field="body", expected=f"at most {MAX_BODY_BYTES} bytes"
        )
        response = _json(error_answer(limit), 413)
    except web.HTTPException as error:
        response = error if error.content_type == "application/json" else _http_error(error)
    except BadInput as error:
        response = _json(error_answer(error), 413 if error.code == "E_LIMIT" else 422)
    except NotFinite:
        wrong = BadInput("the model answered with NaN or infinity", code="E_OUTPUT", hint="the model is at fault")
        response = _json(error_answer(wrong), 500)
    except Exception as error:  # noqa: BLE001  whatever an engine raises is an answer, not the end of the server
        failed = BadInput(f"the model failed: {type(error).__name__}", code="E_INFERENCE", hint="see the server's log")
        why = Redactor().redact(f"{error!r}"[:500])  # an engine may quote what it was asked
        print(f"inference failed: {why}", file=sys.stderr, flush=True)  # noqa: T201  the process's log
        response = _json(error_answer(failed), 500)
    response.headers["x-shipway-model-version"] = served.version
    response.headers["x-request-id"] = request.headers.get("x-request-id") or uuid.uuid4().hex
    served.requests.labels(str(response.status)).inc()
    return response


def _http_error(error: web.HTTPException) -> web.Response:
    return _json(error_answer(BadInput(error.reason, code=f"E_HTTP_{error.status}")), error.status)


def _json(body: bytes, status: int = 200) -> web.Response:
    return web.Response(body=body, status=status, content_type="application/json")


async def _body(request: web.Request) -> bytes:
    """The body, decoded here: a wrong one is then an answer like any other, and costs nobody the connection."""
    return decoded(await request.read(), request.headers.get("content-encoding", ""), MAX_BODY_BYTES)


def _asked_at(door: Door) -> Handler:
    """Who answers at a door."""

    async def answer(request: web.Request) -> web.Response:
        served = request.app[SERVED]
        outputs = await served.predict(door.read(parse_json(await _body(request))))
        response = _json(door.write(outputs))
        response.headers.update(served.wire.headers(outputs))
        return response

    return answer


async def _metadata(_: web.Request) -> web.Response:
    return web.json_response({"name": "shipway", "version": "2", "extensions": []})


async def _model(request: web.Request) -> web.Response:
    served = request.app[SERVED]
    facts: dict[str, Any] = {"name": served.model, "versions": [served.version], "platform": "shipway"}
    return web.json_response({**facts, **served.wire.tensors()})


async def _live(_: web.Request) -> web.Response:
    return web.json_response({"live": True})


async def _ready(request: web.Request) -> web.Response:
    ready = request.app[SERVED].ready
    return web.json_response({"ready": ready}, status=200 if ready else 503)


async def _version(request: web.Request) -> web.Response:
    return web.Response(text=request.app[SERVED].version)


async def _metrics(request: web.Request) -> web.Response:
    return web.Response(body=generate_latest(request.app[SERVED].registry), content_type="text/plain")


def load(bundle: Path, facts: Mapping[str, Any], model: str, version: str, threads: int) -> LoadedModel:
    """Load a verified bundle, and try it out."""
    served = LoadedModel(load_engine(bundle, facts, threads), wire_of(facts), model, version)
    served.wire.check(served.engine.predict(served.wire.tried))
    served.ready = True
    return served


def settings_of(options: argparse.Namespace) -> ServerSettings:
    """How a server of these options behaves. BadInput E_SETTINGS_… where its file does not say so."""
    said = {"cpus": options.threads, "drain_s": options.drain_s}
    said = {name: value for name, value in said.items() if value is not None}
    if options.settings and said:
        raise BadInput(f"all of it stands in {options.settings}", code="E_SETTINGS_TWICE", field="--settings")
    return read_settings(options.settings, ServerSettings) if options.settings else ServerSettings.from_dict(said)


def main(argv: Sequence[str] | None = None) -> None:
    """Serve one bundle until SIGTERM; then finish what is in flight."""
    options = _parser().parse_args(argv)
    try:
        settings = settings_of(options)
    except BadInput as error:
        print(error, file=sys.stderr)  # noqa: T201  the process's log
        sys.exit(EXIT_INPUT)
    try:
        _serve(options, verify_bundle(options.bundle, options.digest)["facts"], settings)
    except ShipwayError as error:
        print(error, file=sys.stderr)  # noqa: T201  the process's log
        sys.exit(EXIT_WRONG_BYTES)


def _serve(options: argparse.Namespace, facts: Mapping[str, Any], settings: ServerSettings) -> None:
    """With the engine that the bundle names, until SIGTERM."""
    if facts["engine"] in STREAMING:
        from pipelines.serving.server.generation import serve

        place = EnginePlace(settings.threads, settings.engine_at, settings.drain_s)
        engine = streaming_engine(options.bundle, facts, place, options.model_name)
        names = [options.model_name, *facts.get("names", ())]
        serve(engine, names, options.model_version, options.host, options.port, settings)
        return
    served = load(options.bundle, facts, options.model_name, options.model_version, settings.threads)
    import uvloop

    uvloop.install()
    web.run_app(
        make_app(served),
        host=options.host,
        port=options.port,
        print=None,
        access_log=None,
        shutdown_timeout=settings.drain_s,
        auto_decompress=False,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pipelines.serving.server", description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True, help="the bundle's folder")
    parser.add_argument("--digest", required=True, help="sha256:… that the folder must have")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1", help="never anything else by default")
    parser.add_argument("--model-name", default="model", help="the M in /v2/models/M/infer")
    parser.add_argument("--model-version", default="0", help="sent back as x-shipway-model-version")
    parser.add_argument("--settings", type=Path, help="a file of mode 0600: how it behaves")
    in_image = parser.add_argument_group("without a file", "what a server in an image is told, which sees none")
    in_image.add_argument("--drain-s", type=float, help="how long answers may go on after SIGTERM")
    in_image.add_argument("--threads", type=int, help="of one inference; 0 lets the engine choose")
    return parser
