"""What is kept of one request, or of one user, and how is it lost?

Directly in the files of the home, so that it works while `up` and gateways run and while they do not. The ledger is not
touched: it holds counts and no text of users, and a record that was edited would prove nothing any more.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from flows.wiring import clock
from pipelines.errors import BadInput, DependencyDown
from pipelines.home import Home
from pipelines.serving.requests.record_file import Naming, erase

STAYS = (
    "counts in the records of releases, which name nobody",
    "texts that a release was evaluated on, which its owner keeps",
)


@dataclass(frozen=True)
class Forgotten:
    """What one service lost of somebody; `unnamed` requests are still kept, and nobody knows whose they are."""

    service: str
    file: str
    requests: int
    unnamed: int


def forget(home: Home, who: str, recording: Iterable[str]) -> tuple[Forgotten, ...]:
    """Remove every text of the request, or of the user, of this name. `recording` are services that keep requests now.

    DependencyDown E_RECORD where a file cannot be changed; everything else is removed before.
    """
    if not who.strip():
        raise BadInput("nobody is named", code="E_CONFIG", field="WHO", expected="a request's id, or a user's")
    folder = home.folder("records")
    if not folder.is_dir():
        return ()
    files = {path for path in folder.glob("*.db") if path.is_file() and not path.is_symlink()}
    found, broken = [], []
    for path in sorted(files | {home.record(service) for service in recording}):
        try:
            found.append(_forgotten_in(path, who.encode()))
        except (OSError, sqlite3.Error) as error:
            broken.append(f"{path.name}: {error}")
    if broken:
        removed = sum(one.requests for one in found)
        raise DependencyDown(
            f"not everything could be looked through: {'; '.join(broken)} ({removed} requests were removed elsewhere)",
            code="E_RECORD",
            field="records",
            hint="ask again; a file that is damaged for good can be removed, with all that is kept in it",
        )
    return tuple(found)


def _forgotten_in(path: Path, who: bytes) -> Forgotten:
    naming = Naming(path.parent)
    erased = erase(path, [naming.of_request(who), naming.of_user(who)], clock().wall_s)
    return Forgotten(path.stem, f"records/{path.name}", erased.requests, erased.unnamed)
