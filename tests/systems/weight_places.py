"""Places on loopback where weights lie: a Hub with the two routes that are asked of one, an OCI registry, a bucket."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

import pytest

COMMIT = "a" * 40
REPOSITORY = "org/model"
LARGE = ".safetensors"
"""What the Hub keeps elsewhere, and sends its callers to."""


@dataclass
class Answer:
    """What is sent back."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Listening:
    """An HTTP server that answers as a function says, and remembers what it was asked: path and authorization.

    `breaks` says after how many bytes the next connections that ask for a file break; each counts once.
    """

    answer: Callable[[str, dict[str, str]], Answer]
    seen: list[tuple[str, str]] = field(default_factory=list)
    breaks: list[int] = field(default_factory=list)
    takes_ranges: bool = True

    def __post_init__(self) -> None:
        place = self

        class Handler(BaseHTTPRequestHandler):
            """One request."""

            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                """Answer, or a part of it."""
                headers = {key.lower(): value for key, value in self.headers.items()}
                place.seen.append((self.path, headers.get("authorization", "")))
                place.send(self, place.answer(self.path, headers), headers.get("range", ""))

            do_HEAD = do_GET  # noqa: N815  the name that http.server looks for

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.http.server_port}"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://{self.host}"

    def send(self, handler: BaseHTTPRequestHandler, answer: Answer, asked: str) -> None:
        """Write it; break off where that is due."""
        body, status, headers = answer.body, answer.status, dict(answer.headers)
        if asked and self.takes_ranges and status == 200:
            start = int(asked.removeprefix("bytes=").partition("-")[0])
            headers["content-range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
            body, status = body[start:], 206
        handler.send_response(status)
        for key, value in ({"content-length": str(len(body))} | headers).items():
            handler.send_header(key, value)
        handler.end_headers()
        if handler.command == "HEAD":
            return
        is_file = answer.headers.get("x-file") == "yes"
        sent = body[: self.breaks.pop(0)] if is_file and self.breaks else body
        handler.wfile.write(sent)
        handler.close_connection = len(sent) < len(body)

    def close(self) -> None:
        """End it."""
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


@dataclass
class Hub:
    """A Hub with one repository at one commit; large files lie at another address, which `store` is."""

    files: dict[str, bytes] = field(default_factory=dict)
    token: str = ""
    page: int = 3
    lies: dict[str, str] = field(default_factory=dict)
    """Other digests than those of the files, by name."""

    def __post_init__(self) -> None:
        self.store = Listening(self._stored)
        self.front = Listening(self._answered)

    def close(self) -> None:
        """End both."""
        self.front.close()
        self.store.close()

    def _stored(self, path: str, _: dict[str, str]) -> Answer:
        data = self.files[unquote(path).removeprefix("/stored/")]
        return Answer(body=data, headers={"x-file": "yes"})

    def _answered(self, path: str, headers: dict[str, str]) -> Answer:
        if self.token and headers.get("authorization") != f"Bearer {self.token}":
            return Answer(401)
        parts = urlsplit(path)
        if parts.path == f"/api/models/{REPOSITORY}/tree/{COMMIT}":
            return self._listed(int(parse_qs(parts.query).get("cursor", ["0"])[0]))
        name = unquote(parts.path).removeprefix(f"/{REPOSITORY}/resolve/{COMMIT}/")
        if name not in self.files:
            return Answer(404)
        said = {"etag": f'"{self.digest(name)}"', "x-repo-commit": COMMIT}
        if not name.endswith(LARGE):
            return Answer(body=self.files[name], headers=said | {"x-file": "yes"})
        there = {"location": f"{self.store.url}/stored/{quote(name)}", "x-linked-size": str(len(self.files[name]))}
        return Answer(302, headers=said | there | {"x-linked-etag": f'"{self.digest(name)}"'})

    def _listed(self, start: int) -> Answer:
        names = sorted(self.files)[start : start + self.page]
        folders = [{"type": "directory", "oid": "0" * 40, "size": 0, "path": "model"}] if start == 0 else []
        body = json.dumps([*folders, *map(self._entry, names)]).encode()
        more = start + self.page < len(self.files)
        link = f'<{self.front.url}/api/models/{REPOSITORY}/tree/{COMMIT}?cursor={start + self.page}>; rel="next"'
        return Answer(body=body, headers={"content-type": "application/json"} | ({"link": link} if more else {}))

    def _entry(self, name: str) -> dict[str, object]:
        size = len(self.files[name])
        entry: dict[str, object] = {"type": "file", "oid": "0" * 40, "size": size, "path": name}
        if name.endswith(LARGE):
            entry["lfs"] = {"oid": self.digest(name), "size": size, "pointerSize": 134}
        return entry

    def digest(self, name: str) -> str:
        """What is said to be a file's SHA-256."""
        return self.lies.get(name, hashlib.sha256(self.files[name]).hexdigest())


@dataclass
class OciRegistry:
    """A registry with one artifact, `models/tiny`, whose layers are files; it asks for a token, or for a password.

    Blobs lie at another address, as with the large registries.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    password: str = ""
    asks_basic: bool = False
    name: str = "models/tiny"
    realm: str = ""
    expires: bool = False
    """Whether each token is good for one answer."""

    def __post_init__(self) -> None:
        self._good: set[str] = set()
        self.store = Listening(lambda path, _: Answer(body=self._blobs()[path.removeprefix("/")]))
        self.front = Listening(self._answered)
        self.blobs: dict[str, bytes] = {}
        """Other bytes than those that the manifest names, by digest."""

    @property
    def manifest(self) -> bytes:
        """What describes the artifact; the last layer has no name, and is nobody's file."""
        layers = [
            {
                "mediaType": "application/octet-stream",
                "digest": _sha256(data),
                "size": len(data),
                "annotations": {"org.opencontainers.image.title": name},
            }
            for name, data in self.files.items()
        ]
        image = "application/vnd.oci.image.manifest.v1+json"
        layers.append({"mediaType": image, "digest": _sha256(b""), "size": 0})
        return json.dumps({"schemaVersion": 2, "mediaType": image, "layers": layers}).encode()

    @property
    def uri(self) -> str:
        """What a pointer says."""
        return f"oci://{self.front.host}/{self.name}@{_sha256(self.manifest)}"

    def close(self) -> None:
        """End both."""
        self.front.close()
        self.store.close()

    def _blobs(self) -> dict[str, bytes]:
        return {_sha256(data): data for data in self.files.values()} | self.blobs

    def _answered(self, path: str, headers: dict[str, str]) -> Answer:
        said = headers.get("authorization", "")
        basic = f"Basic {base64.b64encode(self.password.encode()).decode()}"
        if path.startswith("/token?"):
            return self._token() if said == (basic if self.password else "") else Answer(401)
        if said != basic and said.removeprefix("Bearer ") not in self._good:
            kind = "Basic" if self.asks_basic else "Bearer"
            realm = self.realm or f"{self.front.url}/token"
            return Answer(401, headers={"www-authenticate": f'{kind} realm="{realm}",service="here"'})
        if self.expires:
            self._good.clear()
        if path == f"/v2/{self.name}/manifests/{_sha256(self.manifest)}":
            return Answer(body=self.manifest)
        digest = path.removeprefix(f"/v2/{self.name}/blobs/")
        if digest not in self._blobs():
            return Answer(404)
        return Answer(307, headers={"location": f"{self.store.url}/{digest}"})

    def _token(self) -> Answer:
        token = f"t{len(self.front.seen)}"
        self._good.add(token)
        return Answer(body=json.dumps({"token": token}).encode())


def set_aws(monkeypatch: pytest.MonkeyPatch, endpoint: str, key: str = "") -> None:
    """What AWS's tools are told: this endpoint, and who asks, or nobody. No file of the user's is read."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    for name, value in {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": "s3cret"}.items():
        if key:
            monkeypatch.setenv(name, value)
        else:
            monkeypatch.delenv(name, raising=False)


@dataclass
class Bucket:
    """A bucket of S3, `models`, whose addresses must be signed by `key`; "" for a public one. It pages its listing."""

    files: dict[str, bytes] = field(default_factory=dict)
    key: str = ""
    page: int = 3
    listing: bytes = b""
    """What it answers instead of its listing."""

    def __post_init__(self) -> None:
        self.front = Listening(self._answered)

    def close(self) -> None:
        """End it."""
        self.front.close()

    def _answered(self, path: str, _: dict[str, str]) -> Answer:
        parts = urlsplit(path)
        asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
        signer = asked.get("X-Amz-Credential", "").partition("/")[0]
        if signer != self.key or (self.key and not asked.get("X-Amz-Signature")):
            return Answer(403)
        bucket, _, name = unquote(parts.path).removeprefix("/").partition("/")
        if bucket != "models" or (name and name not in self.files):
            return Answer(404)
        if name:
            return Answer(body=self.files[name], headers={"x-file": "yes"})
        return Answer(body=self.listing or self._listed(asked["prefix"], int(asked.get("continuation-token", 0))))

    def _listed(self, prefix: str, start: int) -> bytes:
        names = sorted(name for name in self.files if name.startswith(prefix))
        page = names[start : start + self.page]
        objects = "".join(f"<Contents><Key>{escape(n)}</Key><Size>{len(self.files[n])}</Size></Contents>" for n in page)
        more = start + self.page < len(names)
        goes_on = f"<NextContinuationToken>{start + self.page}</NextContinuationToken>" if more else ""
        said = f"<IsTruncated>{str(more).lower()}</IsTruncated>{goes_on}{objects}"
        space = "http://s3.amazonaws.com/doc/2006-03-01/"
        return f'<?xml version="1.0"?>\n<ListBucketResult xmlns="{space}">{said}</ListBucketResult>'.encode()


def _sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()
