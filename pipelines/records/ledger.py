"""Where is kept what has happened? The port of the ledger: append-only, hash-chained, with a row for each release."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from pipelines.records.release import Release
from pipelines.records.summary import Summary


class Ledger(Protocol):
    """What has happened: append-only, hash-chained."""

    def create(self, release: Release) -> None:
        """Record a new release. Busy where the id exists."""
        ...

    def load(self, release_id: str) -> Release:
        """The release of its events. NotFound; LedgerBroken where the chain does not verify."""
        ...

    def save(self, release: Release, expected_version: int) -> None:
        """Append the events after `expected_version`. StaleWriter where another writer was there first."""
        ...

    def summaries(
        self,
        *,
        unfinished: bool = False,
        service: str | None = None,
        limit: int | None = None,
        before: str | None = None,
        broken: bool = False,
    ) -> tuple[Summary, ...]:
        """The releases' rows, newest first; no event is read. `before` is the last of the page before, or NotFound.

        A row says `broken` where `load` found the record so, and no more where `load` finds it whole again.
        """
        ...


class Archive(Protocol):
    """The same records, as those see them who look after many."""

    def tally(self) -> Mapping[tuple[str, str], int]:
        """How many releases are there by service and outcome, or "running", or "broken"? Its cost hardly grows."""
        ...

    def set_aside(self, release_id: str, why: str) -> None:
        """End a record that can neither be read nor written: broken, and unfinished no more. NotFound."""
        ...


class Records(Ledger, Archive, Protocol):
    """Both: one adapter."""
