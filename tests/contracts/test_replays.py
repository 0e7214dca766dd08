"""Do all sources of recorded requests keep the port's promises?"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pipelines.adapters.http_replays import HttpReplays
from pipelines.adapters.memory.replays import MemoryReplays
from pipelines.errors import DependencyDown
from pipelines.ports import NoReplays, ReplayQuery, Replays
from pipelines.records.settings import Recording
from pipelines.records.split import Arm
from pipelines.serving.requests.recorder import Recorder
from tests.pipelines.serving.requests.asked import asked

INFER = "/v2/models/s/infer"
NOBODY = Arm("sha256:0", ("http://127.0.0.1:1",))


class Server:
    """A model server whose answers lie in the request: `status`, `class`, `text`, `wait_s`, each by version."""

    def __init__(self, version: str) -> None:
        self.version, self.seen = version, []
        server = self

        class Handler(BaseHTTPRequestHandler):
            """One request."""

            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                """Answer as the body says."""
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                server.seen.append((self.path, dict(self.headers), body))
                self._answer(body.get(server.version, body))

            def _answer(self, wanted: dict[str, Any]) -> None:
                stopping.wait(wanted.get("wait_s", 0))
                text = json.dumps({"model_version": server.version, "text": wanted.get("text", "same")}).encode()
                self.send_response(wanted.get("status", 200))
                self.send_header("content-length", str(len(text)))
                if "class" in wanted:
                    self.send_header("x-shipway-class", wanted["class"])
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: object) -> None:
                """Quiet."""

        stopping = self.stopping = threading.Event()
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()
        self.arm = Arm(f"sha256:{version}", (f"http://127.0.0.1:{self.http.server_port}",))

    def close(self) -> None:
        """End it."""
        self.stopping.set()
        self.http.shutdown()
        self.http.server_close()


class ReplaysContract:
    """What a replay relies on. An adapter's test gives `replays` whose service `s` has `kept` recorded requests."""

    replays: Replays
    kept: tuple[int, ...]
    arms: tuple[Arm, Arm] = (NOBODY, NOBODY)

    def query(self, *numbers: int) -> ReplayQuery:
        """A question about these."""
        return ReplayQuery("s", numbers, *self.arms)

    def test_numbers_rise(self):
        """Oldest first, each once, and the same when asked again."""
        assert self.replays.recorded("s") == self.kept == tuple(sorted(set(self.kept)))
        assert self.replays.recorded("s") == self.kept

    def test_a_service_that_recorded_nothing_has_nothing(self):
        """No error: the release says what follows."""
        assert self.replays.recorded("unknown") == ()

    def test_each_number_gives_a_pair(self):
        """In the order in which they were asked for."""
        assert len(self.replays.ask(self.query(*reversed(self.kept)))) == len(self.kept)

    def test_what_is_kept_no_more_gives_none(self):
        """It was removed since its number was read."""
        assert len(self.replays.ask(self.query(*self.kept, 10**6))) == len(self.kept)

    def test_asking_records_nothing(self):
        """A replay does not become what is replayed next."""
        self.replays.ask(self.query(*self.kept))
        assert self.replays.recorded("s") == self.kept


class TestMemoryReplays(ReplaysContract):
    """In memory."""

    replays, kept = MemoryReplays({"s": [3, 5, 8]}), (3, 5, 8)


class TestNoReplays(ReplaysContract):
    """Where nothing is ever recorded."""

    replays, kept = NoReplays(), ()


def write(path: Path, *bodies: dict[str, Any]) -> HttpReplays:
    """A record of these requests."""
    recorder = Recorder(path, Recording(share=1.0))
    for body in bodies:
        headers = {"content-type": "application/json", "authorization": "s3cret"}
        recorder.saw(asked("POST", INFER, headers, json.dumps(body).encode()), b"r1")
    recorder.close()
    return HttpReplays(lambda service: path.with_name(f"{service}.db"))


@pytest.fixture
def servers() -> Iterator[tuple[Server, Server]]:
    """Stable and the canary."""
    stable, canary = Server("stable"), Server("canary")
    yield stable, canary
    stable.close()
    canary.close()


class TestHttpReplays(ReplaysContract):
    """The gateway's own record, and real servers."""

    @pytest.fixture(autouse=True)
    def _fresh(self, tmp_path, servers):
        self.replays, self.kept = write(tmp_path / "s.db", *({"n": n} for n in range(3))), (1, 2, 3)
        self.arms = (servers[0].arm, servers[1].arm)


def pairs_of(tmp_path, servers, *bodies, timeout_s=2.0, concurrency=1):
    """The pairs of these requests."""
    replays = write(tmp_path / "s.db", *bodies)
    arms = (servers[0].arm, servers[1].arm)
    return replays.ask(ReplayQuery("s", replays.recorded("s"), *arms, timeout_s, concurrency))


def test_both_arms_are_asked_what_the_client_asked(tmp_path, servers):
    """The same bytes at the same path, marked as replayed, and with no credential."""
    pairs_of(tmp_path, servers, {"a": 1})
    for server in servers:
        ((path, headers, body),) = server.seen
        assert (path, body, headers["x-shipway-replay"]) == (INFER, {"a": 1}, "1")
        assert "s3cret" not in str(headers)


@pytest.mark.parametrize(
    ("body", "canary_bad", "stable_bad"),
    [
        ({}, False, False),
        ({"canary": {"status": 500}}, True, False),
        ({"stable": {"status": 503}}, False, True),
        ({"status": 500}, True, True),
        ({"status": 422}, False, False),
        ({"canary": {"wait_s": 5}}, True, False),
    ],
)
def test_what_fails_live_fails_here(tmp_path, servers, body, canary_bad, stable_bad):
    """A 5xx and no answer in time are the arm's fault; a 4xx is the client's."""
    (pair,) = pairs_of(tmp_path, servers, body, timeout_s=2.0)
    assert (pair.canary_ms is None, pair.stable_ms is None) == (canary_bad, stable_bad)


def test_an_arm_that_is_gone_fails(tmp_path, servers):
    """Refused connections are failures, not the end of the replay."""
    replays = write(tmp_path / "s.db", {}, {})
    pairs = replays.ask(ReplayQuery("s", (1, 2), servers[0].arm, NOBODY))
    assert [(p.canary_ms is None, p.stable_ms is None) for p in pairs] == [(True, False)] * 2


@pytest.mark.parametrize(
    ("body", "agrees", "is_class"),
    [
        ({"class": "a"}, True, True),
        ({"canary": {"class": "a"}, "stable": {"class": "b"}}, False, True),
        ({"canary": {"class": "a"}}, True, False),
        ({"text": "x"}, True, False),
        ({"canary": {"text": "x"}}, False, False),
        ({"canary": {"status": 422}}, False, False),
        ({"canary": {"status": 500}}, None, False),
    ],
)
def test_answers_are_compared(tmp_path, servers, body, agrees, is_class):
    """By the class where both name one, else as a whole, but for the version that each one names."""
    (pair,) = pairs_of(tmp_path, servers, body)
    assert (pair.agrees, pair.is_class) == (agrees, is_class)


def test_the_arms_take_turns(tmp_path, servers):
    """Stable first, then the canary first, and so on: both wait for the other as often."""
    order: list[str] = []
    for server in servers:
        server.seen = Turns(order, server.version)
    pairs_of(tmp_path, servers, {}, {}, {})
    assert order == ["stable", "canary", "canary", "stable", "stable", "canary"]


class Turns(list):
    """Notes who was asked."""

    def __init__(self, order: list[str], version: str) -> None:
        super().__init__()
        self.order, self.version = order, version

    def append(self, _: object) -> None:
        """One more."""
        self.order.append(self.version)


def test_pairs_come_in_order_however_many_run(tmp_path, servers):
    """A slow answer holds up nobody's place."""
    bodies = [{"canary": {"status": 500 if n % 3 == 0 else 200, "wait_s": 0.05 * (n % 2)}} for n in range(9)]
    pairs = pairs_of(tmp_path, servers, *bodies, concurrency=4)
    assert [p.canary_ms is None for p in pairs] == [n % 3 == 0 for n in range(9)]


def test_a_record_that_cannot_be_read_is_a_dependency_that_is_down(tmp_path):
    """Never an empty one."""
    (tmp_path / "s.db").write_bytes(b"no database" * 500)
    replays = HttpReplays(lambda service: tmp_path / f"{service}.db")
    with pytest.raises(DependencyDown):
        replays.recorded("s")
    with pytest.raises(DependencyDown):
        replays.ask(ReplayQuery("s", (1,), NOBODY, NOBODY))
