"""How does one request get to an arm and its answer back?"""

from __future__ import annotations

import asyncio
import itertools
import random
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import aiohttp
import orjson
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from pipelines.serving.attempts import Attempt
from pipelines.serving.attributes import LONGEST, Attributes
from pipelines.serving.gateway_metrics import GatewayCounters
from pipelines.serving.intervals import Intervals, Ticket
from pipelines.serving.labels import Labels
from pipelines.serving.recorder import Recorder
from pipelines.serving.split import Arm, TrafficSplit

MAX_BODY_BYTES = 2 * 1024 * 1024
CHUNK_BYTES = 64 * 1024

HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers that belong to one connection (RFC 9110, section 7.6.1)."""

CUT_AFTER_S = 0.2
"""An answer of known length is cut off this long after its deadline, when it has been counted."""

ARM_FAILED = (aiohttp.ClientError, ConnectionError)


class ArmFailed(Exception):
    """An arm could not be reached, or broke off before its first byte."""


class ClientLeft(ConnectionError):
    """The client went away while it was answered."""


@dataclass(frozen=True)
class _Asked:
    """One request of a user."""

    request: web.Request
    body: bytes
    id: str
    slices: tuple[str, ...] = ()


class Proxy:
    """Gives each request an arm and counts what the arm did with it."""

    def __init__(
        self,
        split: Callable[[], TrafficSplit],
        intervals: Intervals,
        counters: GatewayCounters,
        timeout_s: float,
        attributes: Attributes,
        labels: Labels,
        recorder: Recorder | None = None,
    ) -> None:
        self._split = split
        self._recorder = recorder
        self._intervals = intervals
        self._counters = counters
        self._timeout_s = timeout_s
        self._attributes = attributes
        self._labels = labels
        # Assignment must be unpredictable to clients, and independent of what a request holds.
        self._random = random.SystemRandom().random
        self._turn = itertools.count()
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Open the pool of connections to the arms."""
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=30)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=2)
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=timeout,
            auto_decompress=False,
            trust_env=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        """Close it."""
        if self._session is not None:
            await self._session.close()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One request, from routing to the last byte."""
        request_id = request.headers.get("x-request-id") or uuid.uuid4().hex
        split = self._split()
        if split.stable is None:
            return refusal(503, "E_NO_STABLE", "nothing serves yet", request_id, {"Retry-After": "1"})
        if not request.raw_path.startswith("/"):
            return refusal(400, "E_REQUEST", "the request's target must be a path", request_id, {})
        body = await request.read()
        if self._recorder is not None:
            self._recorder.saw(request.method, request.raw_path, request.headers, body)
        asked = _Asked(request, body, request_id, self._attributes.slices_of(request.headers, body))
        if split.canary is not None and self._random() * 100 < split.canary_pct:
            try:
                return await self._ask("canary", split.canary, asked, self._ticket("canary", asked))
            except ArmFailed:
                self._counters.retried.inc()
                return await self._ask_stable(split.stable, asked, None)
        return await self._ask_stable(split.stable, asked, self._ticket("stable", asked))

    def _ticket(self, arm: str, asked: _Asked) -> Ticket:
        return self._intervals.routed(arm, asked.slices, in_control=self._random() < 0.5)

    async def _ask_stable(self, arm: Arm, asked: _Asked, ticket: Ticket | None) -> web.StreamResponse:
        """Stable, and a second replica of it where the first cannot be reached."""
        for _ in range(min(2, len(arm.urls))):
            try:
                return await self._ask("stable", arm, asked, ticket)
            except ArmFailed:
                ticket = None
        return refusal(502, "E_STABLE_DOWN", "stable cannot be reached", asked.id, {"Retry-After": "1"})

    async def _ask(self, name: str, arm: Arm, asked: _Asked, ticket: Ticket | None) -> web.StreamResponse:
        """Ask one arm and count its answer; ArmFailed where no byte of an answer came.

        A second try has no ticket: only first ones say something about an arm.
        """
        attempt = Attempt(self._intervals, self._counters, name, ticket)
        try:
            async with asyncio.timeout(self._timeout_s):
                upstream = await self._send(arm, asked)
        except TimeoutError:
            attempt.timed_out()
            return refusal(504, "E_TIMEOUT", f"no answer within {self._timeout_s:g} s", asked.id, {})
        except asyncio.CancelledError:
            attempt.abandoned()
            raise
        except UnicodeError:
            attempt.void()
            return refusal(400, "E_REQUEST", "a header is not text", asked.id, {})
        except ARM_FAILED as error:
            attempt.failed()
            raise ArmFailed from error
        except BaseException:
            attempt.void()
            raise
        if ticket is not None and upstream.status == 200:
            self._remember(upstream, asked.id, ticket)  # before its interval can be handed out
        return await self._pass_on(upstream, asked.request, attempt, asked.id)

    def _remember(self, upstream: aiohttp.ClientResponse, request_id: str, ticket: Ticket) -> None:
        """What was predicted, and who may be asked how good that was."""
        predicted = upstream.headers.get("x-shipway-class")
        if predicted is not None:
            self._intervals.predicted(ticket, predicted[:LONGEST])
        self._intervals.valued(ticket, upstream.headers.get("x-shipway-value", ""))
        self._labels.answered(request_id, ticket, upstream.headers.get("x-shipway-model-version", ""))

    async def _send(self, arm: Arm, asked: _Asked) -> aiohttp.ClientResponse:
        request = asked.request
        assert self._session is not None  # noqa: S101  opened before the first request
        url = arm.urls[next(self._turn) % len(arm.urls)]
        headers = _passed_on(request.headers, drop={"host", "content-length", "x-request-id", "expect"})
        headers["x-request-id"] = asked.id
        target = URL(url + request.raw_path, encoded=True)
        return await self._session.request(
            request.method, target, headers=headers, data=asked.body or None, allow_redirects=False
        )

    async def _pass_on(
        self, upstream: aiohttp.ClientResponse, request: web.Request, attempt: Attempt, request_id: str
    ) -> web.StreamResponse:
        """Stream the answer to the client as it comes, and count how it ended."""
        response = web.StreamResponse(status=upstream.status, headers=_passed_on(upstream.headers, drop=set()))
        response.headers["x-shipway-arm"] = attempt.arm
        response.headers["x-request-id"] = request_id
        is_stream, left_s = upstream.content_length is None, max(0.0, self._timeout_s - attempt.age_s)
        deadline = asyncio.get_running_loop().call_later(
            left_s, lambda: attempt.overdue(upstream.status, is_stream=is_stream)
        )
        try:
            async with asyncio.timeout(None if is_stream else left_s + CUT_AFTER_S):
                await _copy(upstream, response, request, attempt)
        except (ClientLeft, asyncio.CancelledError):
            attempt.ended(upstream.status)
            raise
        except (TimeoutError, *ARM_FAILED) as error:
            attempt.failed()
            # The head is out already: a broken connection is the only honest end of a broken answer.
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionAbortedError from error
        except BaseException:
            attempt.void()
            raise
        finally:
            deadline.cancel()
            upstream.release()
        attempt.ended(upstream.status)
        return response


async def _copy(
    upstream: aiohttp.ClientResponse, response: web.StreamResponse, request: web.Request, attempt: Attempt
) -> None:
    """Every piece as it comes. ClientLeft where the client is gone, one of ARM_FAILED where the arm broke off."""
    pieces = upstream.content.iter_any()
    await _to_client(attempt, response.prepare(request))
    async for piece in pieces:
        await _to_client(attempt, response.write(piece))
    await _to_client(attempt, response.write_eof())


async def _to_client(attempt: Attempt, writing: Awaitable[object]) -> None:
    try:
        await attempt.for_client(writing)
    except ConnectionError as error:
        raise ClientLeft from error


def _passed_on(headers: CIMultiDictProxy[str] | Mapping[str, str], *, drop: set[str]) -> CIMultiDict[str]:
    """The end-to-end headers: without those of one connection, and those that Connection names."""
    named = {part.strip().lower() for part in headers.get("connection", "").split(",")}
    dropped = HOP_BY_HOP | named | drop
    return CIMultiDict((k, v) for k, v in headers.items() if k.lower() not in dropped)


def refusal(
    status: int, code: str, reason: str, request_id: str, headers: Mapping[str, str], field: str | None = None
) -> web.Response:
    """An answer of the gateway itself."""
    body = orjson.dumps({"error": {"code": code, "field": field, "reason": reason, "expected": None, "hint": None}})
    named = {"x-request-id": request_id, **headers}
    return web.Response(body=body, status=status, content_type="application/json", headers=named)
