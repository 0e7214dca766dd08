"""The user's Prefect must answer before anything begins; the home's is used where it can be had, and said where not."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from flows.control.prefect_choice import refuse_silent_prefect, use_homes_prefect
from flows.control.prefect_server import auth_string, request_file
from flows.control.up_file import say_in_up_file, up_file, write_up_file
from pipelines.errors import DependencyDown
from pipelines.home import Home

SPEC = "model: models:/m/1\nservice: s\nevaluate: {data: rows.csv, gates: [{metric: accuracy, min: 0.5}]}\n"


@pytest.fixture(autouse=True)
def _no_prefect(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever server the test session has."""
    for name in ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING", "PREFECT_HOME", "PREFECT_PROFILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """An empty one."""
    return Home.open(tmp_path / "home")


@pytest.fixture
def closed() -> str:
    """An address where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture
def answering(request: pytest.FixtureRequest) -> Iterator[str]:
    """An address that answers everything with one status."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(request.param)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def refusal() -> DependencyDown:
    """What the check says."""
    with pytest.raises(DependencyDown) as caught:
        refuse_silent_prefect()
    return caught.value


def test_a_prefect_that_is_down_is_named_without_its_password(monkeypatch, closed):
    """E_PREFECT at PREFECT_API_URL, with the address alone."""
    monkeypatch.setenv("PREFECT_API_URL", f"http://me:geheim@{closed}/api?key=geheim")
    error = refusal()
    assert (error.code, error.field, error.exit_code) == ("E_PREFECT", "PREFECT_API_URL", 7)
    assert f"http://{closed}/api does not answer" in error.reason
    assert "geheim" not in json.dumps(error.as_dict())


@pytest.mark.parametrize("url", ["nonsense", "ftp://127.0.0.1/api", "http://127.0.0.1:port/api", "http://[::1/geheim"])
def test_what_is_no_address_is_refused_as_well(monkeypatch, url):
    """Nobody can answer there."""
    monkeypatch.setenv("PREFECT_API_URL", url)
    assert refusal().code == "E_PREFECT"


@pytest.mark.parametrize("answering", [500, 503], indirect=True)
def test_a_prefect_that_only_fails_is_down(monkeypatch, answering):
    """A proxy in front of it may be all that lives."""
    monkeypatch.setenv("PREFECT_API_URL", f"http://{answering}/api")
    assert "status 50" in refusal().reason


@pytest.mark.parametrize("answering", [200, 401, 404], indirect=True)
def test_whoever_answers_is_there(monkeypatch, answering):
    """Prefect's cloud has another health page than a server."""
    monkeypatch.setenv("PREFECT_API_URL", f"http://{answering}/api")
    refuse_silent_prefect()


def test_without_one_nothing_is_asked():
    """As for most users."""
    refuse_silent_prefect()


def test_a_release_does_not_begin_without_the_users_prefect(tmp_path, closed):
    """Exit 7 and three lines; there is no record, no home and no `up`."""
    (tmp_path / "release.yaml").write_text(SPEC)
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "release", str(tmp_path / "release.yaml")],
        env={**os.environ, "SHIPWAY_HOME": str(tmp_path / "home"), "PREFECT_API_URL": f"http://{closed}/api"},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stderr.splitlines()
    assert (done.returncode, len(lines), done.stdout) == (7, 3, ""), done.stderr
    assert lines[0].startswith("E_PREFECT (PREFECT_API_URL): Prefect at ")
    assert not (tmp_path / "home").exists()


def test_the_homes_server_is_used_where_up_has_one(home):
    """The address and what it asks of its clients are set before Prefect is imported; the release has asked."""
    write_up_file(home, 1)
    say_in_up_file(home, prefect="http://127.0.0.1:2/api")
    assert use_homes_prefect(home) == ""
    assert (os.environ["PREFECT_API_URL"], os.environ["PREFECT_API_AUTH_STRING"]) == (
        "http://127.0.0.1:2/api",
        auth_string(home),
    )
    assert request_file(home).exists()


@pytest.mark.parametrize("name", ["PREFECT_API_URL", "PREFECT_PROFILE", "PREFECT_HOME"])
def test_the_users_own_wins(home, monkeypatch, name):
    """No server is asked for, and nothing is changed."""
    monkeypatch.setenv(name, "mine")
    before = dict(os.environ)
    assert use_homes_prefect(home) == ""
    assert (dict(os.environ), request_file(home).exists()) == (before, False)


def test_without_up_the_release_says_so(home):
    """It goes on with a server of its own."""
    assert use_homes_prefect(home) == "shipway up does not run"
    assert "PREFECT_API_URL" not in os.environ


def test_an_older_up_is_not_waited_for(home):
    """It never heard of such a server."""
    write_up_file(home, 1)
    facts = json.loads(up_file(home).read_text())
    up_file(home).write_text(json.dumps({name: facts[name] for name in facts if not name.startswith("prefect")}))
    assert use_homes_prefect(home) == "the running shipway up is an older one"


def test_a_server_that_cannot_start_is_not_waited_for(home):
    """What `up` says after the request is the answer; what it had said before is not."""
    write_up_file(home, 1)
    say_in_up_file(home, prefect_error="an old one")
    os.utime(up_file(home), (1.0, 1.0))

    def meanwhile() -> bool:
        say_in_up_file(home, prefect_error="exit code 1: no space")
        os.utime(up_file(home), (2.0**33, 2.0**33))
        return False

    assert use_homes_prefect(home, meanwhile) == "exit code 1: no space"


def test_a_person_who_stops_the_release_does_not_wait_for_prefect(home):
    """Ctrl-C while the server starts."""
    write_up_file(home, 1)
    assert use_homes_prefect(home, lambda: True) == "the release is to stop"


def test_the_word_for_the_server_is_private_and_stays(home):
    """Others on this machine reach the port, and must not read or change what is there."""
    request_file(home).parent.mkdir()
    said = auth_string(home)
    assert (auth_string(home), len(said) > 40) == (said, True)
    assert (home.root / "prefect" / "auth").stat().st_mode & 0o777 == 0o600
