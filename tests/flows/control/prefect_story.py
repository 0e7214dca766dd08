"""What a test lets Prefect run in a process of its own: releases without models.

python -m tests.flows.control.prefect_story ends        five releases that have ended, and what a query then finds
python -m tests.flows.control.prefect_story kills WHO   one step, in which WHO (the server, or all of up) is killed
python -m tests.flows.control.prefect_story hangs       one step that never ends, on a server of this process's own
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import psutil

from flows.cli.options import open_home
from flows.control.prefect_choice import use_homes_prefect
from flows.control.up_file import find_up
from pipelines.home import Home
from pipelines.records.release import Phase, Release
from tests.flows.control.test_tether import wait_gone

OUTCOMES = (Phase.PROMOTED, Phase.REJECTED, Phase.ROLLED_BACK, Phase.HELD, Phase.ABORTED)


def servers_of(pid: int) -> list[psutil.Process]:
    """The servers of Prefect that a process has started."""
    children = psutil.Process(pid).children(recursive=True)
    return [c for c in children if "prefect.server.api.server:create_app" in c.cmdline()]


def resolved(name: str) -> Release:
    """A release that has begun."""
    opened = Release().record(1.0, "opened", id=f"tiny-{name}", service="tiny", spec={}, spec_digest="d")
    candidate = {"model": "m", "version": 1, "artifact_digest": "sha256:a"}
    return opened.record(1.0, "resolved", candidate=candidate, champion=None)


def ends() -> list[dict[str, Any]]:
    """Let Prefect see each end, and ask it for them as an automation would."""
    from prefect import get_client
    from prefect.client.schemas.filters import (
        FlowRunFilter,
        FlowRunFilterState,
        FlowRunFilterStateName,
        FlowRunFilterTags,
    )

    from flows.release import Desk, run_release

    found = []
    for phase in OUTCOMES:
        ended = replace(resolved(str(phase)), phase=phase, reason=f"because of {phase}")
        name = str(phase).title().replace("_", "")
        run_release(Desk(None, None, None, ended))
        asked = FlowRunFilter(
            tags=FlowRunFilterTags(all_=["service:tiny", "model:m", f"release:{ended.id}", f"outcome:{phase}"]),
            state=FlowRunFilterState(name=FlowRunFilterStateName(any_=[name])),
        )
        with get_client(sync_client=True) as client:
            runs = client.read_flow_runs(flow_run_filter=asked)
        found += [{"name": r.name, "type": r.state.type.value, "message": r.state.message} for r in runs]
    return found


def one_step(run: Callable[[], None]) -> dict[str, Any]:
    """A release of one step, after which it is rejected."""
    from flows import release as story
    from pipelines.stages.steps import Step
    from pipelines.stages.workshop import Findings

    runs = []

    def measure(*_: object) -> Mapping[str, Any]:
        runs.append(os.getpid())
        run()
        return {}

    def conclude(_shop: object, release: Release, _step: Step, _findings: Findings) -> Release:
        return release.enter(Phase.REJECTED, 2.0, why="worse")

    step = Step("evaluate", Phase.OPEN, Phase.EVALUATED, measure)
    story.STEPS, story.STEP_OF, story.conclude = (step,), {step.name: step}, conclude
    # Another release each time: what a step has found is kept.
    desk = story.Desk(None, None, None, resolved(f"step-{os.getpid()}"))
    return {"outcome": story.run_release(desk).outcome, "prefect": desk.prefect, "runs": len(runs)}


def kills(home: Home, who: str) -> dict[str, Any]:
    """The step in which Prefect's server dies, alone or with `up`, which nobody starts again."""
    up = int(str((find_up(home) or {})["pid"]))

    (server,) = servers_of(up)

    def hit() -> None:
        (server if who == "server" else psutil.Process(up)).kill()
        wait_gone(server.pid)

    return one_step(hit)


def hangs() -> None:
    """Say that the step has begun, and never end it."""

    def wait() -> None:
        print(json.dumps([p.pid for p in servers_of(os.getpid())]), flush=True)  # noqa: T201
        time.sleep(600)

    one_step(wait)


def main() -> None:
    """Print what there is to assert."""
    home = open_home()
    what, *rest = sys.argv[1:]
    if what == "hangs":
        return hangs()
    assert use_homes_prefect(home) == ""
    told = {"ends": ends, "kills": lambda: kills(home, *rest), "alone": lambda: one_step(lambda: None)}[what]()
    print(json.dumps(told))  # noqa: T201
    return None


if __name__ == "__main__":
    main()
