"""Real proxies behind the router's port: shares, rescues, leases, kills, honest counts."""

from __future__ import annotations

import signal
import socket
import socketserver
import stat
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx
import pytest

from pipelines.records.split import Arm
from tests.pipelines.adapters.proxies.proxy_bench import TIMEOUT_S, proxy_bench
from tests.ports import free_port
from tests.waiting import HANG_S, until

pytestmark = pytest.mark.integration


def status_at(port: int, path: str) -> int:
    """The status of what is answered at a path that is sent as it stands here."""
    with socket.create_connection(("127.0.0.1", port), HANG_S) as line:
        line.sendall(f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
        return int(line.makefile("rb").readline().split()[1])


@pytest.fixture(params=["haproxy", "envoy"])
def bench(request, tmp_path):
    """A running proxy without arms."""
    folder = tmp_path / "with a space"
    folder.mkdir()
    with proxy_bench(request.param, folder) as made:
        yield made


def test_nobody_serves_before_somebody_says_who(bench):
    """A 503 that says so, with Retry-After."""
    answer = bench.get()
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json()["error"]["code"] == "E_NO_STABLE"


def test_answers_are_passed_on_and_named(bench):
    """Body, path, status, arm, version and the caller's own request id."""
    stable, _ = bench.upstream("one")
    bench.put(stable)
    answer = bench.get("/any?x=1", headers={"x-request-id": "mine"})
    assert (answer.status_code, answer.text) == (200, "mine /any?x=1")
    named = ("x-request-id", "x-shipway-arm", "x-shipway-model-version")
    assert [answer.headers[name] for name in named] == ["mine", "stable", "one"]
    assert len(bench.get().headers["x-request-id"]) > 8


def test_two_ids_of_a_request_are_one(bench):
    """The first one; Envoy knows no better than to join them. Who asks and who answers see the same."""
    stable, _ = bench.upstream("one")
    bench.put(stable)
    answer = bench.get("/", headers=[("x-request-id", "mine"), ("x-request-id", "theirs")])
    one = {"haproxy": "mine", "envoy": "mine,theirs"}[bench.router_name]
    assert (answer.text, answer.headers["x-request-id"]) == (f"{one} /", one)


def test_shares_are_those_that_were_ordered(bench):
    """400 requests at 30 %, each assigned by chance; and they are counted where they were routed."""
    (stable, _), (canary, _) = bench.upstream("one"), bench.upstream("two")
    bench.put(stable, canary, 30, 60)
    sent = bench.send(400)
    assert 80 <= sent["two canary"] <= 160
    assert sent["one stable"] + sent["two canary"] == 400
    until(lambda: sum(n for n, _ in bench.counted((1, 1)).values()) == 400)
    assert bench.counted((1, 1)) == {"stable": (sent["one stable"], 0), "canary": (sent["two canary"], 0)}


def test_all_replicas_of_an_arm_are_asked(bench):
    """One or several, as each split says, and nobody of an earlier one; all are shown, and counted as one arm."""
    (first, _), (second, _), (third, _) = (bench.upstream(name) for name in ("one", "two", "three"))
    several = Arm("sha256:several", first.urls + second.urls)
    bench.put(several, third, 50, 60)
    assert bench.router.read("s").stable.urls == several.urls
    sent = bench.send(200)
    assert min(sent["one stable"], sent["two stable"]) >= 20
    assert sent["one stable"] + sent["two stable"] + sent["three canary"] == 200
    bench.put(third, several, 50, 60)
    turned = bench.send(200)
    assert min(turned["one canary"], turned["two canary"]) >= 20
    assert turned["one canary"] + turned["two canary"] + turned["three stable"] == 200
    bench.put(second, None)
    assert bench.send(20) == {"two stable": 20}


def test_no_counter_begins_anew_with_another_canary(bench):
    """Each lane has counted the first one's few requests when the second one comes, whose servers go in their turn."""
    (stable, _), (first, _), (second, _) = (bench.upstream(name) for name in ("one", "two", "three"))
    expected = {}
    for n, canary in enumerate((first, second, first), 1):
        bench.put(stable, canary, 50, 60)
        sent, until_s = bench.send(20), time.monotonic() + 4 * (n > 1)
        while time.monotonic() < until_s:
            sent += bench.send(20)
        canarys = sum(count for name, count in sent.items() if name.endswith("canary"))
        expected[1, n] = {"stable": (sent.total() - canarys, 0), "canary": (canarys, 0)}
    bench.put(stable)
    # What is lost never comes, so a wrong count is what is seen at last, too.
    with suppress(AssertionError):
        until(lambda: {generation: bench.counted(generation) for generation in expected} == expected)
    assert {generation: bench.counted(generation) for generation in expected} == expected


def test_errors_are_counted_against_the_arm_that_made_them(bench):
    """A canary that answers 500: users see it, and every one is evidence."""
    (stable, _), (canary, _) = bench.upstream("one"), bench.upstream("bad", "500")
    bench.put(stable, canary, 50, 60)
    sent = bench.send(60)
    until(lambda: sum(n for n, _ in bench.counted((1, 1)).values()) == 60)
    assert bench.counted((1, 1))["canary"] == (sent["bad canary"], sent["bad canary"])
    assert bench.counted((1, 1))["stable"] == (sent["one stable"], 0)


PATHS = ("/invocations", "/v1/embeddings", "/pay")


@contextmanager
def hanging_up() -> Iterator[str]:
    """A server that hears each request, and closes without a word."""

    class Deaf(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            heard = b""
            while not heard.endswith(b"\r\n\r\nx"):
                heard += self.request.recv(65536)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Deaf) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


@pytest.mark.parametrize("kind", ["refused", "garbage"])
def test_stable_saves_a_request_that_the_canary_failed_and_the_canary_is_blamed(bench, kind):
    """Nobody listens, or what comes is not HTTP: the user gets stable's answer, and the first attempt is an error."""
    stable, _ = bench.upstream("one")
    canary = Arm("sha256:gone", (f"http://127.0.0.1:{free_port()}",))
    if kind == "garbage":
        canary, process = bench.upstream("two")
        process.kill()
        process.wait()
    bench.put(stable, canary, 100, 60)
    began_s = time.monotonic()
    assert bench.send(20) == Counter({"one stable": 20})
    assert time.monotonic() - began_s < 20 * TIMEOUT_S, "nobody waits for the service's time-out"
    until(lambda: bench.counted((1, 1))["canary"] == (20, 20))


def test_only_what_may_be_asked_twice_is(bench):
    """A canary that hears a request and hangs up: a question to a model is saved, an unknown POST is not."""
    stable, _ = bench.upstream("one")
    with hanging_up() as url:
        bench.put(stable, Arm("sha256:deaf", (url,)), 100, 60)
        here = f"http://127.0.0.1:{bench.port}"
        answers = {path: httpx.post(here + path, content=b"x", trust_env=False) for path in PATHS}
    assert [answers[path].status_code for path in PATHS[:2]] == [200, 200]
    assert answers["/pay"].status_code in {502, 503}


def test_a_canary_that_hangs_is_an_error_in_its_own_interval(bench):
    """504 at the deadline; requests that were routed before it are handed out with it, never without."""
    (stable, _), (canary, _) = bench.upstream("one"), bench.upstream("two")
    bench.put(stable, canary, 100, 60)
    assert bench.get("/slow").status_code == 504
    until(lambda: bench.counted((1, 1))["canary"] == (1, 1))


def test_a_promotion_under_load_loses_nothing(bench):
    """The canary's share rises, and it becomes stable: every request is answered."""
    (one, _), (two, _) = bench.upstream("one"), bench.upstream("two")
    bench.put(one)
    statuses: Counter[int] = Counter()
    done = threading.Event()

    def call() -> None:
        with httpx.Client(trust_env=False, timeout=HANG_S) as client:
            while not done.is_set():
                statuses[client.get(f"http://127.0.0.1:{bench.port}/").status_code] += 1

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    for _ in range(3):
        bench.put(one, two, 50, 60)
        bench.put(two)
        time.sleep(0.2)
        bench.put(two, one, 50, 60)
        bench.put(one)
        time.sleep(0.2)
    done.set()
    for caller in callers:
        caller.join()
    assert set(statuses) == {200}
    assert bench.send(3) == Counter({"one stable": 3})


def test_a_lease_never_ends_at_a_dead_stable(bench):
    """Silence, and stable is gone: the canary keeps its users until stable can be reached again."""
    (stable, process), (canary, _) = bench.upstream("one"), bench.upstream("two")
    bench.put(stable, canary, 100, 2)
    process.kill()
    process.wait()
    time.sleep(3)
    assert bench.router.read("s").canary == canary
    assert bench.send(2) == Counter({"two canary": 2})


def test_a_killed_agent_takes_its_proxy_along_and_comes_back_home(bench):
    """No proxy runs without the lease's holder; the next one begins all-stable, one generation later."""
    (stable, _), (canary, _) = bench.upstream("one"), bench.upstream("two")
    bench.put(stable, canary, 50, 60)
    proxy = bench.proxy
    bench.agent.kill()
    bench.agent.wait()
    until(lambda: not proxy.is_running())
    bench.agent = bench.start_agent()
    split = bench.router.read("s")
    assert (split.stable, split.canary, split.generation, split.reason) == (stable, None, (1, 2), "restarted")
    assert bench.send(5) == Counter({"one stable": 5})


def test_a_killed_proxy_ends_its_agent(bench):
    """Who supervises them starts both again."""
    bench.proxy.kill()
    assert bench.agent.wait(HANG_S) == 5


def test_a_stop_lets_a_request_finish(bench):
    """SIGTERM while a stream flows: it ends as it would have."""
    stable, _ = bench.upstream("one")
    bench.put(stable)
    with httpx.stream("GET", f"http://127.0.0.1:{bench.port}/stream", trust_env=False, timeout=HANG_S) as answer:
        pieces = answer.iter_bytes()
        first = next(pieces)
        bench.agent.send_signal(signal.SIGTERM)
        rest = b"".join(pieces)
    assert (first + rest).count(b"data:") == 4
    assert bench.agent.wait(HANG_S) == 0


def test_nobody_else_may_speak_to_it(bench):
    """Every socket in the folder is its owner's alone."""
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in bench.folder.iterdir() if path.is_socket()}
    assert modes
    assert set(modes.values()) == {0o600}


def test_its_own_counters_are_shown(bench):
    """The proxy's Prometheus page, on the admin socket only."""
    transport = httpx.HTTPTransport(uds=str(bench.socket))
    with httpx.Client(transport=transport) as client:
        page = client.get("http://agent/metrics").text
    assert f"{bench.router_name}_" in page


@pytest.mark.parametrize("path", ["/metrics", "/metrics?x", "/metrics/x", "/%6detrics", "//metrics", "/./metrics"])
def test_no_arm_tells_users_what_it_has_counted(bench, path):
    """404, as behind Shipway's own gateway, whether anybody serves or not; a model may be called metrics."""
    assert status_at(bench.port, path) == 404
    stable, _ = bench.upstream("one")
    bench.put(stable)
    assert [status_at(bench.port, asked) for asked in (path, "/v1/metrics", "/metricsx")] == [404, 200, 200]
    assert bench.counted((1, 1))["stable"][0] <= 2
