"""Where do the stages work, and with what?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.errors import BadInput, Busy, DependencyDown, LedgerBroken, StaleWriter
from pipelines.ports import Builder, Now, Ports, Token
from pipelines.records.release import Phase, Release
from pipelines.spec.release_spec import ReleaseSpec
from pipelines.stages.prompted import pinned
from pipelines.supply.layout import read_layout
from pipelines.tasks.known import task_for
from pipelines.tasks.task import TaskRows

Progress = Callable[[str, int, int], None]


Findings = Mapping[str, Any]


class Interrupted(Exception):
    """Raised out of a step by whoever follows its progress, because a person asked it to stop."""


NOT_THE_STEPS_FAULT = (Interrupted, DependencyDown, StaleWriter, Busy, LedgerBroken)
"""What another try, or another controller, may find otherwise."""


@dataclass(frozen=True)
class Workshop:
    """Where the steps work and what they work with. `work` belongs to one release."""

    ports: Ports
    builder: Builder
    token: Token
    spec: ReleaseSpec
    data_dir: Path
    work: Path
    clock: Callable[[], Now]
    sleep: Callable[[float], None]
    progress: Progress = lambda _name, _done, _of: None
    home: Path | None = None
    """Below it lies what is kept of a release when its own files are gone."""

    @property
    def source(self) -> Path:
        """The candidate's private, verified files."""
        return self.work / "source"

    def rows(self, release: Release) -> TaskRows:
        """The evaluation rows. BadInput E_DATASET where they are not those that the release was opened with."""
        layout, plan = read_layout(self.source), self.spec.evaluate
        task = task_for(layout.config_json)
        promises = task.promises(layout, self.spec.serve, pinned(release))
        rows: TaskRows = task.read_rows(plan, self.data_dir / plan.data, promises)
        resolved = release.last("resolved")
        if resolved and resolved.data.get("data_digest", rows.digest) != rows.digest:
            raise BadInput(
                f"{plan.data} was changed after the release was opened",
                code="E_DATASET",
                field="evaluate.data",
                hint="release again, so that everything is judged on the same rows",
            )
        return rows


def entered(release: Release, phase: Phase) -> Mapping[str, Any]:
    """What was recorded when the release entered a phase."""
    return next(e.data for e in reversed(release.of_kind("entered")) if e.data["phase"] == phase)


def seconds(shop: Workshop) -> Callable[[], float]:
    """The clock that durations are measured by."""
    return lambda: shop.clock().mono_s
