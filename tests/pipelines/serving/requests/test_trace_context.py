"""Does a trace go on behind the gateway? What OpenTelemetry's clients send and get back is passed on as it is.

The headers are those of W3C's Trace Context (https://www.w3.org/TR/trace-context/) and Baggage
(https://www.w3.org/TR/baggage/); those of B3 and Jaeger are headers like any other.
"""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pipelines.records.split import Arm
from tests.pipelines.adapters.proxies.proxy_bench import proxy_bench
from tests.pipelines.serving.gateway.test_gateway import Bench

pytestmark = pytest.mark.integration

ASKED = [
    ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ("tracestate", "rojo=00f067aa0ba902b7, congo=t61rcWkgMzE"),
    ("tracestate", "shop@eu=1"),
    ("baggage", "userId=Am%C3%A9lie,serverNode=DF%2028;secret,isProduction=false"),
    ("b3", "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1"),
    ("uber-trace-id", "1:2:3:1"),
]
ANSWERED = [
    ("traceresponse", "00-4bf92f3577b34da6a3ce929d0e0e4736-b7ad6b7169203331-01"),
    ("server-timing", 'traceparent;desc="00-4bf92f3577b34da6a3ce929d0e0e4736-b7ad6b7169203331-01"'),
]


class Traced(ThreadingHTTPServer):
    """A server that knows what it was asked; one that is broken hangs up instead of an answer."""

    def __init__(self, *, is_broken: bool = False) -> None:
        self.seen: list[list[tuple[str, str]]] = []
        self.is_broken = is_broken
        super().__init__(("127.0.0.1", 0), _Handler)
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def arm(self) -> Arm:
        """What it is as an arm."""
        return Arm("sha256:broken" if self.is_broken else "sha256:whole", (f"http://127.0.0.1:{self.server_port}",))

    def close(self) -> None:
        """It ends."""
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Traced

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.server.seen.append([(name.lower(), value) for name, value in self.headers.items()])
        if self.server.is_broken:
            self.close_connection = True
            return
        self.send_response(200)
        for name, value in [*ANSWERED, ("content-length", "0")]:
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture(params=["shipway", "haproxy", "envoy"])
def bench(request, tmp_path) -> Iterator[Bench]:
    """Shipway's own gateway, or a real proxy."""
    if request.param != "shipway":
        with proxy_bench(request.param, tmp_path) as made:
            yield made
        return
    made = Bench(tmp_path)
    yield made
    for process in made.processes:
        process.kill()
        process.wait()


def trace_of(headers: list[tuple[str, str]], names: list[tuple[str, str]]) -> dict[str, str]:
    """What of these names is there; lines of one name are one list."""
    wanted = {name for name, _ in names}
    return {name: ", ".join(v for n, v in headers if n == name) for name, _ in headers if name in wanted}


def ask(port: int) -> list[tuple[str, str]]:
    """The headers of one answer."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.putrequest("POST", "/v2/models/s/infer")
        for name, value in [*ASKED, ("content-length", "2")]:
            connection.putheader(name, value)
        connection.endheaders(b"{}")
        answer = connection.getresponse()
        assert answer.status == 200
        return [(name.lower(), value) for name, value in answer.getheaders()]


def test_a_trace_reaches_the_arm_and_comes_back(bench):
    """Unchanged, in both directions, and at the arm that saves a request, too: one trace holds both tries."""
    with closing(Traced()) as stable, closing(Traced(is_broken=True)) as canary:
        bench.put(stable.arm)
        assert trace_of(ask(bench.port), ANSWERED) == dict(ANSWERED)
        bench.put(stable.arm, canary.arm, 100.0, 60.0)
        assert trace_of(ask(bench.port), ANSWERED) == dict(ANSWERED)
    expected = trace_of(ASKED, ASKED)
    assert [trace_of(headers, ASKED) for headers in stable.seen] == [expected, expected]
    assert [trace_of(headers, ASKED) for headers in canary.seen][:1] == [expected]
