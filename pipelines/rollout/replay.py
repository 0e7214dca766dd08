"""How do recorded requests become evidence before anybody meets the canary?

Part by part, at the looks before the first step: each part's counts are recorded before the next is asked, so a
controller that is killed repeats one part at most, and whoever goes on has the evidence of the others. Which requests,
and in which order, is recorded before the first of them is asked.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from evals.signals.replay import ReplayState
from pipelines.errors import BadInput, DependencyDown
from pipelines.ports import Now, Ports, ReplayQuery
from pipelines.records.release import Phase, Release
from pipelines.records.view import progress
from pipelines.rollout.scene import Scene
from pipelines.rollout.watch import Watch, declaration
from pipelines.spec.rollout import RolloutSpec

PART_PAIRS = 50
"""A part ends after so many pairs, or after the time of a look: then words are heard and the evidence is judged."""


def chosen(numbers: tuple[int, ...], wanted: int, seed: int) -> list[int]:
    """Which recorded requests are replayed, in which order? Each at most once, since asking again teaches nothing."""
    return random.Random(seed).sample(numbers, min(wanted, len(numbers)))  # noqa: S311  repeatable on purpose


def intended(ports: Ports, plan: RolloutSpec, release: Release) -> dict[str, Any]:
    """What will be replayed for this release; its seed follows from its record."""
    numbers = ports.replays.recorded(release.service)
    seed = int(release.events[-1].hash[:8], 16)
    wanted = plan.replay.requests if plan.replay else 0
    return {"seed": seed, "recorded": len(numbers), "numbers": chosen(numbers, wanted, seed)}


def left_to_replay(plan: RolloutSpec, release: Release) -> list[int] | None:
    """The numbers that were not asked yet; None where nothing was chosen yet. Users end a replay."""
    if plan.replay is None or not release.champion or release.phase is not Phase.QUALIFIED:
        return []
    begun = release.last("replaying")
    if begun is None:
        return None
    asked = sum(event.data["asked"] for event in release.of_kind("replayed"))
    return list(begun.data["numbers"][asked:])


def replayed_so_far(plan: RolloutSpec, release: Release) -> str:
    """How far is the replay, for people? "" where nothing is left of it."""
    left = left_to_replay(plan, release)
    if left is None:
        return "replaying: the recorded requests cannot be read"
    return progress(release) if left else ""


def nothing_recorded(service: str) -> BadInput:
    """The refusal of a release that would replay nothing."""
    return BadInput(
        f"rollout.replay is asked for, and no request of {service} is recorded yet",
        code="E_NOTHING_RECORDED",
        field="rollout.replay",
        expected="requests that serve.record kept since an earlier release",
        hint="wait for requests, or release with `replay: null`",
    )


def is_replaying(plan: RolloutSpec, release: Release) -> bool:
    """Whether a part of the replay has just ended, and another waits."""
    return release.events[-1].kind == "replayed" and bool(left_to_replay(plan, release))


def begin_replay(ports: Ports, plan: RolloutSpec, release: Release, watch: Watch, at_s: float) -> Release:
    """Say which requests will be asked, and how their answers will count, where that was not said yet."""
    if left_to_replay(plan, release) is not None:
        return release
    try:
        chosen = intended(ports, plan, release)
    except DependencyDown:
        return release
    declared = release.record(at_s, "judging", **declaration(plan, watch, len(chosen["numbers"])))
    begun = declared.record(at_s, "replaying", **chosen)
    ports.ledger.save(begun, release.version)
    return begun


def may_ask(plan: RolloutSpec, release: Release, scene: Scene) -> bool:
    """Whether the next part can be asked now: one is left, nobody paused it, and both versions serve."""
    if release.paused or not left_to_replay(plan, release):
        return False
    return not any(scene.servers[digest].down_reason for digest in _both(release))


def ask_part(
    ports: Ports, plan: RolloutSpec, release: Release, scene: Scene, timeout_s: float, clock: Callable[[], Now]
) -> dict[str, Any] | None:
    """What the next part of the replay was like; None where it could not be asked."""
    try:
        asked, found = _part(ports, plan, release, scene, timeout_s, clock)
    except DependencyDown:
        return None
    return {"asked": asked, "counts": found.as_dict()}


def was_stable_lost(release: Release, before: Scene, after: Scene) -> bool:
    """Whether stable was lost while a part was asked: it says nothing about how the canary answers then.

    A server that dies says nothing about its model; whether the canary's may die is another guard's question.
    """
    stable, _ = _both(release)
    now = after.servers[stable]
    return now.exits != before.servers[stable].exits or bool(now.down_reason)


def _both(release: Release) -> tuple[str, str]:
    """What is compared: the bytes that were stable when the release began, and its own."""
    return str((release.champion or {})["digest"]), release.sealed.bundle_digest


def _part(
    ports: Ports, plan: RolloutSpec, release: Release, scene: Scene, timeout_s: float, clock: Callable[[], Now]
) -> tuple[int, ReplayState]:
    assert plan.replay is not None  # noqa: S101  there is something left of it
    numbers, began_s = (left_to_replay(plan, release) or [])[:PART_PAIRS], clock().mono_s
    tolerance = plan.gates.latency.tolerance if plan.gates.latency else 0.0
    stable, canary = (scene.servers[digest].arm() for digest in _both(release))
    # Few at first, since one may take its whole time; and even, so that the arms have as many turns.
    found, asked, at_once = ReplayState(), 0, 2 * plan.replay.concurrency
    while asked < len(numbers) and (asked == 0 or clock().mono_s - began_s < plan.look_s):
        some = numbers[asked : asked + at_once]
        query = ReplayQuery(release.service, some, stable, canary, timeout_s, plan.replay.concurrency)
        found = found.plus(ReplayState.of(ports.replays.ask(query), tolerance))
        asked, at_once = asked + len(some), 2 * at_once
    return asked, found
