"""How is one large file taken over HTTP? Bounded, hashed on its way, and gone on with where a connection broke."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import httpx

from pipelines.adapters.weights.listing import other_size
from pipelines.errors import BadInput, DependencyDown, Forbidden, NotFound

TRIES = 5
"""Without a byte in between; whoever sends something is asked again."""

TIMEOUT = httpx.Timeout(30.0, connect=10.0)
_LATER = frozenset({408, 425, 429})
_LONGEST_PAUSE_S = 8.0
_BROKEN = (httpx.RequestError, DependencyDown)
_PLAIN = {"accept-encoding": "identity"}
"""Else sizes and positions would be those of something else."""


@dataclass
class GrowingFile:
    """A file that comes in pieces, and the digest of what is there of it."""

    opened: BinaryIO
    done: int = 0
    sha256: hashlib._Hash = field(default_factory=hashlib.sha256)

    def add(self, chunk: bytes) -> None:
        """One more piece."""
        self.opened.write(chunk)
        self.sha256.update(chunk)
        self.done += len(chunk)

    def begin_again(self) -> None:
        """Nothing of it is there."""
        self.opened.seek(0)
        self.opened.truncate()
        self.done, self.sha256 = 0, hashlib.sha256()


@dataclass
class Download:
    """A connection to one place. `uri` is what errors name: addresses on the way may hold signatures."""

    client: httpx.Client
    uri: str
    hint: str = ""
    pause_s: float = field(default=0.5)

    def page(self, url: str, most_bytes: int, headers: Mapping[str, str] | None = None) -> tuple[bytes, httpx.Response]:
        """A small answer, whole."""
        failures = 0
        while True:
            try:
                return self._page(url, most_bytes, headers or {})
            except httpx.InvalidURL as error:
                raise self.refused("has an address that cannot be asked") from error
            except _BROKEN as error:
                failures += 1
                self._pause(failures, error)

    def file(self, url: str, file: Path, size: int) -> str:
        """Write what lies there, `size` bytes, and return its SHA-256."""
        failures = furthest = 0
        with file.open("xb") as opened:
            copy = GrowingFile(opened)
            while True:
                broke: Exception = httpx.ReadError("it ended early")
                try:
                    self._pour(url, copy, size)
                except _BROKEN as error:
                    broke = error
                else:
                    if copy.done == size:
                        return copy.sha256.hexdigest()
                failures = 0 if copy.done > furthest else failures + 1
                furthest = max(furthest, copy.done)
                self._pause(failures, broke)

    def _page(self, url: str, most_bytes: int, headers: Mapping[str, str]) -> tuple[bytes, httpx.Response]:
        with self.client.stream("GET", url, headers=_PLAIN | dict(headers)) as answer:
            self.check(answer)
            body = b""
            for chunk in answer.iter_raw():
                body += chunk
                if len(body) > most_bytes:
                    raise self.refused(f"answers with more than {most_bytes:,} bytes")
            return body, answer

    def _pour(self, url: str, copy: GrowingFile, size: int) -> None:
        """Go on with a file where it ends so far; who sends all of it again is listened to."""
        headers = _PLAIN | ({"range": f"bytes={copy.done}-"} if copy.done else {})
        with self.client.stream("GET", url, headers=headers) as answer:
            self.check(answer)
            if answer.status_code != httpx.codes.PARTIAL_CONTENT:
                copy.begin_again()
            elif not answer.headers.get("content-range", "").startswith(f"bytes {copy.done}-"):
                raise self.refused("goes on elsewhere than it was asked to")
            for chunk in answer.iter_raw():
                if copy.done + len(chunk) > size:
                    raise other_size(Path(copy.opened.name).name, size, self.uri)
                copy.add(chunk)

    def check(self, answer: httpx.Response) -> None:
        """Raises what a status says. DependencyDown is worth another try."""
        status = answer.status_code
        if answer.is_success:
            return
        if status in {401, 403}:
            raise Forbidden(
                f"{self.uri} is not there, or may not be read by whoever asks ({status})",
                field="weights",
                hint=self.hint,
            )
        if status in {404, 410}:
            raise NotFound(f"{self.uri} is not there", field="weights")
        if status in _LATER or status >= 500:
            raise self.down(f"status {status}")
        raise self.refused(f"answers with status {status}")

    def refused(self, what: str) -> BadInput:
        """The error for an answer that no further try would change."""
        return BadInput(f"{self.uri} {what}", code="E_POINTER", field="weights")

    def down(self, why: str) -> DependencyDown:
        """The error for a place that does not answer."""
        return DependencyDown(
            f"{self.uri} cannot be fetched: {why}",
            code="E_WEIGHTS",
            field="weights",
            hint="is its host reachable from here? then run the same command again",
        )

    def _pause(self, failures: int, error: Exception) -> None:
        """Wait a little longer each time. DependencyDown where there were enough."""
        if failures >= TRIES:
            raise error if isinstance(error, DependencyDown) else self.down(type(error).__name__) from error
        time.sleep(min(self.pause_s * 2**failures, _LONGEST_PAUSE_S))


def open_client(**settings: Any) -> httpx.Client:
    """A client that follows redirects: what it is told to say in secret stays at the first host.

    Addresses that it is sent to may be signed, which is as good as a password: they are not logged.
    """
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        return httpx.Client(timeout=TIMEOUT, follow_redirects=True, **settings)
    except (OSError, ValueError) as error:
        raise DependencyDown(
            f"nothing can be fetched from here: {type(error).__name__}",
            code="E_WEIGHTS",
            expected="a proxy and authorities that can be used",
            hint="look at HTTPS_PROXY and SSL_CERT_FILE",
        ) from error


def parse_answer(download: Download, body: bytes, kind: type) -> Any:
    """The JSON of an answer, of the kind that is expected."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, kind):
        raise download.refused("answers with something else than was asked for")
    return value
