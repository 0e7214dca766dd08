"""Weights in a repository of the Hugging Face Hub, or of a mirror that speaks its two routes, at one commit.

Asked over HTTP, not by `huggingface_hub`: that one bounds neither count nor size, reads `HF_HUB_OFFLINE` once for the
whole process (where it keeps transformers from asking the Hub), and leaves a cache of everything behind.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, quote, urljoin, urlsplit

import httpx

from pipelines.adapters.weights.download import Download, open_client, parse_answer
from pipelines.adapters.weights.listing import place_of, taken
from pipelines.errors import BadInput, UnsafeArtifact
from pipelines.supply.checks.paths import FolderLimits, at_most
from pipelines.supply.pointer import WeightsPlace, is_taken, parse_uri

HUB = "https://huggingface.co"
MOST_LISTED = 20_000
MOST_PAGE_BYTES = 16 * 2**20


class HubWeights:
    """Implements `ports.Weights` for `hf://`. The token is told to the endpoint alone, not to where it redirects."""

    def __init__(self, endpoint: str = HUB, token: str = "", pause_s: float = 0.5) -> None:
        self._endpoint = endpoint.rstrip("/")
        self._token = token
        self._pause_s = pause_s

    def fetch(self, uri: str, into: Path, limits: FolderLimits) -> None:
        """Fetch a repository's files at a commit; of large files the Hub's own digests are checked, too."""
        place = parse_uri(uri)
        self._check_endpoint()
        headers = {"authorization": f"Bearer {self._token}"} if self._token else {}
        with open_client(headers=headers) as client:
            hint = "set HF_TOKEN to one that may read it" if not self._token else "may the token of HF_TOKEN read it?"
            download = Download(client, uri, hint, self._pause_s)
            listed = {name: entry for name, entry in self._listed(download, place) if is_taken(name)}
            sizes = taken(((name, _size(download, entry)) for name, entry in listed.items()), into, limits, uri)
            for name, size in sizes.items():
                url = f"{self._endpoint}/{place.name}/resolve/{place.pin}/{quote(name)}"
                found = download.file(url, place_of(name, into), size)
                _check_digest(name, listed[name], found, uri)

    def _listed(self, download: Download, place: WeightsPlace) -> Iterator[tuple[str, dict[str, Any]]]:
        """Every file of the repository, page by page, with what the Hub says of it."""
        url: str | None = f"{self._endpoint}/api/models/{place.name}/tree/{place.pin}?recursive=true"
        listed = 0
        while url:
            body, answer = download.page(url, MOST_PAGE_BYTES)
            entries = parse_answer(download, body, list)
            listed += len(entries)
            at_most(listed, MOST_LISTED, "entries", download.uri)
            for entry in entries:
                if isinstance(entry, dict) and entry.get("type") == "file" and isinstance(entry.get("path"), str):
                    yield entry["path"], entry
            url = self._next(download, answer)

    def _next(self, download: Download, answer: httpx.Response) -> str | None:
        """The next page: of the same host, because the token is told to it."""
        link = answer.links.get("next", {}).get("url")
        if not link:
            return None
        with suppress(ValueError):  # it is no address
            url = urljoin(str(answer.url), link)
            if split_address(url)[:2] == split_address(self._endpoint)[:2]:
                return url
        raise download.refused("goes on at another host")

    def _check_endpoint(self) -> None:
        """A token goes over TLS, or stays on this machine."""
        parts = split_address(self._endpoint)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username is not None:
            raise BadInput("HF_ENDPOINT is no address", code="E_POINTER", field="HF_ENDPOINT", expected="https://HOST")
        if parts.scheme == "http" and self._token and not is_loopback(parts.hostname):
            raise BadInput(
                "HF_ENDPOINT is reached without TLS, and would be told HF_TOKEN",
                code="E_POINTER",
                field="HF_ENDPOINT",
                expected="https://HOST",
                hint="unset HF_TOKEN where the mirror needs none",
            )


def split_address(url: str) -> SplitResult:
    """The parts of an address; empty ones where it is none."""
    with suppress(ValueError):
        return urlsplit(url)
    return SplitResult("", "", "", "", "")


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _size(download: Download, entry: dict[str, Any]) -> int:
    large = entry.get("lfs")
    size = large.get("size") if isinstance(large, dict) else entry.get("size")
    if not isinstance(size, int) or size < 0:
        raise download.refused("does not say how large its files are")
    return size


def _check_digest(name: str, entry: dict[str, Any], found: str, uri: str) -> None:
    large = entry.get("lfs")
    said = large.get("oid") if isinstance(large, dict) else found
    if said != found:
        raise UnsafeArtifact(
            f"{name} of {uri} has digest sha256:{found}, not sha256:{str(said)[:64]}",
            code="E_DIGEST",
            field=name,
            expected="the bytes that the Hub lists",
        )
