"""How does a log stay small while a process holds it open?

By copy and truncate: the writers opened the file for appending, so after the cut they go on at its new end, and need
not be told. Lines that are written between the last read and the cut (microseconds) are lost.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

log = logging.getLogger("shipway.logs")

MAX_BYTES = 16 * 1024 * 1024
KEPT = 3
ROTATED = "*.log.[0-9]"


def rotate_all(folder: Path, max_bytes: int = MAX_BYTES, kept: int = KEPT) -> None:
    """Rotate the logs of a folder that are too large. What cannot be rotated stays as it is, and is said."""
    for path in folder.glob("*.log"):
        try:
            if path.stat().st_size > max_bytes:
                rotate(path, kept)
        except OSError as error:
            log.warning("%s cannot be rotated: %s", path.name, error)


def rotate(path: Path, kept: int = KEPT) -> None:
    """Move what the file holds to `<name>.1`, and that to `.2`, and so on; the oldest goes."""
    oldest, *younger = [path.with_name(f"{path.name}.{n}") for n in range(kept, 0, -1)]
    oldest.unlink(missing_ok=True)
    target = oldest
    for source in younger:
        if source.exists():
            source.rename(target)
        target = source
    with path.open("rb") as source_file, target.open("wb") as copy, path.open("rb+") as cut:
        shutil.copyfileobj(source_file, copy)
        cut.truncate(0)
