"""The admin socket answers whatever becomes of a question."""

from __future__ import annotations

import asyncio

import pytest

from pipelines.serving.gateway.admin import Admin
from pipelines.serving.http1.client import Clients
from pipelines.serving.http1.limits import Limits, Load
from pipelines.serving.requests.data_plane import DataPlane, Serving
from tests.pipelines.serving.plane import status_of

BODY = b'{"generation": [1, 1], "expected": [0, 0], "stable": {"digest": "d", "url": "http://127.0.0.1:1"}}'
PUT = b"PUT /split HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY)


def asked(folder, request: bytes, **broken: object) -> int:
    """The status of an answer; what is broken of the gateway does that instead."""

    async def run():
        gateway = DataPlane(folder / "split", Serving())
        for name, instead in broken.items():
            setattr(gateway, name, instead)
        clients = Clients(Limits(), Load(), Admin(gateway).serve)
        server = await asyncio.get_running_loop().create_server(clients.protocol, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(request)
        async with asyncio.timeout(5.0):
            answer = await reader.read()
        writer.close()
        server.close()
        return status_of(answer)

    return asyncio.run(run())


async def fails(*_: object) -> None:
    """A fault that nobody has thought of."""
    raise RuntimeError("the gateway")


@pytest.mark.parametrize(("broken", "status"), [({}, 200), ({"change": fails}, 500)])
def test_a_change_is_answered_also_where_it_fails(tmp_path, broken, status):
    """Whoever writes waits for no deadline of his own."""
    assert asked(tmp_path, PUT, **broken) == status


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET /split", 200),
        (b"GET /metrics", 200),
        (b"GET /strata?after=x", 400),
        (b"GET /strata?%ff=%fe", 200),
        (b"DELETE /split", 404),
        (b"GET /", 404),
    ],
)
def test_every_question_is_answered(tmp_path, request_line, status):
    """Also a strange one."""
    assert asked(tmp_path, request_line + b" HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n") == status
