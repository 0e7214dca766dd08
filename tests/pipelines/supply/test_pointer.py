"""What does a version say that points elsewhere, and which pointers are refused?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.errors import BadInput, UnsafeArtifact
from pipelines.supply.pointer import MOST_BYTES, POINTER, Pointer, WeightsPlace, is_taken, parse_uri, read_pointer

DIGEST = "sha256:" + "0" * 64
COMMIT = "0123456789abcdef" * 2 + "01234567"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty version."""
    return tmp_path


def says(folder: Path, raw: object) -> None:
    """The file says this."""
    (folder / POINTER).write_bytes(raw if isinstance(raw, bytes) else json.dumps(raw).encode())


def refused(folder: Path) -> BadInput:
    """The error."""
    with pytest.raises(BadInput) as caught:
        read_pointer(folder)
    assert caught.value.exit_code == 2
    return caught.value


def test_what_is_written_is_read(folder):
    """The same pointer."""
    pointer = Pointer("file:///mnt/models/x", DIGEST)
    assert read_pointer(pointer.write(folder / "version")) == pointer


def test_a_version_with_files_points_nowhere(folder):
    """As most do; an empty one does neither."""
    assert read_pointer(folder) is None
    (folder / "model.safetensors").write_bytes(b"x")
    assert read_pointer(folder) is None


@pytest.mark.parametrize("raw", [b'{"layer": 1}', b"[]", b"no JSON", b" " * (MOST_BYTES + 1), b'"weights"'])
def test_a_file_of_the_models_own_is_no_pointer(folder, raw):
    """Where other files lie beside it, and it does not say that they lie elsewhere."""
    says(folder, raw)
    (folder / "model.safetensors").write_bytes(b"x")
    assert read_pointer(folder) is None


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "model/config.json", "README.md"])
def test_a_pointer_stands_alone(folder, name):
    """Else nobody knows which files are meant."""
    says(folder, {"weights": "file:///x", "digest": DIGEST})
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"x")
    error = refused(folder)
    assert (error.code, error.field) == ("E_POINTER", name)


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        (b"", "weights"),
        (b"{", "weights"),
        (b"[]", "weights"),
        (b'{"weights": "file:///x"}', "weights"),
        ({"weights": "file:///x", "digest": DIGEST, "more": 1}, "weights"),
        (f'{{"weights": "file:///x", "weights": "file:///y", "digest": "{DIGEST}"}}'.encode(), "weights"),
        ({"weights": "file:///x", "digest": DIGEST, " " * MOST_BYTES: 1}, "weights"),
        ({"weights": ["file:///x"], "digest": DIGEST}, "weights"),
        ({"weights": "file:///x", "digest": "0" * 64}, "digest"),
        ({"weights": "file:///x", "digest": DIGEST + "\n"}, "digest"),
        ({"weights": "file:///x", "digest": DIGEST.upper()}, "digest"),
        ({"weights": "file:///x", "digest": None}, "digest"),
    ],
)
def test_a_pointer_that_is_unclear_is_refused(folder, raw, field):
    """Before anybody is asked for anything."""
    says(folder, raw)
    error = refused(folder)
    assert (error.code, error.field) == ("E_POINTER", field)


def test_a_pointer_is_a_plain_file(folder):
    """A link could lead anywhere."""
    (folder / POINTER).symlink_to("/etc/hostname")
    assert isinstance(refused(folder), UnsafeArtifact)


@pytest.mark.parametrize(
    ("uri", "place"),
    [
        ("file:///mnt/models/x", WeightsPlace("file", "/mnt/models/x")),
        ("file://localhost/a%20b/%C3%A9", WeightsPlace("file", "/a b/é")),
        (f"hf://org/model-1.5_b@{COMMIT}", WeightsPlace("hf", "org/model-1.5_b", pin=COMMIT)),
        ("s3://bucket/a/prefix", WeightsPlace("s3", "a/prefix", "bucket")),
        (f"oci://ghcr.io/org/model@{DIGEST}", WeightsPlace("oci", "org/model", "ghcr.io", DIGEST)),
        (f"oci://localhost:5000/m__x/y-z@{DIGEST}", WeightsPlace("oci", "m__x/y-z", "localhost:5000", DIGEST)),
    ],
)
def test_a_place_is_read(uri, place):
    """Its parts."""
    assert parse_uri(uri) == place


@pytest.mark.parametrize(
    "uri",
    [
        "hf://org/model",
        "hf://org/model@main",
        "hf://org/model@v1.0",
        f"hf://org/model@{COMMIT[:7]}",
        f"hf://org/model@{COMMIT}1",
        "oci://ghcr.io/org/model:latest",
        "oci://ghcr.io/org/model",
        f"oci://ghcr.io/org/model:latest@{DIGEST[:-1]}",
    ],
)
def test_what_may_name_other_files_tomorrow_is_refused(uri):
    """By name, and with the form that is right."""
    with pytest.raises(BadInput, match="may name other files tomorrow") as caught:
        parse_uri(uri)
    assert (caught.value.code, caught.value.exit_code) == ("E_POINTER", 2)
    assert caught.value.expected.startswith(uri[:3])


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "/mnt/models",
        "file://",
        "file://host/mnt",
        "file:///mnt?x=1",
        "file:///mnt#x",
        "file:///mnt/%00",
        "file:///mnt/%ff",
        "file:///mnt/%0a",
        "file:///mnt/é",
        "file:///a b",
        "FILE:///mnt",
        "http://169.254.169.254/latest",
        "https://huggingface.co/org/model",
        "gs://bucket/x",
        f"hf://org/../model@{COMMIT}",
        f"hf://org/..@{COMMIT}",
        f"hf://org@{COMMIT}",
        f"hf://org/model/deeper@{COMMIT}",
        f"hf://org/model@{COMMIT}\n",
        f"hf://user:pass@org/model@{COMMIT}",
        f"oci://user:pass@ghcr.io/m@{DIGEST}",
        f"oci://ghcr.io/../m@{DIGEST}",
        f"oci://ghcr.io//m@{DIGEST}",
        f"oci://ghcr.io:99999/m@{DIGEST}",
        f"oci://ghcr.io/M@{DIGEST}",
        f"oci://[::1]/m@{DIGEST}",
        "s3://bucket/../x",
        "s3://bucket",
        "file:///" + "x" * 1000,
        None,
        7,
    ],
)
def test_what_is_no_place_is_refused(uri):
    """Whatever it is."""
    with pytest.raises(BadInput) as caught:
        parse_uri(uri)
    assert (caught.value.code, caught.value.exit_code) == ("E_POINTER", 2)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("text", ["a._" * 300, "a-" * 450, "a/" * 450, "a" * 900])
def test_a_long_name_is_read_in_time(text):
    """Nobody tries all ways to read it."""
    with pytest.raises(BadInput):
        parse_uri(f"oci://h/{text}!")


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("model.safetensors", True),
        ("model-00001-of-00002.safetensors", True),
        ("model/config.json", True),
        ("components/tokenizer/vocab.txt", True),
        ("pytorch_model.bin", False),
        ("model.safetensors.bin", False),
        ("model.SAFETENSORS", False),
        (".json", False),
        ("README", False),
        ("onnx/config.json", False),
        ("components/config.json", False),
        ("../config.json", False),
        ("/config.json", False),
        ("model/../config.json", False),
    ],
)
def test_only_some_files_are_taken(name, taken):
    """By kind, and from the folders of the two layouts."""
    assert is_taken(name) is taken
