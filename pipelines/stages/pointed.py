"""Are the files that a version points at still those that were registered?

They are fetched into a private folder, and nothing is scanned or read of them before their digest is the right one.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from pipelines.errors import DependencyDown, UnsafeArtifact
from pipelines.ports import Weights
from pipelines.supply.bundle import artifact_digest
from pipelines.supply.checks.paths import LIMITS, FolderLimits, list_plain_files
from pipelines.supply.pointer import Pointer, parse_uri


def fetch_weights(uri: str, weights: Weights, into: Path, limits: FolderLimits = LIMITS) -> str:
    """Fetch what a place holds into a folder of its own, and return the digest; whatever fails leaves no folder."""
    parse_uri(uri)
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    try:
        weights.fetch(uri, into, limits)
        list_plain_files(into, limits)
        return artifact_digest(into)
    except OSError as error:
        shutil.rmtree(into, ignore_errors=True)
        reason = f"what {uri} holds cannot be written to {into}: {error.strerror}"
        raise DependencyDown(reason, code="E_SPACE", hint="set TMPDIR to a folder with room for it") from error
    except BaseException:
        shutil.rmtree(into, ignore_errors=True)
        raise


def fetch_pointed(pointer: Pointer, weights: Weights, into: Path, limits: FolderLimits = LIMITS) -> Path:
    """The same for what a version points at. UnsafeArtifact E_DIGEST where other bytes are there now."""
    found = fetch_weights(pointer.uri, weights, into, limits)
    if found != pointer.digest:
        shutil.rmtree(into, ignore_errors=True)
        raise UnsafeArtifact(
            f"the files at {pointer.uri} have digest {found}, not {pointer.digest}",
            code="E_DIGEST",
            field="digest",
            expected="the files that were registered",
            hint="put them back, or register what is there now: shipway point MODEL URI",
        )
    return into
