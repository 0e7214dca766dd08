"""What is special to buckets: who signs, what is listed, and what AWS's settings make impossible."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import closing

import pytest

from pipelines.adapters.weights.s3 import S3Weights
from pipelines.errors import BadInput, DependencyDown, Forbidden, UnsafeArtifact
from pipelines.supply.checks.paths import LIMITS
from tests.systems.weight_places import Bucket, set_aws

URI = "s3://models/v1/"


@pytest.fixture
def bucket(monkeypatch) -> Iterator[Bucket]:
    """A public one that holds a small model."""
    with closing(Bucket({"v1/config.json": b"{}", "v1/model.safetensors": b"w" * 90_000})) as bucket:
        set_aws(monkeypatch, bucket.front.url)
        yield bucket


def fetched(into, *buckets):
    """The files that come."""
    S3Weights(buckets or ("models",), pause_s=0.001).fetch(URI, into, LIMITS)
    return {path.name: path.stat().st_size for path in into.iterdir()}


def test_a_public_bucket_is_asked_by_nobody(bucket, tmp_path):
    """Where nobody is known, addresses are not signed."""
    assert fetched(tmp_path) == {"config.json": 2, "model.safetensors": 90_000}
    assert not any("X-Amz" in path for path, _ in bucket.front.seen)


def test_who_asks_is_told_to_the_bucket_alone(bucket, tmp_path, monkeypatch, caplog):
    """As a signature: the secret itself is never sent, and neither it nor an address that it signed is logged."""
    bucket.key = "AKID"
    set_aws(monkeypatch, bucket.front.url, "AKID")
    with caplog.at_level(logging.INFO):
        fetched(tmp_path)
    assert all("X-Amz-Signature=" in path and "s3cret" not in path for path, _ in bucket.front.seen)
    assert "X-Amz" not in caplog.text
    assert "s3cret" not in caplog.text


def test_who_may_not_is_refused(bucket, tmp_path):
    """With what it needs."""
    bucket.key = "AKID"
    with pytest.raises(Forbidden) as caught:
        fetched(tmp_path)
    assert "AWS_REGION" in (caught.value.hint or "")


def test_a_bucket_that_nobody_declared_is_not_asked(bucket, tmp_path):
    """A pointer may come from anybody who registers models, and credentials are those of whoever runs this."""
    with pytest.raises(BadInput) as caught:
        fetched(tmp_path, "other")
    assert (caught.value.code, bucket.front.seen) == ("E_POINTER", [])


def test_a_file_that_breaks_is_gone_on_with(bucket, tmp_path):
    """Where it broke, by an address that is signed for hours."""
    bucket.front.breaks = [2, 10_000, 40_000]
    assert fetched(tmp_path)["model.safetensors"] == 90_000


@pytest.mark.parametrize(
    "listing",
    [
        b"{}",
        b"<other/>",
        b"<ListBucketResult>",
        b'<!DOCTYPE x [<!ENTITY a "b">]><ListBucketResult>&a;</ListBucketResult>',
        b"<ListBucketResult><Contents><Key>v2/config.json</Key><Size>2</Size></Contents></ListBucketResult>",
        b"<ListBucketResult><Contents><Key>v1/config.json</Key><Size>-2</Size></Contents></ListBucketResult>",
        b"<ListBucketResult><Contents><Key>v1/config.json</Key></Contents></ListBucketResult>",
    ],
)
def test_a_listing_that_is_none_is_refused(bucket, tmp_path, listing):
    """And no entity is expanded."""
    bucket.listing = listing
    with pytest.raises(BadInput) as caught:
        fetched(tmp_path)
    assert caught.value.code == "E_POINTER"


def test_a_listing_that_never_ends_is_left(bucket, tmp_path, monkeypatch):
    """It says each time that there is more."""
    one = b"<Contents><Key>v1/a.bin</Key><Size>1</Size></Contents>" * 50
    more = b"<IsTruncated>true</IsTruncated><NextContinuationToken>1</NextContinuationToken>"
    bucket.listing = b"<ListBucketResult>" + more + one + b"</ListBucketResult>"
    monkeypatch.setattr("pipelines.adapters.weights.s3.MOST_LISTED", 120)
    with pytest.raises(UnsafeArtifact) as caught:
        fetched(tmp_path)
    assert caught.value.code == "E_LIMIT"


def test_an_object_that_changed_meanwhile_is_refused(bucket, tmp_path):
    """It has another size than was listed."""
    bucket.listing = (
        b"<ListBucketResult><Contents><Key>v1/config.json</Key><Size>1</Size></Contents></ListBucketResult>"
    )
    with pytest.raises(UnsafeArtifact) as caught:
        fetched(tmp_path)
    assert caught.value.code == "E_DIGEST"


def test_settings_of_aws_that_cannot_be_are_named(bucket, tmp_path, monkeypatch):
    """Without what stands in them."""
    monkeypatch.setenv("AWS_PROFILE", "nobody-has-this-one")
    with pytest.raises(DependencyDown) as caught:
        fetched(tmp_path)
    assert (caught.value.code, bucket.front.seen) == ("E_WEIGHTS", [])


def test_without_its_package_a_way_around_is_named(tmp_path, monkeypatch):
    """It is an extra."""
    monkeypatch.setitem(sys.modules, "botocore", None)
    with pytest.raises(BadInput) as caught:
        fetched(tmp_path)
    assert "shipway[s3]" in (caught.value.hint or "")
