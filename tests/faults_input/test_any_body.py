"""Whatever body is sent, a real server and a real gateway answer below 500, stay small, and go on answering."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest
import schemathesis
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from pipelines.adapters.gateway import GatewayRouter
from pipelines.errors import DependencyDown
from pipelines.records.settings import GatewaySettings
from pipelines.records.split import Arm, TrafficSplit
from pipelines.serving.settings_file import write_settings
from pipelines.supply.bundle import seal
from tests.pipelines.model_folders import LABELS
from tests.ports import free_port
from tests.waiting import HANG_S, until

pytestmark = pytest.mark.integration

FACTS = {"engine": "torch", "labels": list(LABELS), "max_length": 64, "model": "m", "variant": "source"}
GOOD = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a good day"]}]}
API = schemathesis.openapi.from_path(Path(__file__).parents[2] / "docs" / "openapi.yaml")
DESCRIBED = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
MAX_GROWTH_MB = 50.0
SETTLING = 40
"""Requests until what is made once (buffers, caches of the engine) is made."""


@dataclass(frozen=True)
class Target:
    """Something that answers, and the process that may not grow."""

    client: httpx.Client
    process: psutil.Process

    def send(self, path: str, body: bytes, headers: dict[str, str | bytes]) -> int:
        """The status of the answer."""
        return self.client.post(path, content=body, headers=headers).status_code

    def rss_mb(self) -> float:
        """Its memory."""
        return self.process.memory_info().rss / 1e6

    def is_well(self) -> bool:
        """Whether a good request is answered well."""
        return self.client.post("/v2/models/m/infer", json=GOOD).status_code == 200


@contextmanager
def started(*arguments: object) -> Iterator[psutil.Process]:
    """A process of one of our programs."""
    process = subprocess.Popen([sys.executable, "-m", *map(str, arguments)])
    try:
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(HANG_S)


def wait_ready(url: str) -> None:
    """Until it answers that it is ready."""

    def is_ready() -> bool:
        try:
            return httpx.get(f"{url}/v2/health/ready").status_code == 200
        except httpx.TransportError:
            return False

    until(is_ready)


@pytest.fixture(scope="module")
def server(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A server with a tiny real model."""
    digest, path = seal(tiny_model, FACTS, tmp_path_factory.mktemp("store"))
    port = free_port()
    options = ("--bundle", path, "--digest", digest, "--port", port, "--model-name", "m")
    with started("pipelines.serving.server", *options) as process:
        wait_ready(f"http://127.0.0.1:{port}")
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            yield Target(client, process)


@pytest.fixture(scope="module")
def gateway(server: Target, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A gateway in front of it, with the server in both arms."""
    folder, port = tmp_path_factory.mktemp("gateway"), free_port()
    socket_path = folder / "g.sock"
    options = ("--service", "m", "--port", port, "--admin-socket", socket_path, "--snapshot", folder / "split")
    write_settings(folder / "settings", GatewaySettings(timeout_s=30.0))
    with started("pipelines.serving.gateway", *options, "--settings", folder / "settings") as process:
        give_both_arms(GatewayRouter(lambda _: socket_path), str(server.client.base_url).rstrip("/"))
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            yield Target(client, process)


def give_both_arms(router: GatewayRouter, url: str) -> None:
    """Half of the requests to the canary, for the time of the tests."""
    stable, canary = (Arm(f"sha256:{n}", (url,)) for n in "12")

    def answers() -> bool:
        try:
            router.read("m")
        except DependencyDown:
            return False
        return True

    until(answers)
    router.write("m", TrafficSplit((1, 1), stable), router.read("m").generation)
    router.write("m", TrafficSplit((1, 2), stable, canary, 50.0, 600.0), (1, 1))


KEYS = st.sampled_from(["inputs", "instances", "dataframe_records", "dataframe_split", "data", "columns", "shape"])
TEXTS = st.text(max_size=40) | st.sampled_from(["\0", "\ud800", "\u202e", "x" * 100_001, "\U0001f600" * 500])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda deeper: st.lists(deeper, max_size=4) | st.dictionaries(KEYS | TEXTS, deeper, max_size=4),
    max_leaves=12,
)
TENSORS = st.fixed_dictionaries(
    {},
    optional={
        "name": VALUES,
        "datatype": st.sampled_from(["BYTES", "FP32", "INT64", "", 7]),
        "shape": st.lists(st.integers(-2, 3) | st.just(2**63), max_size=3) | VALUES,
        "data": st.lists(TEXTS | VALUES, max_size=6) | VALUES,
    },
)
REQUESTS = VALUES | st.builds(lambda tensors: {"inputs": tensors}, st.lists(TENSORS, max_size=3))
BODIES = REQUESTS.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=500)
ODD = (
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b'{"inputs": "' + b"x" * 3_000_000 + b'"}',
    b'{"inputs": [' + b'"a",' * 200_000 + b'"a"]}',
    b'{"inputs": [' + b"9" * 100_000 + b"]}",
    b'{"inputs": ["\xff\xfe"]}',
    gzip.compress(b"x" * 100_000_000, 9),
)
PATHS = st.sampled_from(
    ["/v2/models/m/infer", "/invocations", "/feedback", "/v2/models/other/infer", "/%2e%2e/x", "/ping", "//", "/v2"]
)
HEADERS = st.sampled_from(
    [
        {},
        {"content-type": "text/csv"},
        {"content-type": "application/json; charset=utf-16"},
        {"content-type": b"\x80"},
        {"content-encoding": "gzip"},
        {"content-encoding": "deflate"},
        {"content-encoding": "br"},
        {"content-encoding": "rot13"},
        {"x-request-id": "a" * 5000},
        {"accept": "nonsense", "expect": "100-continue"},
    ]
)
RELAXED = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(params=["server", "gateway"])
def target(request: pytest.FixtureRequest) -> Target:
    """Each of the two."""
    return request.getfixturevalue(request.param)


@API.exclude(path="/feedback").parametrize()
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_answer_is_as_described(case, target):
    """By `docs/openapi.yaml`: status, kind of content and form of whatever is answered to right and wrong requests."""
    case.call_and_validate(base_url=str(target.client.base_url), checks=DESCRIBED)


@API.include(path="/feedback").parametrize()
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_word_on_a_label_is_as_described(case, gateway):
    """Only the gateway knows labels; whatever is sent as one."""
    case.call_and_validate(base_url=str(gateway.client.base_url), checks=DESCRIBED)


@pytest.mark.parametrize(
    ("more", "statuses"),
    [
        ({"score": 0.5}, [200, 409]),
        ({"correct": True, "model_version": "none"}, [409, 409]),
        ({"score": 0.5, "correct": True}, [422, 422]),
    ],
)
def test_a_label_of_an_answer_is_answered_as_described(gateway, more, statuses):
    """The first and the second one of a request that was answered."""
    answer = gateway.client.post("/v2/models/m/infer", json=GOOD)
    body = {"request_id": answer.headers["x-request-id"], **more}
    said = [gateway.client.post("/feedback", json=body) for _ in range(2)]
    for one in said:
        API["/feedback"]["POST"].validate_response(one)
    assert [one.status_code for one in said] == statuses


def test_any_body_is_answered_below_500(target):
    """Two hundred bodies, odd ones first; memory grows by less than 50 MB, and a good request is still answered."""
    for _ in range(SETTLING):
        assert target.is_well()
    before_mb = target.rss_mb()
    statuses = [send_odd(target, body, headers) for body in ODD for headers in ({}, {"content-encoding": "gzip"})]

    @RELAXED
    @given(PATHS, BODIES, HEADERS)
    @example("/v2/models/m/infer", b"", {})
    @example("/invocations", gzip.compress(json.dumps({"inputs": ["a"]}).encode()), {"content-encoding": "gzip"})
    def any_body(path: str, body: bytes, headers: dict[str, str | bytes]) -> None:
        status = target.send(path, body, headers)
        statuses.append(status)
        assert status < 500, (status, path, body[:200], headers)

    any_body()
    assert target.is_well()
    assert max(statuses) < 500
    assert target.rss_mb() - before_mb < MAX_GROWTH_MB


def test_a_compressed_body_is_read(target):
    """The gateway passes it on as it came; the server takes it apart."""
    raw, headers = json.dumps(GOOD).encode(), {"content-encoding": "gzip"}
    assert target.send("/v2/models/m/infer", gzip.compress(raw), headers) == 200
    assert target.send("/v2/models/m/infer", raw, headers) == 422
    assert target.send("/v2/models/m/infer", gzip.compress(raw)[:-9], headers) == 422
    assert target.send("/v2/models/m/infer", gzip.compress(b" " * 50_000_000 + raw), headers) == 413


def send_odd(target: Target, body: bytes, headers: dict[str, str | bytes]) -> int:
    """The status; a server may hang up on a body that it refuses to read on, after it has answered."""
    try:
        return target.send("/v2/models/m/infer", body, headers)
    except httpx.TransportError:
        assert target.is_well()
        return 413
