"""Do a version's files lie elsewhere, where, and which bytes must they be?

Such a version holds one small file, `weights.json`: a place that names the same files for ever, and the digest of what
is taken from there. The digest is what counts: a place may only say where to look.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

from pipelines.errors import BadInput
from pipelines.supply.checks.paths import list_plain_files
from pipelines.supply.checks.strict_json import parse_strict

POINTER = "weights.json"
MOST_BYTES = 4096
LONGEST_URI = 1000
HIGHEST_PORT = 65_535

TAKEN = frozenset({".safetensors", ".json", ".txt", ".model", ".jinja"})
"""The kinds of files that are taken from elsewhere; all else stays where it is."""

TAKEN_FROM = frozenset({"", "model/", "components/tokenizer/"})
"""The folders that `layout.py` reads: what lies deeper is another form of the same weights, or none of its business."""

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_FORMS = {
    "file": re.compile(r"file://(?:localhost)?(?P<name>/[^?#]*)"),
    "hf": re.compile(r"hf://(?P<name>[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})@(?P<pin>[0-9a-f]{40})", re.ASCII),
    "s3": re.compile(r"s3://(?P<host>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/(?P<name>[^?#]+)"),
    "oci": re.compile(
        r"oci://(?P<host>[a-z0-9](?:[a-z0-9.-]{0,200}[a-z0-9])?(?::[0-9]{1,5})?)"
        r"/(?P<name>[a-z0-9]+(?:(?:[._-]{1,2}|/)[a-z0-9]+)*)@(?P<pin>sha256:[0-9a-f]{64})"
    ),
}
EXPECTED = "file:///FOLDER, hf://ORG/MODEL@COMMIT, oci://HOST/NAME@sha256:DIGEST or s3://BUCKET/PREFIX"
_PINNED = {
    "hf": "hf://ORG/MODEL@COMMIT with the 40 hex digits of a commit",
    "oci": "oci://HOST/NAME@sha256:DIGEST with the 64 hex digits of a manifest's",
}


@dataclass(frozen=True)
class WeightsPlace:
    """Where files lie: a scheme, its host or bucket, a name there, and what pins the name to the same files."""

    scheme: str
    name: str
    host: str = ""
    pin: str = ""


@dataclass(frozen=True)
class Pointer:
    """Where a version's files lie, and the digest of those that are taken from there."""

    uri: str
    digest: str

    def as_dict(self) -> dict[str, str]:
        """What the record says of it."""
        return {"uri": self.uri, "digest": self.digest}

    def said(self) -> str:
        """The same in one line: what a tag and a terminal show."""
        return f"{self.uri} {self.digest}"

    def write(self, folder: Path) -> Path:
        """Write the file that a version holds, into a folder of its own, and return the folder."""
        folder.mkdir(parents=True)
        text = json.dumps({"weights": self.uri, "digest": self.digest}, indent=2)
        (folder / POINTER).write_text(text + "\n", "utf-8")
        return folder


def read_pointer(folder: Path) -> Pointer | None:
    """Where do the files of this version lie, if not here? BadInput E_POINTER where that is not said clearly."""
    found = list_plain_files(folder) if os.path.lexists(folder / POINTER) else {}
    if POINTER not in found:
        return None
    beside = [name for name in found if name != POINTER]
    value = _read(found[POINTER], is_alone=not beside)
    if beside and not (isinstance(value, dict) and "weights" in value):
        return None  # a file of the model's own
    if beside:
        reason = f"{POINTER} says that the weights lie elsewhere, and {beside[0]} lies beside it"
        raise _bad(reason, f"{POINTER} alone", field=beside[0])
    if not isinstance(value, dict) or value.keys() != {"weights", "digest"}:
        expected = f'{{"weights": "URI", "digest": "sha256:…"}} in at most {MOST_BYTES:,} bytes'
        raise _bad(f"{POINTER} does not say where the weights lie, and with which digest", expected)
    uri, digest = value["weights"], value["digest"]
    parse_uri(uri)
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise _bad(f"{str(digest)[:80]!r} is no digest", "sha256: and 64 hex digits", field="digest")
    return Pointer(uri, digest)


def parse_uri(uri: object) -> WeightsPlace:
    """What does the URI name? BadInput E_POINTER where it is none, or may name other files tomorrow."""
    text = uri if isinstance(uri, str) and len(uri) <= LONGEST_URI else ""
    is_plain = text.isascii() and text.isprintable() and " " not in text
    scheme = text.partition("://")[0]
    form = _FORMS.get(scheme) if is_plain else None
    if form is None:
        raise _bad(f"{str(uri)[:120]!r} is no place that weights are taken from", EXPECTED)
    found = form.fullmatch(text)
    if found is None:
        raise _bad(f"{text[:120]!r} may name other files tomorrow, or none", _PINNED.get(scheme, EXPECTED))
    parts = found.groupdict()
    name = _path(text, parts["name"]) if scheme == "file" else parts["name"]
    host = parts.get("host") or ""
    if (scheme != "file" and ".." in name) or int(host.partition(":")[2] or 1) > HIGHEST_PORT:
        raise _bad(f"{text[:120]!r} is no place that weights are taken from", EXPECTED)
    return WeightsPlace(scheme, name, host, parts.get("pin") or "")


def is_taken(name: str) -> bool:
    """Is a file of this relative path one that Shipway takes from elsewhere?"""
    plain = name.rpartition("/")[2]
    return name.removesuffix(plain) in TAKEN_FROM and not plain.startswith(".") and Path(plain).suffix in TAKEN


def _read(file: Path, *, is_alone: bool) -> Any:
    """The file's value; None where it is too large, or lies among a model's own and is none."""
    is_small = file.stat().st_size <= MOST_BYTES
    try:
        return parse_strict(file.read_bytes()) if is_small else None
    except ValueError as error:
        if not is_alone:
            return None
        raise _bad(f"{POINTER} cannot be read: {error}"[:300], "strict JSON") from error


def _path(uri: str, quoted: str) -> str:
    try:
        path = unquote_to_bytes(quoted).decode()
    except UnicodeDecodeError:
        path = "\x00"
    if not path.isprintable():
        raise _bad(f"{uri[:120]!r} is no path", "file:///FOLDER")
    return path


def _bad(reason: str, expected: str, field: str = "weights") -> BadInput:
    return BadInput(
        reason, code="E_POINTER", field=field, expected=expected, hint="shipway point MODEL URI registers a right one"
    )
