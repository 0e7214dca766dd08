"""What does the controller reach of a gateway, on the admin socket only?"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

import orjson

from pipelines.serving.http1.client import INTERNAL, ClientConnection
from pipelines.serving.http1.request import Request
from pipelines.serving.http1.served import Served, Waiting
from pipelines.serving.split.contract import health_of, put_split, strata_of

if TYPE_CHECKING:
    from pipelines.serving.gateway.crew import Crew
    from pipelines.serving.requests.data_plane import DataPlane


log = logging.getLogger("shipway.gateway")


class Admin:
    """The split, the evidence and the counters of one gateway."""

    def __init__(self, gateway: DataPlane | Crew) -> None:
        self._gateway = gateway
        self._changes: set[asyncio.Task[None]] = set()

    def serve(self, client: ClientConnection, request: Request) -> Served | None:
        """Answer one request; a change of the split once everybody who serves has it."""
        gateway = self._gateway
        path, _, query = request.target.partition(b"?")
        match request.method, path:
            case b"GET", b"/split":
                _reply(client, 200, gateway.store.split.as_dict())
            case b"PUT", b"/split":
                change = asyncio.get_running_loop().create_task(self._put(client, request.body))
                self._changes.add(change)
                change.add_done_callback(self._changes.discard)
                return Waiting()
            case b"GET", b"/strata":
                _reply(client, *strata_of(gateway, dict(parse_qsl(query.decode()))))
            case b"GET", b"/health":
                _reply(client, *health_of(gateway.boot))
            case b"GET", b"/metrics":
                client.reply(200, gateway.exposition(), b"", kind=b"text/plain; charset=utf-8")
            case _:
                _reply(client, 404, {"reason": "GET or PUT /split, GET /strata, /health or /metrics are answered"})
        return None

    async def _put(self, client: ClientConnection, body: bytes) -> None:
        try:
            answer = await put_split(body, self._gateway.change)
        except Exception:
            log.exception("PUT /split")
            client.refuse(INTERNAL, b"")
        else:
            _reply(client, *answer)


def _reply(client: ClientConnection, status: int, answer: object) -> None:
    client.reply(status, orjson.dumps(answer), b"")
