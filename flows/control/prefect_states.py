"""What can an automation of Prefect's hold on to? Tags from the beginning, and a state named by the outcome at the end.

Nothing depends on it: what happened to a release is what its record says.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pipelines.records.release import Phase, Release

if TYPE_CHECKING:
    from prefect.states import State

log = logging.getLogger("shipway.prefect")

_STATES: Mapping[Phase, tuple[str, str]] = {
    Phase.PROMOTED: ("COMPLETED", "Promoted"),
    Phase.REJECTED: ("FAILED", "Rejected"),
    Phase.ROLLED_BACK: ("FAILED", "RolledBack"),
    Phase.HELD: ("FAILED", "Held"),
    Phase.ABORTED: ("CANCELLED", "Aborted"),
}


def tags_of(release: Release) -> tuple[str, ...]:
    """What is known from the beginning."""
    return (f"service:{release.service}", f"model:{release.sealed.model}", f"release:{release.id}")


def state_of(release: Release) -> State:
    """The state of a release's run that has ended; its message is the sentence of the record."""
    from prefect.client.schemas.objects import StateType
    from prefect.states import State

    kind, name = _STATES.get(release.phase, ("COMPLETED", "Completed"))
    return State(type=StateType(kind), name=name, message=release.reason)


def tag_outcome(release: Release) -> None:
    """Add the outcome to the tags of the run that this is called in. Best effort."""
    from prefect import get_client
    from prefect.context import FlowRunContext

    try:
        run = FlowRunContext.get().flow_run
        with get_client(sync_client=True) as client:
            client.update_flow_run(run.id, tags=sorted({*run.tags, f"outcome:{release.outcome}"}))
    except Exception as error:  # noqa: BLE001  whatever Prefect's API raises, the release goes on
        log.warning("the run of %s got no outcome: %s", release.id, type(error).__name__)
