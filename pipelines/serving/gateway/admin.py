"""What does the controller reach of a gateway, on the admin socket only?"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import orjson

from pipelines.records.split import TrafficSplit
from pipelines.serving.http1.client import ClientConnection, Served, Waiting
from pipelines.serving.http1.request import Request
from pipelines.serving.split.store import Held, Refused

if TYPE_CHECKING:
    from pipelines.serving.gateway.crew import Crew
    from pipelines.serving.requests.data_plane import DataPlane


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
                _reply(client, *self._strata(query.decode()))
            case b"GET", b"/health":
                _reply(client, 200, {"boot": gateway.boot, "live": True})
            case b"GET", b"/metrics":
                client.reply(200, gateway.exposition(), b"", kind=b"text/plain; charset=utf-8")
            case _:
                _reply(client, 404, {"reason": "GET or PUT /split, GET /strata, /health or /metrics are answered"})
        return None

    async def _put(self, client: ClientConnection, body: bytes) -> None:
        _reply(client, *await self._changed(body))

    async def _changed(self, body: bytes) -> tuple[int, object]:
        """409 with the current split for a stale writer, 400 for what is no split."""
        try:
            raw = orjson.loads(body)
            fence, n = raw["expected"]
            split = await self._gateway.change(TrafficSplit.from_dict(raw), (int(fence), int(n)))
        except Refused as error:
            return 409, {"reason": str(error), "split": error.current.as_dict()}
        except Held as error:
            return 503, {"reason": str(error)}
        except (ValueError, KeyError, TypeError, IndexError, OverflowError, AttributeError) as error:
            return 400, {"reason": f"not a split: {error!r}"[:300]}
        except OSError as error:
            return 507, {"reason": f"the snapshot cannot be written: {error}"}
        return 200, split.as_dict()

    def _strata(self, query: str) -> tuple[int, object]:
        """What is decided after an interval; of another boot, everything."""
        gateway = self._gateway
        asked = {name: values[0] for name, values in parse_qs(query).items()}
        try:
            after = int(asked.get("after", "-1")) if asked.get("boot") in {"", None, gateway.boot} else -1
        except ValueError:
            return 400, {"reason": "after must be the number of an interval"}
        strata = [stratum.as_dict() for stratum in gateway.decided_after(after)]
        return 200, {"boot": gateway.boot, "strata": strata}


def _reply(client: ClientConnection, status: int, answer: object) -> None:
    client.reply(status, orjson.dumps(answer), b"")
