"""Whatever bytes clients send, in whatever order and however they leave: the gateway answers clearly, or hangs up."""

from __future__ import annotations

import socket
from contextlib import suppress

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.pipelines.serving.gateway.test_gateway import Bench
from tests.pipelines.serving.http1.test_request import MALFORMED, OTHERS
from tests.waiting import until

pytestmark = pytest.mark.integration

GOOD = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\nx"
PIECES = st.sampled_from([GOOD, GOOD[:-1], b"GET ", b"\r\n\r\n", b"x" * 20_000, b"0\r\n\r\n", *MALFORMED.values()])
ACTIONS = st.tuples(st.integers(0, 2), st.sampled_from(["send", "send", "send", "end", "leave", "hear"]), PIECES)
RELAXED = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
MAX_GROWTH_MB = 30.0


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """A gateway with one arm."""
    made = Bench(tmp_path_factory.mktemp("gateway"))
    made.put(made.upstream("1")[0])
    yield made
    for process in made.processes:
        process.kill()
        process.wait()


def connected(bench: Bench) -> socket.socket:
    """A client."""
    return socket.create_connection(("127.0.0.1", bench.port), timeout=5)


def heard(client: socket.socket) -> bytes:
    """Everything until the gateway closes, or says nothing more for a moment."""
    answer = b""
    client.settimeout(0.3)
    with suppress(OSError):
        while data := client.recv(65536):
            answer += data
    return answer


def rss_mb(bench: Bench) -> float:
    """The gateway's memory."""
    return psutil.Process(bench.gateway.pid).memory_info().rss / 1e6


ODD = [(name, raw) for name, raw in MALFORMED.items()] + [pair for named in OTHERS.values() for pair in named.items()]


@pytest.mark.parametrize(("name", "raw"), ODD)
def test_each_malformed_request_gets_a_clear_answer(bench, name, raw):
    """A 4xx or 5xx of the gateway's own, which says that the connection ends; no arm hears of it."""
    with connected(bench) as client:
        client.sendall(raw)
        client.shutdown(socket.SHUT_WR)
        answer = heard(client)
    assert answer.split(b" ")[1][:1] in {b"4", b"5"}
    assert b"connection: close" in answer
    assert b"x-shipway-arm" not in answer


def test_any_bytes_leave_the_gateway_well(bench):
    """Three clients at a time send, end, leave and hear in any order; memory stays bounded."""
    bench.send(50)
    before_mb = rss_mb(bench)

    @RELAXED
    @given(st.lists(ACTIONS, max_size=12))
    def any_bytes(actions):
        clients = [connected(bench) for _ in range(3)]
        for who, what, piece in actions:
            with suppress(OSError):
                act(clients[who], what, piece)
        for client in clients:
            client.close()

    any_bytes()
    assert bench.send(5)["200 1"] == 5
    assert rss_mb(bench) - before_mb < MAX_GROWTH_MB


def act(client: socket.socket, what: str, piece: bytes) -> None:
    """One thing that a client does."""
    match what:
        case "send":
            client.sendall(piece)
        case "end":
            client.shutdown(socket.SHUT_WR)
        case "leave":
            client.close()
        case _:
            client.settimeout(0.02)
            client.recv(65536)


def test_slow_clients_do_not_keep_others_waiting(bench):
    """Two hundred that send a byte and wait; users are served meanwhile, and nothing of it is kept."""
    before_mb = rss_mb(bench)
    slow = [connected(bench) for _ in range(200)]
    for client in slow:
        client.sendall(b"POST / HTTP/1.1\r\n")
    assert bench.send(20)["200 1"] == 20
    for client in slow:
        client.close()
    assert bench.send(5)["200 1"] == 5
    until(lambda: rss_mb(bench) - before_mb < MAX_GROWTH_MB)
