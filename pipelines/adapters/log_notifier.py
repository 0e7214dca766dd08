"""Tells a release's log file what happened."""

from __future__ import annotations

import logging
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from pipelines.records.release import Release


class LogNotifier:
    """Implements `ports.Notifier`: one line a sentence, in `<folder>/<release>.log`. Never raises."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def send(self, release: Release, sentence: str) -> None:
        """Append the sentence with the time of the release's last event. What cannot be written is lost, no more."""
        line = " ".join(sentence.splitlines())
        logging.getLogger("shipway").info("%s %s", release.id, line)
        at_s = release.events[-1].at_s if release.events else 0.0
        with suppress(OSError, ValueError, OverflowError):
            self._folder.mkdir(parents=True, exist_ok=True)
            with (self._folder / f"{release.id}.log").open("a", encoding="utf-8", errors="backslashreplace") as log:
                log.write(f"{datetime.fromtimestamp(at_s, UTC).isoformat()} {release.phase} {line}\n")
