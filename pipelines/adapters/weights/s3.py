"""Weights in a bucket of S3, or of a store that speaks its protocol, below one prefix.

botocore finds endpoint, region and credentials as every tool of AWS does, and signs addresses; what is fetched from
them is bounded, and gone on with, as from every other place. Nothing pins a prefix: the digest of the pointer does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from pipelines.adapters.weights.download import Download, open_client
from pipelines.adapters.weights.listing import place_of, taken, undeclared
from pipelines.errors import BadInput, DependencyDown
from pipelines.supply.checks.paths import FolderLimits, at_most
from pipelines.supply.pointer import WeightsPlace, parse_uri

MOST_LISTED = 20_000
MOST_PAGE_BYTES = 16 * 2**20
SIGNED_FOR_S = 6 * 3600
"""How long an address may be used: a large file breaks off and is gone on with."""

HINT = "the credentials that AWS's tools find, of one who may list and read; AWS_REGION where the bucket is elsewhere"


class S3Weights:
    """Implements `ports.Weights` for `s3://`, from declared `buckets`."""

    def __init__(self, buckets: Collection[str], pause_s: float = 0.5) -> None:
        self._buckets = frozenset(buckets)
        self._pause_s = pause_s

    def fetch(self, uri: str, into: Path, limits: FolderLimits) -> None:
        """Fetch the files below a prefix. E_POINTER where its bucket was not declared."""
        place = parse_uri(uri)
        if place.host not in self._buckets:
            raise undeclared(place.host, "bucket", "SHIPWAY_BUCKETS")
        signer = Signer(place.host)
        with open_client() as client:
            download = Download(client, uri, HINT, self._pause_s)
            sizes = taken(_listed(download, signer, place), into, limits, uri)
            for name, size in sizes.items():
                url = signer.sign("get_object", {"Key": _folder(place) + name})
                download.file(url, place_of(name, into), size)


class Signer:
    """Addresses in one bucket, signed by whoever runs this; unsigned where nobody is known, as for public ones."""

    def __init__(self, bucket: str) -> None:
        try:
            from botocore import UNSIGNED
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError
            from botocore.session import Session
        except ImportError:
            raise BadInput(
                "s3:// needs a package that is not here",
                code="E_POINTER",
                field="weights",
                hint="pip install 'shipway[s3]', or mount the bucket and point at file:///FOLDER",
            ) from None
        self._bucket, self._failed = bucket, BotoCoreError
        session = Session()
        try:
            is_known = session.get_credentials() is not None
            config = Config(signature_version="s3v4" if is_known else UNSIGNED)
            self._client = session.create_client("s3", config=config)
        except (BotoCoreError, ValueError) as error:
            raise _unusable(error) from error

    def sign(self, operation: str, parameters: Mapping[str, Any]) -> str:
        """An address that answers to GET. DependencyDown where credentials cannot be had."""
        told = {"Bucket": self._bucket, **parameters}
        try:
            return str(self._client.generate_presigned_url(operation, Params=told, ExpiresIn=SIGNED_FOR_S))
        except self._failed as error:
            raise _unusable(error) from error


def _listed(download: Download, signer: Signer, place: WeightsPlace) -> Iterator[tuple[str, int]]:
    """Every object below the prefix, by its name there, page by page, with its size."""
    prefix, listed, asked = _folder(place), 0, {"Prefix": _folder(place)}
    while True:
        body, _ = download.page(signer.sign("list_objects_v2", asked), MOST_PAGE_BYTES)
        page = _parse(download, body)
        objects = page.findall("{*}Contents")
        listed += len(objects)
        at_most(listed, MOST_LISTED, "objects", download.uri)
        for one in objects:
            key, size = one.findtext("{*}Key") or "", one.findtext("{*}Size") or ""
            if not key.startswith(prefix) or not size.isdecimal():
                raise download.refused("lists what was not asked for")
            if not key.endswith("/"):  # an empty object that stands for a folder
                yield key.removeprefix(prefix), int(size)
        token = page.findtext("{*}NextContinuationToken")
        if page.findtext("{*}IsTruncated") != "true" or not token or not objects:
            return
        asked = {"Prefix": prefix, "ContinuationToken": token}


def _parse(download: Download, body: bytes) -> ET.Element:
    """The XML of a listing; S3 writes none with declarations, in which entities could multiply."""
    try:
        root = None if b"<!" in body else ET.fromstring(body)  # noqa: S314  without declarations
    except ET.ParseError:
        root = None
    if root is None or root.tag.rpartition("}")[2] != "ListBucketResult":
        raise download.refused("answers with something else than a listing")
    return root


def _folder(place: WeightsPlace) -> str:
    return place.name.rstrip("/") + "/"


def _unusable(error: Exception) -> DependencyDown:
    """Of AWS's settings; what botocore says names no secret, and may be long."""
    return DependencyDown(
        f"S3 cannot be asked from here: {type(error).__name__}", code="E_WEIGHTS", field="weights", hint=HINT
    )
