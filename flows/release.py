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
from prefect import flow, task
from prefect.cache_policies import INPUTS, TASK_SOURCE
from prefect.exceptions import PrefectException

from flows.driving import Driving, last_of
from flows.evidence_page import publish_looks, publish_step
from flows.holding import Held, exposed_ttl_s
from flows.prefect_server import keep_from_signals
from pipelines.ending import promote
from pipelines.errors import DependencyDown
from pipelines.release import EXPOSED, Phase, Release
from pipelines.steps import NOT_THE_STEPS_FAULT, STEPS, Findings, Step, Workshop, conclude, could_not
from pipelines.tick import Controller

log = logging.getLogger("shipway.prefect")

_AS_JSON = {"result_serializer": "json"}
"""Prefect's default serializer is pickle, which the control plane never loads."""

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
    driving: Driving | None = None


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


@flow(name="release", flow_run_name="{release_id}")
def release(release_id: str) -> str:
    """Take one release from where its record says it is to its end; returns the outcome."""
    desk = _desks[release_id]
    for step in STEPS:
        if desk.release.phase is step.before:
            desk.check_stop()
            findings = _findings(step, desk)
            desk.release = conclude(desk.shop, desk.release, step, findings)
            desk.told(step, desk.release, findings)
            publish_step(desk.release, step, findings)
    for act, phases in _EXPOSING:
        if desk.release.phase in phases(desk.release):
            desk.held.keep_for(exposed_ttl_s(desk.shop.spec.rollout.lease_s))
            act(release_id)
    publish_looks(desk.release)
    return str(desk.release.phase)


_EXPOSING: tuple[tuple[Callable[[str], str], Callable[[Release], frozenset[Phase]]], ...] = (
    (first_promotion, lambda r: frozenset() if r.champion else frozenset({Phase.QUALIFIED})),
    (canary, lambda _: frozenset({Phase.QUALIFIED, Phase.CANARY})),
    (bake, lambda _: EXPOSED),
)
"""What happens with users, and in which phases: a bake that is interrupted looks on from its first step again."""


def run_release(desk: Desk) -> Release:
    """Run the flow for one desk. Raises what the steps raise.

    Once the release has ended, Prefect's troubles are not the release's.
    """
    keep_from_signals()
    _desks[desk.release.id] = desk
    try:
        release(desk.release.id)
    except (HTTPError, PrefectException) as error:
        desk.release = last_of(desk.driving, desk.release)
        log.warning("Prefect was lost in release %s: %s", desk.release.id, error)
        if not desk.release.is_ended:
            raise _lost(desk.release, error) from error
    finally:
        last_of(desk.driving, desk.release)
        del _desks[desk.release.id]
    return desk.release


def _lost(release: Release, error: Exception) -> DependencyDown:
    reason = f"Prefect's API was lost: {type(error).__name__}"
    return DependencyDown(reason, code="E_PREFECT", hint=f"shipway up goes on with it, or shipway resume {release.id}")


def _findings(step: Step, desk: Desk) -> Findings:
    """What a step found. One that raises has found nothing: it is not tried for ever, and nothing of it is kept."""
    try:
        return _run(step, desk)
    except (*NOT_THE_STEPS_FAULT, HTTPError, PrefectException):
        raise
    except Exception as error:  # a model, a file or a library may raise anything
        log.debug("step %s of %s", step.name, desk.release.id, exc_info=error)
        return could_not(step, error)


def _run(step: Step, desk: Desk) -> Findings:
    candidate = desk.release.sealed
    if not step.repeatable:
        return live_step(step.name, desk.release.id)
    return lasting_step(step.name, desk.release.id, f"{candidate.artifact_digest}+{desk.release.spec_digest}")


def _look_until(release_id: str, leave: frozenset[Phase]) -> str:
    desk = _desks[release_id]
    if desk.driving is None:
        desk.driving = Driving(desk.controller, desk.release, desk.held.sleep)
    desk.release = desk.driving.wait(leave)
    return str(desk.release.phase)
