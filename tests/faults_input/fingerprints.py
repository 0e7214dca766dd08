"""Is a home as it was? A hash over the names and contents of its files."""

from __future__ import annotations

import hashlib
from pathlib import Path

NOT_CONTENT = ("ledger.db-shm", "ledger.db-wal")
"""SQLite makes and removes these when a database is looked at; what is committed is in the database's own file."""

MEMORY = "asked"
"""What libraries answered about files is kept whatever becomes of the release; losing it loses nothing."""


def fingerprint(folder: Path) -> str:
    """The hash."""
    found = hashlib.sha256()
    kept = (p for p in folder.rglob("*") if p.is_file() and p.name not in NOT_CONTENT and p.parent.name != MEMORY)
    for path in sorted(kept):
        found.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return found.hexdigest()
