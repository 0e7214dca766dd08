"""Which endpoints may be adopted, what do they speak, and what does Shipway leave alone?"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipelines.adapters.processes.runtime import ProcessRuntime
from pipelines.adapters.processes.supervisor import Supervisor
from pipelines.errors import BadInput, DependencyDown
from pipelines.home import Home
from pipelines.ports import Now
from pipelines.records.service import Service
from pipelines.records.split import Arm
from pipelines.services import adoption
from pipelines.services.adoption import PROBES, check_answers, checked_url, find_endpoint
from pipelines.services.units import server_units, wanted_units
from tests.ports import free_port
from tests.waiting import until

SCRIPT = Path(__file__).parent / "foreign_endpoint.py"


@contextmanager
def endpoint(protocol: str, pem: str = "") -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A running endpoint and its process."""
    import socket

    port = free_port()
    process = subprocess.Popen([sys.executable, str(SCRIPT), str(port), protocol, *([pem] if pem else [])])

    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        until(listens)
        yield f"{'https' if pem else 'http'}://127.0.0.1:{port}", process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "gopher://127.0.0.1:70",
        "https://10.0.0.7:8443",
        "https://user:secret@127.0.0.1:8443",
        "https://",
        "127.0.0.1:5000",
        "http://",
        "http://169.254.169.254",
        "http://10.0.0.7:8000",
        "http://example.org:8000",
        "http://user:secret@127.0.0.1:5000",
        "http://127.0.0.1:5000/v1",
        "http://127.0.0.1:5000?x=1",
        "http://127.0.0.1:5000#x",
        "http://127.0.0.1:99999",
        "http://[::1",
        "http://0.0.0.0:80",
        "http://127.0.0.1:5000\n",
        "http://2130706433:80",
        "ftp://user:secret@127.0.0.1",
        "//user:secret@127.0.0.1",
        "user:secret@127.0.0.1:80",
        "http:///user:secret@127.0.0.1",
        "http://user:secret@127.0.0.1:99999",
        "http://user:se/secret@127.0.0.1",
        "http://user:secret@127.0.0.1@127.0.0.1",
        "http://user:secret@[::1",
        "http://127.0.0.1:80/?token=secret",
        "http://127.0.0.1:80/#secret",
    ],
)
def test_addresses_that_are_never_asked(url):
    """Other schemes, other machines, credentials, paths: refused before anybody connects."""
    with pytest.raises(BadInput) as caught:
        checked_url(url)
    assert (caught.value.code, caught.value.field) == ("E_URL", "URL")
    assert "secret" not in str(caught.value.as_dict())


def test_a_declared_host_is_pinned_to_its_address():
    """The name is looked up once; a link-local address is refused even where it was declared."""
    assert checked_url("http://10.0.0.7:8000/", ["10.0.0.7"]) == "http://10.0.0.7:8000"
    assert checked_url("http://localhost:8000") == "http://127.0.0.1:8000"
    assert checked_url("http://[::1]:8000") == "http://[::1]:8000"
    assert checked_url("https://Localhost:08443") == "https://localhost:8443"
    assert checked_url("https://[::1]") == "https://[::1]:443"
    with pytest.raises(BadInput):
        checked_url("http://169.254.169.254", ["169.254.169.254"])


@pytest.mark.parametrize("protocol", ["oip", "openai", "mlflow"])
def test_what_an_endpoint_speaks_is_found_out(protocol):
    """By asking it; its deployment is named by its address and has no bundle."""
    with endpoint(protocol) as (url, _):
        found = find_endpoint("tiny", url)
    deployment = found.deployment(1.0)
    assert (found.protocol, found.url, deployment.bundle) == (protocol, url, "")
    assert deployment.digest.startswith("external:")
    assert deployment.probe == PROBES[protocol]


def test_an_endpoint_that_speaks_nothing_known_is_refused():
    """With what was asked."""
    with endpoint("nothing") as (url, _), pytest.raises(BadInput) as caught:
        find_endpoint("tiny", url)
    assert caught.value.code == "E_PROTOCOL"


def test_the_name_of_an_oip_model_is_the_services():
    """Users ask for it by name, from whichever arm."""
    with endpoint("oip") as (url, _), pytest.raises(BadInput) as caught:
        find_endpoint("other", url)
    assert caught.value.code == "E_MODEL"


def test_a_server_of_pages_serves_no_model():
    """It answers 200 whatever it is asked."""
    with endpoint("pages") as (url, _), pytest.raises(BadInput) as caught:
        find_endpoint("tiny", url)
    assert caught.value.code == "E_MODEL"


@pytest.mark.parametrize("name", ["../x", "a;b", "", "a" * 200])
def test_a_name_that_is_none_is_refused_before_anybody_connects(name):
    """As in a spec."""
    with pytest.raises(BadInput) as caught:
        find_endpoint(name, "http://127.0.0.1:1")
    assert caught.value.code == "E_NAME"


def test_nobody_at_the_address_is_a_dependency_that_is_down():
    """Not a wrong input: it may be started."""
    with pytest.raises(DependencyDown):
        find_endpoint("tiny", f"http://127.0.0.1:{free_port()}")


def test_an_adopted_endpoint_is_probed_and_left_alone(tmp_path):
    """Ready while it answers, failed when not; no supervisor starts it, restarts it, or ends it."""
    home = Home.open(tmp_path)
    runtime, supervisor = ProcessRuntime(home), Supervisor(home)
    with endpoint("mlflow") as (url, process):
        stable = find_endpoint("tiny", url).deployment(0.0)
        service = Service("tiny", stable=stable)
        (unit,) = server_units(service, stable)
        assert unit in wanted_units(service, 0.0)
        runtime.ensure(unit)
        supervisor.step(Now(0.0, 0.0))
        status = runtime.status(unit.name)
        assert (status.state, status.url, status.restarts) == ("ready", url, 0)
        check_answers(stable, "inference", {"tiny"})
        runtime.remove(unit.name)
        supervisor.step(Now(1.0, 1.0))
        supervisor.stop_all()
        assert process.poll() is None
        runtime.ensure(unit)
    assert runtime.status(unit.name).state == "failed"
    with pytest.raises(DependencyDown):
        check_answers(stable, "inference", {"tiny"})


def test_no_release_into_what_released_models_do_not_speak():
    """A canary that answers 404 would look like a good one."""
    with endpoint("openai") as (url, _):
        stable = find_endpoint("tiny", url).deployment(0.0)
        with pytest.raises(BadInput) as caught:
            check_answers(stable, "inference", {"tiny"})
    assert caught.value.code == "E_PROTOCOL"


@pytest.mark.parametrize(
    ("protocol", "api", "names", "code"),
    [
        ("openai", "openai", {"tiny", "m"}, None),
        ("openai", "openai", {"tiny"}, "E_MODEL"),
        ("openai", "inference", {"tiny", "m"}, "E_PROTOCOL"),
        ("oip", "openai", {"tiny"}, "E_PROTOCOL"),
        ("mlflow", "openai", {"tiny"}, "E_PROTOCOL"),
        ("oip", "inference", {"tiny"}, None),
        ("mlflow", "inference", {"tiny"}, None),
    ],
)
def test_a_release_answers_what_an_adopted_endpoint_did(protocol, api, names, code):
    """In the same protocol, and to the names that users have: the endpoint calls its model `m`."""
    with endpoint(protocol) as (url, _):
        stable = find_endpoint("tiny", url).deployment(0.0)
        if code is None:
            check_answers(stable, api, names)
            return
        with pytest.raises(BadInput) as caught:
            check_answers(stable, api, names)
    assert caught.value.code == code
    assert (caught.value.hint == "serve: {model_names: [m]}") is (code == "E_MODEL")


@pytest.mark.parametrize("body", [b'{"data": []}', b'{"data": [{}]}', b'{"data": [5]}', b"5", b"[", b"\xff"])
def test_an_endpoint_that_lists_no_models_names_none(monkeypatch, body):
    """By then it may be another one: nobody knows what its users ask for."""
    stable = adoption.Endpoint("http://127.0.0.1:1", "openai").deployment(0.0)
    monkeypatch.setattr(adoption, "is_endpoint_ready", lambda *_: True)
    monkeypatch.setattr(adoption, "answer_of", lambda *_: (200, body))
    with pytest.raises(BadInput, match="lists no models") as caught:
        check_answers(stable, "openai", {"tiny"})
    assert caught.value.code == "E_MODEL"


def test_only_an_adopted_arm_may_be_elsewhere():
    """Everything else that serves is on loopback."""
    raw = {"url": "http://10.0.0.7:80", "digest": "external:1"}
    assert Arm.from_dict(raw).urls == ("http://10.0.0.7:80",)
    with pytest.raises(ValueError, match="loopback"):
        Arm.from_dict({**raw, "digest": "sha256:1"})


@pytest.mark.parametrize("body", [b"[" * 60_000, b'{"data": ' * 5_000, b'{"data": 5}', b"5", b'{"data": "x"}', b"\xff"])
def test_an_answer_that_is_no_list_of_models_is_no_protocol(monkeypatch, body):
    """Whatever somebody else's endpoint says, and however deep."""
    monkeypatch.setattr(adoption, "answer_of", lambda *_: (200, body))
    assert not adoption._speaks("http://127.0.0.1:1", "openai", "")
