"""The story of one release, as Prefect sees it.

Each slow step is a task whose findings are persisted under the release's id and digests, so that a release that was
killed does not repeat what it had finished. The canary and the bake are tasks that look until they are over. The truth
about traffic is the ledger and the router, never Prefect's state: this file holds no `if` about quality or traffic.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from httpx import HTTPError
from prefect import Task, flow, tags, task
from prefect.cache_policies import INPUTS, TASK_SOURCE
from prefect.exceptions import CancelledRun, FailedRun, PrefectException
from prefect.states import State

from flows.control.driving import Driving, last_of
from flows.control.lock import Held, exposed_ttl_s
from flows.control.passing_prefect import end_with_this_process
from flows.control.prefect_states import state_of, tag_outcome, tags_of
from flows.show.evidence_page import publish_looks, publish_step
from pipelines.records.release import EXPOSED, Phase, Release
from pipelines.rollout.ending import promote
from pipelines.rollout.look import Controller
from pipelines.stages.steps import STEPS, Step, conclude, could_not
from pipelines.stages.workshop import NOT_THE_STEPS_FAULT, Findings, Interrupted, Workshop

log = logging.getLogger("shipway.prefect")

_AS_JSON = {"result_serializer": "json"}
"""Prefect's default serializer is pickle, which the control plane never loads."""

_PREFECTS = (HTTPError, PrefectException)
"""What a task raises where Prefect's API does not answer it."""

STEP_OF = {step.name: step for step in STEPS}


@dataclass
class Desk:
    """What the tasks of a running release work with; tasks find it by the release's id."""

    shop: Workshop
    controller: Controller
    held: Held
    release: Release
    told: Callable[[Step, Release, Findings], None] = lambda _step, _release, _findings: None
    check_stop: Callable[[], None] = lambda: None
    abort: Callable[[Release], Release] = lambda release: release
    """Ends a release that a person has stopped before any user met it."""
    driving: Driving | None = None
    prefect: str = "not met"
    """`met` once the flow has begun, `lost` when the release goes on without it."""


_desks: dict[str, Desk] = {}


@task(name="step", task_run_name="{step}", persist_result=True, cache_policy=INPUTS + TASK_SOURCE, **_AS_JSON)
def lasting_step(step: str, release_id: str, digest: str) -> Mapping[str, Any]:  # noqa: ARG001  part of the cache key
    """A step whose findings outlive the process."""
    desk = _desks[release_id]
    return STEP_OF[step].run(desk.shop, desk.release)


@task(name="step", task_run_name="{step}")
def live_step(step: str, release_id: str) -> Mapping[str, Any]:
    """A step about running processes: asked again after an interruption."""
    desk = _desks[release_id]
    return STEP_OF[step].run(desk.shop, desk.release)


@task(name="canary")
def canary(release_id: str) -> str:
    """Look until the canary's steps are over."""
    return _look_until(release_id, frozenset({Phase.BAKING, Phase.PROMOTING}))


@task(name="bake")
def bake(release_id: str) -> str:
    """Look until the release has ended."""
    return _look_until(release_id, frozenset())


@task(name="first release")
def first_promotion(release_id: str) -> str:
    """A first release has nothing to be compared with: it becomes stable at once, labelled unproven."""
    desk = _desks[release_id]
    ctl = desk.controller
    why = "first release: absolute gates only, nothing to compare with"
    desk.release = promote(ctl.ports, desk.release, ctl.token, why, ctl.clock())
    return str(desk.release.phase)


@flow(name="release", flow_run_name="{release_id}", retries=0)
def release(release_id: str) -> State:
    """Take one release from where its record says it is to its end; returns a state named by the outcome."""
    desk = _desks[release_id]
    desk.prefect = "met"
    try:
        _tell(desk)
    except Interrupted:
        desk.release = desk.abort(desk.release)
    publish_looks(desk.release)
    tag_outcome(desk.release)
    return state_of(desk.release)


def _tell(desk: Desk) -> None:
    """The story itself."""
    for step in STEPS:
        if desk.release.phase is step.before:
            desk.check_stop()
            findings = _findings(step, desk)
            desk.release = conclude(desk.shop, desk.release, step, findings)
            desk.told(step, desk.release, findings)
            if desk.prefect == "met":
                publish_step(desk.release, step, findings)
    for act, phases in _EXPOSING:
        if desk.release.phase in phases(desk.release):
            desk.held.keep_for(exposed_ttl_s(desk.shop.spec.rollout.lease_s))
            _seen(act, desk)(desk.release.id)


_EXPOSING: tuple[tuple[Task[[str], str], Callable[[Release], frozenset[Phase]]], ...] = (
    (first_promotion, lambda r: frozenset() if r.champion else frozenset({Phase.QUALIFIED})),
    (canary, lambda _: frozenset({Phase.QUALIFIED, Phase.CANARY})),
    (bake, lambda _: EXPOSED),
)
"""What happens with users, and in which phases: a bake that is interrupted looks on from its first step again."""


def run_release(desk: Desk) -> Release:
    """Run the flow for one desk; where Prefect is lost, the rest of it without Prefect. Raises what the steps raise."""
    end_with_this_process()
    _desks[desk.release.id] = desk
    try:
        if not _is_run_by_prefect(desk):
            desk.prefect = "lost"
            _tell(desk)
    except Interrupted:
        desk.release = desk.abort(desk.release)
    finally:
        last_of(desk.driving, desk.release)
        del _desks[desk.release.id]
    return desk.release


def _is_run_by_prefect(desk: Desk) -> bool:
    """Whether the release has ended under Prefect's eyes, or at least without needing them any more."""
    try:
        with tags(*tags_of(desk.release)):
            release(desk.release.id)
    except (FailedRun, CancelledRun):  # the states of an outcome are no errors
        return desk.release.is_ended
    except Exception as error:
        if desk.prefect == "met" and not isinstance(error, _PREFECTS):
            raise
        desk.release = last_of(desk.driving, desk.release)
        # Not the error's text, which may hold the address, and with it a password.
        log.warning("release %s goes on without Prefect: %s", desk.release.id, type(error).__name__)
        log.debug("Prefect was lost", exc_info=error)
    return desk.release.is_ended


def _findings(step: Step, desk: Desk) -> Findings:
    """What a step found. One that raises has found nothing: it is not tried for ever, and nothing of it is kept."""
    try:
        return _run(step, desk)
    except NOT_THE_STEPS_FAULT:
        raise
    except Exception as error:  # a model, a file or a library may raise anything
        if desk.prefect == "met" and isinstance(error, _PREFECTS):
            raise
        log.debug("step %s of %s", step.name, desk.release.id, exc_info=error)
        return could_not(step, error)


def _run(step: Step, desk: Desk) -> Findings:
    candidate = desk.release.sealed
    if not step.repeatable:
        return _seen(live_step, desk)(step.name, desk.release.id)
    digest = f"{candidate.artifact_digest}+{desk.release.spec_digest}"
    return _seen(lasting_step, desk)(step.name, desk.release.id, digest)


def _seen(act: Any, desk: Desk) -> Callable[..., Any]:
    """A task as Prefect runs it, or what it does where Prefect is lost."""
    return act if desk.prefect == "met" else act.fn


def _look_until(release_id: str, leave: frozenset[Phase]) -> str:
    desk = _desks[release_id]
    if desk.driving is None:
        desk.driving = Driving(desk.controller, desk.release, desk.held.sleep)
    desk.release = desk.driving.wait(leave)
    return str(desk.release.phase)
