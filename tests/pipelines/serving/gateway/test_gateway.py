"""A real gateway process between a real client and real upstreams: shares, retries, leases, restarts, streams."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import httpx
import pytest

from evals.signals.strata import Stratum
from pipelines.adapters.gateway import GatewayMetrics, GatewayRouter
from pipelines.errors import DependencyDown, StaleWriter
from pipelines.ports import Now, StrataQuery
from pipelines.records.settings import GatewaySettings, Recording
from pipelines.records.split import Arm, TrafficSplit
from pipelines.serving.requests.record_file import recorded_numbers, recorded_requests
from pipelines.serving.settings_file import write_settings
from tests.pipelines.serving import upstream
from tests.ports import free_port
from tests.waiting import HANG_S, until

pytestmark = pytest.mark.integration

UPSTREAM = Path(upstream.__file__)


@dataclass
class Bench:
    """A gateway and its upstreams."""

    folder: Path
    workers: int = 1
    figures: Literal["private", "public"] = "private"
    api: Literal["inference", "openai"] = "inference"
    port: int = field(default_factory=free_port)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    generation: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        self.router = GatewayRouter(lambda _: self.socket)
        self.metrics = GatewayMetrics(lambda _: self.socket)
        try:
            self.gateway = self.start_gateway()
        except BaseException:
            self.end()
            raise

    def end(self) -> None:
        """Stop what was started."""
        for process in self.processes:
            process.kill()
            process.wait()

    @property
    def socket(self) -> Path:
        """The admin socket."""
        return self.folder / "g.sock"

    @property
    def record(self) -> Path:
        """Where it keeps requests."""
        return self.folder / "s.db"

    def start_gateway(self) -> subprocess.Popen[bytes]:
        """Start it, and wait until it answers."""
        options = ["--service", "s", "--port", self.port, "--admin-socket", self.socket, "--interval-s", "0.2"]
        options += ["--snapshot", self.folder / "split", "--record", self.record]
        options += ["--settings", self.folder / "settings"]
        record = Recording(share=1.0, keep=5, redact=("body.user",))
        told = GatewaySettings(workers=self.workers, timeout_s=2.0, slices=("x-lang", "body.tier"), record=record)
        write_settings(self.folder / "settings", replace(told, metrics=self.figures, api=self.api))
        process = self.start("-m", "pipelines.serving.gateway", *map(str, options))
        until(self._answers)
        self.generation = self.router.read("s").generation
        return process

    def _answers(self) -> bool:
        try:
            self.router.read("s")
        except DependencyDown:
            return False
        return True

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a Python process."""
        self.processes.append(subprocess.Popen([sys.executable, *arguments]))
        return self.processes[-1]

    def upstream(self, version: str, *status: str) -> tuple[Arm, subprocess.Popen[bytes]]:
        """Start an upstream and wait until it listens."""
        port = free_port()
        process = self.start(str(UPSTREAM), str(port), version, *status)

        def listens() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        until(listens)
        return Arm(f"sha256:{version}", (f"http://127.0.0.1:{port}",)), process

    def put(self, stable: Arm, canary: Arm | None = None, pct: float = 0.0, lease_s: float | None = None) -> None:
        """Write a split."""
        fence, n = self.generation
        split = TrafficSplit((max(1, fence), n + 1), stable, canary, pct, lease_s)
        self.generation = self.router.write("s", split, self.generation).generation

    def send(self, n: int, path: str = "/") -> Counter[str]:
        """Send requests one after another; answers by status and version."""
        found: Counter[str] = Counter()
        with httpx.Client(trust_env=False, timeout=HANG_S) as client:
            for _ in range(n):
                answer = client.post(f"http://127.0.0.1:{self.port}{path}", content=b"x")
                found[f"{answer.status_code} {answer.headers.get('x-shipway-model-version', '-')}"] += 1
        return found

    def settled(self, since_s: float | None = None) -> Sequence[Stratum]:
        """All strata, once everything until now, or until that time, is decided: an interval that began later is out.

        The gateway's monotonic clock is this process's.
        """
        began_s = time.monotonic() if since_s is None else since_s
        strata: list[Stratum] = []

        def is_decided() -> bool:
            strata[:] = self.metrics.measure(StrataQuery("s"), Now(0, 0))
            return bool(strata) and strata[-1].routed_from_s > began_s

        until(is_decided)
        return strata

    def counted(self) -> Counter[str]:
        """What the strata hold once everything is decided."""
        strata = self.settled()
        assert [s.interval for s in strata] == sorted({s.interval for s in strata})
        arms = [(name, getattr(s, name)) for s in strata for name in ("stable", "canary")]
        found: Counter[str] = Counter()
        for name, arm in arms:
            found.update({f"{name} {k}": getattr(arm, k) for k in ("routed", "errors", "timeouts")})
        return found


@pytest.fixture
def bench(tmp_path) -> Iterator[Bench]:
    """A gateway; everything it needed is ended afterwards."""
    made = Bench(tmp_path)
    yield made
    made.end()


def test_nobody_is_served_before_somebody_says_what_is_stable(bench):
    """503 with Retry-After."""
    answer = httpx.get(f"http://127.0.0.1:{bench.port}/", trust_env=False)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


def test_the_admin_socket_is_private(bench):
    """Only its owner may change traffic, and the data port does not."""
    assert stat.S_IMODE(bench.socket.stat().st_mode) == 0o600
    stable, _ = bench.upstream("1")
    bench.put(stable)
    httpx.put(f"http://127.0.0.1:{bench.port}/split", content=b"{}", trust_env=False)
    assert bench.router.read("s").stable == stable


def test_shares_are_kept_and_counted(bench):
    """30 % of 600: within five standard deviations; the strata count every request once."""
    (stable, _), (canary, _) = bench.upstream("1"), bench.upstream("2")
    bench.put(stable, canary, 30.0, 60.0)
    found = bench.send(600)
    assert 600 * 0.3 - 56 < found["200 2"] < 600 * 0.3 + 56
    assert found["200 1"] + found["200 2"] == 600
    counted = bench.counted()
    assert (counted["canary routed"], counted["stable routed"]) == (found["200 2"], found["200 1"])
    assert counted["canary errors"] == 0


def test_a_killed_canary_costs_nobody_a_request(bench):
    """Stable answers what the canary did not; the first attempt counts against the canary."""
    (stable, _), (canary, process) = bench.upstream("1"), bench.upstream("2")
    bench.put(stable, canary, 50.0, 60.0)
    bench.send(20)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert bench.send(100) == Counter({"200 1": 100})
    assert bench.counted()["canary errors"] > 20


def test_a_canary_error_is_the_users_and_is_counted(bench):
    """A 5xx is passed on as it is."""
    (stable, _), (canary, _) = bench.upstream("1"), bench.upstream("2", "500")
    bench.put(stable, canary, 50.0, 60.0)
    found = bench.send(60)
    assert found["500 2"] > 10
    assert bench.counted()["canary errors"] == found["500 2"]


def test_a_hung_canary_times_out_and_is_counted(bench):
    """504 after the service's time; an error and a timeout."""
    (stable, _), (canary, _) = bench.upstream("1"), bench.upstream("2")
    bench.put(stable, canary, 100.0, 60.0)
    assert bench.send(1, "/slow") == Counter({"504 -": 1})
    counted = bench.counted()
    assert (counted["canary errors"], counted["canary timeouts"]) == (1, 1)


@pytest.mark.parametrize(("path", "timeouts"), [("/cut", 0), ("/stall", 1)])
def test_half_an_answer_is_an_error_of_the_arm(bench, path, timeouts):
    """The client sees a broken connection, never a short answer that looks whole."""
    (stable, _), (canary, _) = bench.upstream("1"), bench.upstream("2")
    bench.put(stable, canary, 100.0, 60.0)
    with pytest.raises(httpx.RemoteProtocolError):
        bench.send(1, path)
    counted = bench.counted()
    assert (counted["canary routed"], counted["canary errors"], counted["canary timeouts"]) == (1, 1, timeouts)


def test_an_arm_that_does_not_speak_http_is_saved_by_stable_and_counted(bench):
    """Whatever the parser says of it, the interval gets its verdict."""
    (stable, _), (canary, _) = bench.upstream("1"), bench.upstream("2")
    bench.put(stable, canary, 100.0, 60.0)
    assert bench.send(1, "/garbage") == Counter({"502 -": 1})
    counted = bench.counted()
    assert (counted["canary errors"], counted["stable errors"]) == (1, 0)


def test_a_saved_request_counts_once(bench):
    """The canary's failure is its own; that stable saved it says nothing about stable, nor about the shares."""
    stable, _ = bench.upstream("1")
    bench.put(stable, Arm("sha256:2", (f"http://127.0.0.1:{free_port()}",)), 100.0, 60.0)
    assert bench.send(5) == Counter({"200 1": 5})
    counted = bench.counted()
    assert (counted["canary routed"], counted["canary errors"], counted["stable routed"]) == (5, 5, 0)


def strata_after(bench, requests):
    """What the gateway hands out after these requests, each a pair of headers and a JSON body."""
    with httpx.Client(trust_env=False, timeout=HANG_S, base_url=f"http://127.0.0.1:{bench.port}") as client:
        answers = [client.post("/infer", headers=headers, json=body) for headers, body in requests]
    return answers, bench.settled()


def test_declared_attributes_make_slices(bench):
    """A header and a field of the body; a request without them belongs to none."""
    (stable, _) = bench.upstream("1")
    bench.put(stable)
    asked = [({"x-lang": "de"}, {"tier": "free"})] * 3 + [({"x-lang": "fr"}, {"tier": ["odd"]}), ({}, {}), ({}, None)]
    _, strata = strata_after(bench, asked)
    found = Counter()
    for stratum in strata:
        found.update({name: part.routed for name, part in stratum.stable.by_slice.items()})
    assert found == Counter({"x-lang=de": 3, "body.tier=free": 3, "x-lang=fr": 1})
    assert sum(stratum.stable.routed for stratum in strata) == 6


def test_half_of_stable_is_a_control(bench):
    """By chance, request by request: of 60 not all and not none."""
    (stable, _) = bench.upstream("1")
    bench.put(stable)
    _, strata = strata_after(bench, [({}, {})] * 60)
    half = sum(stratum.control.routed for stratum in strata)
    assert 10 < half < 50, "by chance outside of it less than once in a million"


def test_predicted_classes_are_counted(bench):
    """By the header that a server sets for a single row."""
    (stable, _), (canary, _) = bench.upstream("1"), bench.upstream("2")
    bench.put(stable, canary, 50.0, 60.0)
    _, strata = strata_after(bench, [({}, {})] * 40)
    counted = [sum((Counter(getattr(s, arm).classes) for s in strata), Counter()) for arm in ("stable", "canary")]
    assert [list(one) for one in counted] == [["class-1"], ["class-2"]]
    assert sum(one.total() for one in counted) == 40


def feedback(bench, body):
    """Send a label."""
    return httpx.post(f"http://127.0.0.1:{bench.port}/feedback", json=body, trust_env=False)


def test_a_label_reaches_the_judge_at_the_arm_that_answered(bench):
    """By the request's id, however it was chosen."""
    (stable, _) = bench.upstream("1")
    bench.put(stable)
    (first, second), _ = strata_after(bench, [({"x-request-id": "mine"}, {}), ({}, {})])
    assert feedback(bench, {"request_id": "mine", "score": 0.75, "model_version": "1"}).json()["evidence"]
    assert feedback(bench, {"request_id": second.headers["x-request-id"], "correct": True}).status_code == 200
    strata = bench.settled()
    assert sum((Counter(s.stable.scores) for s in strata), Counter()) == Counter({750: 1, 1000: 1})
    assert first.headers["x-request-id"] == "mine"


def test_a_label_for_nobody_is_refused_by_name(bench):
    """An unknown request, another version, no score, no JSON: code and field, and never evidence."""
    (stable, _) = bench.upstream("1")
    bench.put(stable)
    strata_after(bench, [({"x-request-id": "mine"}, {})])
    wrong = [
        ({"request_id": "nobody", "score": 1}, 404, "E_LABEL_UNKNOWN", "request_id"),
        ({"request_id": "mine", "score": 1, "model_version": "9"}, 409, "E_LABEL_VERSION", "model_version"),
        ({"request_id": "mine", "score": 7}, 422, "E_LABEL", "score"),
        ("mine", 422, "E_LABEL", "body"),
    ]
    for body, status, code, field_name in wrong:
        answer = feedback(bench, body)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["field"]) == (status, code, field_name)
    unreadable = httpx.post(f"http://127.0.0.1:{bench.port}/feedback", content=b"{", trust_env=False)
    assert (unreadable.status_code, unreadable.json()["error"]["code"]) == (400, "E_BODY")


def test_a_client_that_loses_patience_does_not_hide_a_hung_canary(bench):
    """What it waited for in vain counts as a time-out."""
    (stable, _), (canary, _) = bench.upstream("1"), bench.upstream("2")
    bench.put(stable, canary, 100.0, 60.0)
    with pytest.raises(httpx.ReadTimeout):
        httpx.get(f"http://127.0.0.1:{bench.port}/slow", trust_env=False, timeout=0.5)
    counted = bench.counted()
    assert (counted["canary routed"], counted["canary timeouts"]) == (1, 1)


def test_a_stream_that_outlasts_the_deadline_is_a_slow_answer(bench):
    """It flows on, and evidence does not wait for it."""
    stable, _ = bench.upstream("1")
    bench.put(stable)
    with httpx.stream("GET", f"http://127.0.0.1:{bench.port}/drip", trust_env=False, timeout=HANG_S) as answer:
        pieces = answer.iter_raw()
        next(pieces)
        counted = bench.counted()
        assert sum(1 for _ in pieces) > 0
    assert (counted["stable routed"], counted["stable errors"]) == (1, 0)


def test_a_client_that_leaves_in_the_middle_of_a_stream_is_nobodys_error(bench):
    """It has seen enough."""
    stable, _ = bench.upstream("1")
    bench.put(stable)
    with httpx.stream("GET", f"http://127.0.0.1:{bench.port}/drip", trust_env=False, timeout=HANG_S) as answer:
        next(answer.iter_raw())
    counted = bench.counted()
    assert (counted["stable routed"], counted["stable errors"]) == (1, 0)


@pytest.mark.parametrize("target", ["http://127.0.0.1:1/", "*", "evil@127.0.0.1:1"])
def test_only_a_path_is_passed_on(bench, target):
    """A client cannot choose the host, nor make an arm look bad."""
    stable, _ = bench.upstream("1")
    bench.put(stable)
    with socket.create_connection(("127.0.0.1", bench.port), timeout=5) as raw:
        raw.sendall(f"GET {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
        assert raw.recv(100).split()[1] in {b"400", b"404"}
    assert bench.counted()["stable routed"] == 0


def test_a_question_for_no_interval_is_refused(bench):
    """400, and the socket lives."""
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(bench.socket))) as admin:
        assert admin.get("http://gateway/strata?after=x").status_code == 400
        assert admin.put("http://gateway/split", content=b"[]").status_code == 400
        assert admin.get("http://gateway/health").status_code == 200


def test_what_is_left_of_a_lease_is_told(bench):
    """Somebody on call sees it run out; without a canary there is none."""

    def left_s() -> float:
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(bench.socket))) as admin:
            page = admin.get("http://gateway/metrics").text
        return float(page.split("\nshipway_gateway_lease_left_seconds ")[1].split("\n")[0])

    (stable, _), (canary, _) = bench.upstream("1"), bench.upstream("2")
    bench.put(stable)
    assert left_s() == 0
    bench.put(stable, canary, 50.0, 500.0)
    assert 0 < left_s() <= 500


def test_a_lease_that_nobody_renews_goes_home(bench):
    """By the gateway's own clock."""
    (stable, _), (canary, _) = bench.upstream("1"), bench.upstream("2")
    bench.put(stable, canary, 100.0, 3.0)
    assert bench.send(1) == Counter({"200 2": 1})
    until(lambda: bench.router.read("s").canary is None)
    split = bench.router.read("s")
    assert (split.canary, split.reason, split.generation) == (None, "lease_expired", (1, bench.generation[1] + 1))
    assert bench.send(5) == Counter({"200 1": 5})


def test_traffic_does_not_go_home_to_a_dead_arm(bench):
    """The lease ends, but stable is dead and the canary lives."""
    (stable, process), (canary, _) = bench.upstream("1"), bench.upstream("2")
    bench.put(stable, canary, 100.0, 1.0)
    process.kill()
    process.wait()
    bench.settled(time.monotonic() + 1.5)
    assert bench.send(5) == Counter({"200 2": 5})


def test_a_killed_gateway_comes_back_all_stable(bench):
    """From its snapshot, at a new generation and with a new boot id."""
    (stable, _), (canary, _) = bench.upstream("1"), bench.upstream("2")
    bench.put(stable, canary, 50.0, 60.0)
    before = bench.router.read("s")
    bench.gateway.kill()
    bench.gateway.wait()
    bench.gateway = bench.start_gateway()
    after = bench.router.read("s")
    assert (after.stable, after.canary, after.reason) == (stable, None, "restarted")
    assert after.generation > before.generation
    assert after.boot != before.boot
    assert bench.send(5) == Counter({"200 1": 5})


def test_a_stale_writer_is_refused(bench):
    """A later lock holder has written."""
    stable, _ = bench.upstream("1")
    bench.put(stable)
    bench.router.write("s", TrafficSplit((5, 1), stable), bench.generation)
    with pytest.raises(StaleWriter):
        bench.put(stable)


def test_streams_pass_through_as_they_come(bench):
    """The first piece arrives long before the last."""
    stable, _ = bench.upstream("1")
    bench.put(stable)
    with httpx.stream("GET", f"http://127.0.0.1:{bench.port}/stream", trust_env=False) as answer:
        times = [time.monotonic() for _ in answer.iter_raw()]
    assert times[-1] - times[0] > 0.4


def test_a_request_keeps_its_id_and_path(bench):
    """The id is passed on and comes back; a new one is made where there is none."""
    stable, _ = bench.upstream("1")
    bench.put(stable)
    url = f"http://127.0.0.1:{bench.port}/v2/a%20b?x=1"
    answer = httpx.get(url, headers={"x-request-id": "abc"}, trust_env=False)
    assert (answer.text, answer.headers["x-request-id"]) == ("abc /v2/a%20b?x=1", "abc")
    assert len(httpx.get(url, trust_env=False).headers["x-request-id"]) == 32


def test_a_body_over_the_limit_is_refused(bench):
    """413, and the gateway lives."""
    stable, _ = bench.upstream("1")
    bench.put(stable)
    answer = httpx.post(f"http://127.0.0.1:{bench.port}/", content=b"x" * 3_000_000, trust_env=False)
    assert answer.status_code == 413
    assert bench.send(1) == Counter({"200 1": 1})


def test_a_gateway_is_small(bench):
    """At most 150 MB after some traffic."""
    import psutil

    stable, _ = bench.upstream("1")
    bench.put(stable)
    bench.send(200)
    assert psutil.Process(bench.gateway.pid).memory_info().rss < 150e6


def test_sigterm_ends_it_cleanly(bench):
    """Exit 0."""
    os.kill(bench.gateway.pid, signal.SIGTERM)
    assert bench.gateway.wait(HANG_S) == 0


def test_requests_are_recorded_and_outlive_the_gateway(bench):
    """Only inference requests, without what was declared secret, at most as many as are kept, over a restart too."""
    stable, _ = bench.upstream("1")
    bench.put(stable)
    url = f"http://127.0.0.1:{bench.port}/v2/models/s/infer"
    for n in range(4):
        httpx.post(url, json={"n": n, "user": "ada"}, headers={"authorization": "Bearer x"}, trust_env=False)
    bench.send(3)
    bench.gateway.terminate()
    bench.gateway.wait()
    bench.gateway = bench.start_gateway()
    for n in range(4, 8):
        httpx.post(url, json={"n": n, "user": "ada"}, trust_env=False)

    def kept() -> list[dict[str, object]]:
        return [json.loads(r.body) for r in recorded_requests(bench.record, recorded_numbers(bench.record)).values()]

    until(lambda: kept() and kept()[-1]["n"] == 7)
    assert kept() == [{"n": n, "user": "redacted"} for n in range(3, 8)]
    assert stat.S_IMODE(bench.record.stat().st_mode) == 0o600


def test_a_record_that_cannot_be_kept_stops_no_request(tmp_path):
    """Where the record is to lie, something else does."""
    (tmp_path / "s.db").mkdir()
    bench = Bench(tmp_path)
    try:
        stable, _ = bench.upstream("1")
        bench.put(stable)
        assert bench.send(5, "/v2/models/s/infer") == Counter({"200 1": 5})
    finally:
        bench.end()
