"""Whom is an OCI registry told who asks, and are its bytes those that are named?"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pipelines.adapters.weights.oci import OciWeights
from pipelines.errors import BadInput, Forbidden, ShipwayError, UnsafeArtifact
from pipelines.supply.checks.paths import LIMITS
from tests.systems.weight_places import Listening, OciRegistry

FILES = {"config.json": b"{}", "model.safetensors": b"weights" * 1000, "vocab.txt": b"a\n"}
PASSWORD = "ada:secret"


@pytest.fixture
def registry() -> Iterator[OciRegistry]:
    """Three files."""
    with closing(OciRegistry(dict(FILES))) as registry:
        yield registry


@pytest.fixture
def into(tmp_path: Path) -> Path:
    """An empty folder."""
    (tmp_path / "into").mkdir()
    return tmp_path / "into"


def fetch(registry: OciRegistry, into: Path, password: str = "", uri: str = "") -> None:
    """Everything."""
    OciWeights({registry.front.host: password}, pause_s=0.001).fetch(uri or registry.uri, into, LIMITS)


def refused(registry: OciRegistry, into: Path, password: str = "", uri: str = "") -> ShipwayError:
    """The error, which holds no password."""
    with pytest.raises(ShipwayError) as caught:
        fetch(registry, into, password, uri)
    assert "secret" not in str(caught.value.lines())
    return caught.value


def is_whole(into: Path) -> bool:
    """Whether all is there."""
    return {path.name: path.read_bytes() for path in into.iterdir()} == FILES


@pytest.mark.parametrize("asks_basic", [False, True])
def test_a_password_is_told_to_the_registry_alone(registry, into, asks_basic):
    """For a token, or at every request; not to where it keeps its blobs."""
    registry.password, registry.asks_basic = PASSWORD, asks_basic
    fetch(registry, into, PASSWORD)
    assert is_whole(into)
    assert {said for _, said in registry.store.seen} == {""}
    basic = f"Basic {base64.b64encode(PASSWORD.encode()).decode()}"
    told = [path for path, said in registry.front.seen if said == basic]
    assert all(path.startswith("/v2/" if asks_basic else "/token?") for path in told)
    assert told


def test_a_token_that_runs_out_is_replaced(registry, into):
    """They last for minutes, and large files for longer."""
    registry.expires = True
    fetch(registry, into)
    assert is_whole(into)
    assert len([path for path, _ in registry.front.seen if path.startswith("/token?")]) == 4


def test_who_may_not_pull_is_told_so(registry, into):
    """Once, and without an endless exchange."""
    registry.password = PASSWORD
    error = refused(registry, into, "ada:secret2")
    assert isinstance(error, Forbidden)
    assert len(registry.front.seen) <= 3


@pytest.mark.parametrize("realm", ["http://192.0.2.1/token", "//x", "http://[", "file:///etc/passwd", ""])
def test_a_password_leaves_this_machine_over_tls_only(registry, into, realm):
    """Wherever the registry sends for tokens."""
    registry.password, registry.realm = PASSWORD, realm or "x"
    assert isinstance(refused(registry, into, PASSWORD), Forbidden)


def test_who_keeps_the_blobs_is_not_answered(registry, into):
    """A challenge of another host than the registry's gets nothing."""
    registry.password = PASSWORD
    thief = Listening(lambda *_: registry_challenge(thief))
    with closing(thief):
        store, registry.store = registry.store, thief
        try:
            assert isinstance(refused(registry, into, PASSWORD), Forbidden)
        finally:
            registry.store = store
        assert {said for _, said in thief.seen} == {""}


def registry_challenge(thief: Listening) -> object:
    """Asks for a password."""
    from tests.systems.weight_places import Answer

    return Answer(401, headers={"www-authenticate": f'Bearer realm="{thief.url}/token",service="x"'})


def test_a_host_that_was_not_declared_is_not_asked(registry, into):
    """A pointer may come from whoever registers models."""
    with pytest.raises(BadInput, match="no registry that weights are taken from") as caught:
        OciWeights({"other": ""}).fetch(registry.uri, into, LIMITS)
    assert caught.value.code == "E_POINTER"
    assert registry.front.seen == []


def test_a_blob_with_other_bytes_is_refused(registry, into):
    """The manifest names its digest."""
    digest = f"sha256:{hashlib.sha256(FILES['model.safetensors']).hexdigest()}"
    registry.blobs[digest] = b"WEIGHTS" * 1000
    error = refused(registry, into)
    assert isinstance(error, UnsafeArtifact)
    assert (error.code, digest in error.reason) == ("E_DIGEST", True)


def test_a_manifest_with_other_bytes_is_refused(registry, into, monkeypatch):
    """The pointer names its digest."""
    uri, manifest = registry.uri, registry.manifest
    answered = registry.front.answer

    def altered(path: str, headers: dict[str, str]) -> object:
        answer = answered(path, headers)
        answer.body = answer.body.replace(b"config", b"konfig") if answer.body == manifest else answer.body
        return answer

    registry.front.answer = altered
    assert refused(registry, into, uri=uri).code == "E_DIGEST"
    assert list(into.iterdir()) == []


@pytest.mark.parametrize(
    "manifest",
    [b"", b"[]", b"{}", b'{"layers": [{"digest": "sha256:x", "size": 1}]}']
    + [
        b'{"layers": [{"annotations": {"org.opencontainers.image.title": "config.json"}, %s}]}' % more
        for more in (b'"size": 1', b'"digest": "sha256:../x", "size": 1', b'"digest": "sha256:' + b"0" * 64 + b'"')
    ],
)
def test_a_manifest_without_files_is_refused(registry, into, monkeypatch, manifest):
    """An image, for instance, or one that names no bytes."""
    monkeypatch.setattr(OciRegistry, "manifest", manifest)
    error = refused(registry, into)
    assert (type(error), error.code) == (BadInput, "E_POINTER")


def test_two_files_of_one_name_are_refused(registry, into, monkeypatch):
    """Which of them counts is anybody's guess."""
    twice = registry.manifest.replace(b"vocab.txt", b"config.json")
    monkeypatch.setattr(OciRegistry, "manifest", twice)
    assert refused(registry, into).code == "E_POINTER"


@pytest.mark.parametrize("host", ["ho_st", "127.0.0.1:99999"])
def test_an_odd_host_is_told(into, host):
    """Also where it was declared."""
    with pytest.raises(BadInput) as caught:
        OciWeights({host: ""}).fetch(f"oci://{host}/m@sha256:{'0' * 64}", into, LIMITS)
    assert caught.value.code == "E_POINTER"
