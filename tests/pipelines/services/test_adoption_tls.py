"""An endpoint over TLS is adopted where its certificate is good, and asked by nobody who does not check it."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import trustme
import uvloop

from pipelines.adapters.http_replays import HttpReplays
from pipelines.adapters.processes.runtime import ProcessRuntime
from pipelines.adapters.proxies.admin import _refuse_tls
from pipelines.errors import BadInput, DependencyDown
from pipelines.home import Home
from pipelines.ports import ReplayQuery
from pipelines.records.service import Service
from pipelines.records.settings import Recording
from pipelines.records.split import Arm, TrafficSplit
from pipelines.services.adoption import check_answers, find_endpoint
from pipelines.services.units import server_units
from pipelines.serving.requests.recorder import Recorder
from tests.pipelines.services.test_adoption import endpoint
from tests.pipelines.serving.plane import Plane, body_of, request_of, status_of
from tests.pipelines.serving.requests.asked import asked

ASKED = b"POST /v2/models/tiny/infer HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}"
LAST = ASKED.replace(b"host: x", b"host: x\r\nconnection: close")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """One that no machine knows."""
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(authority, tmp_path_factory) -> str:
    """Its certificate."""
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


def pem(authority: trustme.CA, folder: Path, name: str) -> str:
    """Key and certificate of somebody with this name."""
    path = folder / "server.pem"
    authority.issue_cert(name).private_key_and_cert_chain_pem.write_to_path(path)
    return str(path)


@pytest.fixture(scope="module")
def url(authority, tmp_path_factory) -> Iterator[str]:
    """An endpoint of that authority."""
    with endpoint("oip", pem(authority, tmp_path_factory.mktemp("tls"), "127.0.0.1")) as (found, _):
        yield found


def test_an_endpoint_with_a_good_certificate_is_adopted(url, ca_file, tmp_path):
    """It is asked over TLS by whoever looks whether it is there, and the arm says by whom it is checked."""
    stable = find_endpoint("tiny", url, (), ca_file).deployment(0.0)
    assert (stable.url, stable.ca_file) == (url, ca_file)
    check_answers(stable, "inference", {"tiny"})
    runtime = ProcessRuntime(Home.open(tmp_path))
    (unit,) = server_units(Service("tiny", stable=stable), stable)
    runtime.ensure(unit)
    assert runtime.status(unit.name).state == "ready"
    runtime.ensure(replace(unit, ca_file=""))
    assert runtime.status(unit.name).state == "failed"
    arm = Arm(stable.digest, (url,), ca_file)
    assert Arm.from_dict(json.loads(json.dumps(arm.as_dict()))) == arm


def test_an_authority_that_nobody_named_is_refused(url):
    """With what to do."""
    with pytest.raises(BadInput, match="certificate") as caught:
        find_endpoint("tiny", url)
    assert (caught.value.code, "--ca-file" in str(caught.value.hint)) == ("E_TLS", True)


def test_somebody_else_with_a_good_certificate_is_refused(authority, ca_file, tmp_path):
    """The name counts."""
    with (
        endpoint("oip", pem(authority, tmp_path, "models.example.org")) as (found, _),
        pytest.raises(BadInput) as caught,
    ):
        find_endpoint("tiny", found, (), ca_file)
    assert caught.value.code == "E_TLS"


def test_who_speaks_no_tls_is_refused(ca_file):
    """And is not asked in clear instead; nor is there anything to check over plain HTTP."""
    with endpoint("oip") as (found, _):
        for address, code in ((found.replace("http:", "https:"), "E_TLS"), (found, "E_CA")):
            with pytest.raises(BadInput) as caught:
                find_endpoint("tiny", address, (), ca_file)
            assert caught.value.code == code


@pytest.mark.parametrize("text", [None, "not a certificate"])
def test_authorities_that_cannot_be_read_are_named(url, tmp_path, text):
    """Missing, or no PEM."""
    path = tmp_path / "ca.pem"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BadInput) as caught:
        find_endpoint("tiny", url, (), str(path))
    assert (caught.value.code, caught.value.field) == ("E_CA", "--ca-file")


def asked_through_a_gateway(folder: Path, stable: Arm) -> tuple[bytes, int]:
    """What two requests over one connection get, and how many connections the gateway keeps to the arm."""

    async def run() -> tuple[bytes, int]:
        async with Plane(folder) as plane:
            plane.gateway.put(TrafficSplit((1, 1), stable), (0, 0))
            heard = await plane.say(ASKED + LAST)
            return heard, sum(len(replica._kept) for replica in plane.gateway.proxy.replicas)

    return uvloop.run(run())  # as the gateway itself runs


def test_users_are_answered_over_tls(url, ca_file, tmp_path):
    """And a connection is used again: a handshake is not paid for each request."""
    heard, kept = asked_through_a_gateway(tmp_path, Arm("external:1", (url,), ca_file))
    assert (status_of(heard), heard.count(b"HTTP/1.1 200"), kept) == (200, 2, 1)
    assert b'"model_name": "tiny"' in body_of(heard)


def test_a_long_answer_comes_whole_over_tls(authority, ca_file, tmp_path):
    """Also to a client that reads slowly: the arm waits meanwhile."""
    context, size = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), 8 * 2**20
    context.load_cert_chain(pem(authority, tmp_path, "localhost"))

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size + b"x" * size)
        await writer.drain()
        writer.close()

    async def run() -> int:
        server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
        async with server, Plane(tmp_path, timeout_s=10.0) as plane:
            arm = Arm("external:1", (f"https://localhost:{server.sockets[0].getsockname()[1]}",), ca_file)
            plane.gateway.put(TrafficSplit((1, 1), arm), (0, 0))
            reader, writer = await asyncio.open_connection("127.0.0.1", plane.port)
            writer.write(LAST)
            await reader.readuntil(b"\r\n\r\n")
            await asyncio.sleep(0.3)
            body = await reader.read(-1)
            writer.close()
            return len(body)

    assert uvloop.run(run()) == size


@pytest.mark.parametrize("wrong", ["", "/nowhere/ca.pem"])
def test_nobody_is_asked_who_cannot_be_checked(url, tmp_path, wrong):
    """Users get 502, as of any arm that cannot be reached, and the gateway lives."""
    heard, kept = asked_through_a_gateway(tmp_path, Arm("external:1", (url,), wrong))
    assert (heard.count(b"HTTP/1.1 502"), kept) == (2, 0)


def test_recorded_requests_are_asked_over_tls(url, ca_file, tmp_path):
    """By the same authorities; where they cannot be read nothing is asked."""
    recorder = Recorder(tmp_path / "s.db", Recording(share=1.0), lambda _: None)
    recorder.saw(asked("POST", "/v2/models/tiny/infer", {"content-type": "application/json"}, b"{}"), b"r1")
    recorder.close()
    replays, arm = HttpReplays(lambda _: tmp_path / "s.db"), Arm("external:1", (url,), ca_file)
    (pair,) = replays.ask(ReplayQuery("s", replays.recorded("s"), arm, arm))
    assert (pair.agrees, pair.stable_ms is not None) == (True, True)
    with pytest.raises(DependencyDown):
        replays.ask(ReplayQuery("s", (1,), replace(arm, ca_file="/nowhere"), arm))


def test_other_proxies_are_told_of_no_tls(url):
    """They would speak in clear."""
    with pytest.raises(ValueError, match="TLS"):
        _refuse_tls(TrafficSplit((1, 1), Arm("external:1", (url,))))
