"""Weights in an OCI registry: an artifact whose layers are files, as ORAS and ModelPack push them, by its digest.

The manifest must have the digest that the pointer names, and each blob the one that the manifest names. Images, whose
layers are archives, are not taken apart.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import httpx

from pipelines.adapters.weights.download import Download, open_client, parse_answer
from pipelines.adapters.weights.hub import is_loopback, split_address
from pipelines.adapters.weights.listing import place_of, taken, undeclared
from pipelines.errors import Forbidden, UnsafeArtifact
from pipelines.supply.checks.paths import FolderLimits
from pipelines.supply.pointer import WeightsPlace, parse_uri

MOST_MANIFEST_BYTES = 4 * 2**20
ACCEPT = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"
TITLES = ("org.opencontainers.image.title", "org.cncf.model.filepath")
"""By which annotations a layer says that it is a file, and how it is called."""

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')


class OciWeights:
    """Implements `ports.Weights` for `oci://`, from `registries`: hosts, each with `user:password` or nothing."""

    def __init__(self, registries: Mapping[str, str], pause_s: float = 0.5) -> None:
        self._registries = registries
        self._pause_s = pause_s

    def fetch(self, uri: str, into: Path, limits: FolderLimits) -> None:
        """Fetch the files of an artifact. E_POINTER where its host was not declared."""
        place = parse_uri(uri)
        if place.host not in self._registries:
            raise undeclared(place.host, "registry", "SHIPWAY_REGISTRIES")
        scheme = "http" if is_loopback(place.host.partition(":")[0]) else "https"
        api = f"{scheme}://{place.host}/v2/{place.name}"
        auth = PullAuth(place, self._registries[place.host], is_plain=scheme == "http")
        with open_client(auth=auth) as client:
            hint = f"SHIPWAY_REGISTRIES=USER:TOKEN@{place.host}, of one who may pull"
            download = Download(client, uri, hint, self._pause_s)
            layers = _layers(download, api, place)
            sizes = taken(((name, size) for name, (_, size) in layers.items()), into, limits, uri)
            for name, size in sizes.items():
                digest = layers[name][0]
                found = download.file(f"{api}/blobs/{digest}", place_of(name, into), size)
                _check(f"{name} of {uri}", found, digest)


class PullAuth(httpx.Auth):
    """Answers a registry's challenge: by a token for pulling this one artifact, or by name and password."""

    def __init__(self, place: WeightsPlace, credentials: str, *, is_plain: bool) -> None:
        self._place = place
        self._is_plain = is_plain
        self._basic = f"Basic {base64.b64encode(credentials.encode()).decode()}" if credentials else ""
        self._header = ""

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Ask as before; where that is not enough (tokens last minutes), answer the challenge and ask once more."""
        if self._header:
            request.headers["authorization"] = self._header
        challenged = yield request
        said = challenged.headers.get("www-authenticate", "")
        asked, answered = ((url.scheme, url.host, url.port) for url in (request.url, challenged.url))
        if challenged.status_code != httpx.codes.UNAUTHORIZED or not said or asked != answered:
            return  # the registry is told who asks, and not those to whom it sends for its blobs
        if said.lower().startswith("bearer "):
            answer = yield self._token_request(dict(_CHALLENGE.findall(said)))
            answer.read()
            token = _token(answer)
            self._header = f"Bearer {token}" if token else ""
        else:
            self._header = self._basic
        if self._header:
            request.headers["authorization"] = self._header
            yield request

    def _token_request(self, challenge: Mapping[str, str]) -> httpx.Request:
        """Where the registry sends for tokens; a password goes there over TLS, or stays on this machine."""
        realm = split_address(challenge.get("realm", ""))
        if realm.scheme != "https" and not (self._is_plain and is_loopback(realm.hostname or "")):
            raise Forbidden(f"{self._place.host} sends for tokens to an address without TLS", field="weights")
        scope = {"service": challenge.get("service", ""), "scope": f"repository:{self._place.name}:pull"}
        headers = {"authorization": self._basic} if self._basic else {}
        return httpx.Request("GET", realm.geturl(), params=scope, headers=headers)


def _token(answer: httpx.Response) -> str:
    try:
        value = answer.json() if answer.is_success else {}
    except ValueError:
        value = {}
    found = value.get("token") or value.get("access_token") if isinstance(value, dict) else None
    return found if isinstance(found, str) and found.isascii() and found.isprintable() else ""


def _layers(download: Download, api: str, place: WeightsPlace) -> dict[str, tuple[str, int]]:
    """The files of an artifact: each name with its digest and size."""
    body, _ = download.page(f"{api}/manifests/{place.pin}", MOST_MANIFEST_BYTES, {"accept": ACCEPT})
    _check(f"the manifest of {download.uri}", hashlib.sha256(body).hexdigest(), place.pin)
    layers = parse_answer(download, body, dict).get("layers")
    found = {}
    for layer in layers if isinstance(layers, list) else ():
        name = _title(layer)
        digest, size = (layer.get("digest"), layer.get("size")) if name else ("", 0)
        if not name:
            continue
        if not isinstance(digest, str) or not _DIGEST.fullmatch(digest) or not isinstance(size, int) or size < 0:
            raise download.refused(f"does not say which bytes {name[:80]} has")
        if name in found:
            raise download.refused(f"holds two files called {name[:80]}")
        found[name] = (digest, size)
    if not found:
        raise download.refused("holds no files by name: images, whose layers are archives, are not taken apart")
    return found


def _title(layer: Any) -> str:
    annotations = layer.get("annotations") if isinstance(layer, dict) else None
    titles = [annotations[key] for key in TITLES if key in annotations] if isinstance(annotations, dict) else []
    return titles[0] if titles and isinstance(titles[0], str) else ""


def _check(what: str, found: str, digest: str) -> None:
    if f"sha256:{found}" != digest:
        raise UnsafeArtifact(
            f"{what} has digest sha256:{found}, not {digest}",
            code="E_DIGEST",
            field="weights",
            expected="the bytes that are named",
        )
