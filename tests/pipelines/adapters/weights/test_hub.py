"""What is asked of a Hub, what is told to it, and what becomes of a connection that breaks?"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pipelines.adapters.weights import hub as adapter
from pipelines.adapters.weights.hub import HubWeights
from pipelines.errors import BadInput, DependencyDown, Forbidden, ShipwayError, UnsafeArtifact
from pipelines.supply.checks.paths import LIMITS
from tests.systems.weight_places import COMMIT, REPOSITORY, Hub

URI = f"hf://{REPOSITORY}@{COMMIT}"
WEIGHTS = b"0123456789" * 50_000


@pytest.fixture
def hub() -> Iterator[Hub]:
    """One large file, one small."""
    with closing(Hub({"model.safetensors": WEIGHTS, "config.json": b"{}", "a.bin": b"\x80"})) as hub:
        yield hub


@pytest.fixture
def into(tmp_path: Path) -> Path:
    """An empty folder."""
    (tmp_path / "into").mkdir()
    return tmp_path / "into"


def fetch(hub: Hub, into: Path, token: str = "") -> None:
    """Everything that is taken."""
    HubWeights(hub.front.url, token, pause_s=0.001).fetch(URI, into, LIMITS)


def refused(hub: Hub, into: Path, token: str = "") -> ShipwayError:
    """The error."""
    with pytest.raises(ShipwayError) as caught:
        fetch(hub, into, token)
    return caught.value


def test_a_token_is_told_to_the_hub_alone(hub, into):
    """Not to where it keeps its large files; and what is not taken is not asked for."""
    hub.token = "secret"
    fetch(hub, into, "secret")
    assert {said for _, said in hub.front.seen} == {"Bearer secret"}
    assert hub.store.seen == [("/stored/model.safetensors", "")]
    assert not [path for path, _ in hub.front.seen if "a.bin" in path]


@pytest.mark.parametrize(("token", "hint"), [("", "set HF_TOKEN"), ("wrong", "may the token")])
def test_who_may_not_read_is_told_so(hub, into, token, hint):
    """Without the token in the sentence."""
    hub.token = "secret"
    error = refused(hub, into, token)
    assert isinstance(error, Forbidden)
    assert hint in str(error.hint)
    assert "wrong" not in str(error.lines())
    assert list(into.iterdir()) == []


@pytest.mark.parametrize("takes_ranges", [True, False])
def test_a_connection_that_breaks_is_gone_on_with(hub, into, takes_ranges):
    """Where it broke, or from the beginning where the other side knows no ranges."""
    hub.store.breaks, hub.store.takes_ranges = [200_000, 150_000], takes_ranges
    fetch(hub, into)
    assert (into / "model.safetensors").read_bytes() == WEIGHTS
    assert len(hub.store.seen) == 3


def test_a_connection_that_breaks_again_and_again_is_given_up(hub, into):
    """Once nothing more comes."""
    hub.store.breaks = [100_000, *([0] * 20)]
    error = refused(hub, into)
    assert isinstance(error, DependencyDown)
    assert (error.code, error.exit_code) == ("E_WEIGHTS", 7)
    assert len(hub.store.breaks) == 15


def test_a_file_that_is_not_as_listed_is_refused(hub, into):
    """The Hub says a digest of each large file."""
    hub.lies["model.safetensors"] = "0" * 64
    error = refused(hub, into)
    assert isinstance(error, UnsafeArtifact)
    assert error.code == "E_DIGEST"
    assert hashlib.sha256(WEIGHTS).hexdigest() in error.reason


@pytest.mark.parametrize("by", [-1, 1])
def test_a_file_that_is_larger_or_smaller_than_listed_is_refused(hub, into, monkeypatch, by):
    """A sender cannot fill the disk."""
    entry = hub._entry
    monkeypatch.setattr(hub, "_entry", lambda name: entry(name) | {"size": len(hub.files[name]) - by})
    error = refused(hub, into)
    assert error.code == ("E_DIGEST" if by > 0 else "E_WEIGHTS")


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[", b'[{"type": "file", "path": "config.json"}]', b"[" * 100_000, b"[" + b" " * 2**24 + b"]"]
)
def test_an_answer_that_is_none_is_refused(hub, into, monkeypatch, body):
    """In a sentence."""
    listed = hub._listed
    monkeypatch.setattr(hub, "_listed", lambda start: _with(listed(start), body))
    error = refused(hub, into)
    assert (type(error), error.code) == (BadInput, "E_POINTER")


def _with(answer: object, body: bytes) -> object:
    answer.body = body
    return answer


@pytest.mark.parametrize("link", ["http://192.0.2.1/next", "//192.0.2.1/next", "http://[", "https:/api"])
def test_a_listing_goes_on_at_the_same_host_only(hub, into, monkeypatch, link):
    """The token would be told to another one."""
    listed = hub._listed

    def elsewhere(start: int) -> object:
        answer = listed(start)
        answer.headers["link"] = f'<{link}>; rel="next"'
        return answer

    monkeypatch.setattr(hub, "_listed", elsewhere)
    assert refused(hub, into).code in {"E_POINTER", "E_WEIGHTS"}


def test_an_endless_listing_ends(hub, into, monkeypatch):
    """A repository may be larger than anybody's memory."""
    monkeypatch.setattr(adapter, "MOST_LISTED", 100)
    monkeypatch.setattr(hub, "_entry", lambda name: {"type": "directory", "path": name})
    hub.files |= {f"{n}.bin": b"" for n in range(300)}
    assert refused(hub, into).code == "E_LIMIT"
    assert len(hub.front.seen) < 40


@pytest.mark.parametrize(
    ("endpoint", "token"),
    [("ftp://hub", ""), ("hub", ""), ("http://[", ""), ("https://user:pass@hub", ""), ("http://192.0.2.1", "secret")],
)
def test_an_endpoint_that_is_none_is_refused(into, endpoint, token):
    """And a token is not sent in the clear; nobody is asked."""
    with pytest.raises(BadInput) as caught:
        HubWeights(endpoint, token).fetch(URI, into, LIMITS)
    assert caught.value.field == "HF_ENDPOINT"
    assert "secret" not in str(caught.value.lines())
    assert "pass" not in str(caught.value.lines())


@pytest.mark.parametrize("endpoint", ["http://ho st", "http://127.0.0.1:1"])
def test_nobody_answers(into, endpoint):
    """It is tried again, and told."""
    with pytest.raises(ShipwayError) as caught:
        HubWeights(endpoint, pause_s=0.001).fetch(URI, into, LIMITS)
    assert caught.value.code in {"E_POINTER", "E_WEIGHTS"}


@pytest.mark.integration
def test_the_hubs_own_client_takes_the_same_files(hub, into, tmp_path):
    """From the same server: what is asked of it here is what a Hub answers."""
    fetch(hub, into)
    program = (
        "import sys; from huggingface_hub import snapshot_download as s;"
        "s(sys.argv[1], revision=sys.argv[2], local_dir=sys.argv[3], allow_patterns=['*.json', '*.safetensors'])"
    )
    own = {"HF_ENDPOINT": hub.front.url, "HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    quiet = {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HOME": str(tmp_path / "hf")}
    command = [sys.executable, "-c", program, REPOSITORY, COMMIT, str(tmp_path / "theirs")]
    done = subprocess.run(command, env=os.environ | own | quiet, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    theirs = {path.name: path.read_bytes() for path in (tmp_path / "theirs").iterdir() if path.is_file()}
    assert theirs == {path.name: path.read_bytes() for path in into.iterdir()}
