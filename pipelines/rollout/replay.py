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
from pipelines.rollout.watch import Watch, declaration
from pipelines.services.units import arm_of, down_reason, exits_of
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


def replay_on(
    ports: Ports, plan: RolloutSpec, release: Release, watch: Watch, timeout_s: float, clock: Callable[[], Now]
) -> tuple[Release, Watch]:
    """The release and the watch after the next part of the replay; both as they were where nothing is left of it."""
    left = left_to_replay(plan, release)
    if left is None:
        release = _begin(ports, plan, release, watch, clock().wall_s)
        left = left_to_replay(plan, release)
    part = _next_part(ports, plan, release, timeout_s, clock) if left and not release.paused else None
    if part is None:
        return release, watch
    after = release.record(clock().wall_s, "replayed", **part)
    ports.ledger.save(after, release.version)
    return after, watch.replayed(part)


def _begin(ports: Ports, plan: RolloutSpec, release: Release, watch: Watch, at_s: float) -> Release:
    """Say which requests will be asked, and how their answers will count."""
    try:
        chosen = intended(ports, plan, release)
    except DependencyDown:
        return release
    declared = release.record(at_s, "judging", **declaration(plan, watch, len(chosen["numbers"])))
    begun = declared.record(at_s, "replaying", **chosen)
    ports.ledger.save(begun, release.version)
    return begun


def _next_part(
    ports: Ports, plan: RolloutSpec, release: Release, timeout_s: float, clock: Callable[[], Now]
) -> dict[str, Any] | None:
    """What the next part of the replay was like; None where it could not be asked, or a server was lost meanwhile.

    A server that dies says nothing about how its model answers; whether it may die is another guard's question.
    """
    stable, candidate = str((release.champion or {})["digest"]), release.sealed.bundle_digest
    if any(down_reason(ports, release.service, digest) for digest in (stable, candidate)):
        return None
    exits = exits_of(ports, release.service, stable)
    try:
        asked, found = _part(ports, plan, release, timeout_s, clock)
    except DependencyDown:
        return None
    is_lost = exits_of(ports, release.service, stable) != exits or down_reason(ports, release.service, stable)
    return None if is_lost else {"asked": asked, "counts": found.as_dict()}


def _part(
    ports: Ports, plan: RolloutSpec, release: Release, timeout_s: float, clock: Callable[[], Now]
) -> tuple[int, ReplayState]:
    assert plan.replay is not None  # noqa: S101  there is something left of it
    numbers, began_s = (left_to_replay(plan, release) or [])[:PART_PAIRS], clock().mono_s
    tolerance = plan.gates.latency.tolerance if plan.gates.latency else 0.0
    stable = arm_of(ports, release.service, str((release.champion or {})["digest"]))
    canary = arm_of(ports, release.service, release.sealed.bundle_digest)
    # Few at first, since one may take its whole time; and even, so that the arms have as many turns.
    found, asked, at_once = ReplayState(), 0, 2 * plan.replay.concurrency
    while asked < len(numbers) and (asked == 0 or clock().mono_s - began_s < plan.look_s):
        some = numbers[asked : asked + at_once]
        query = ReplayQuery(release.service, some, stable, canary, timeout_s, plan.replay.concurrency)
        found = found.plus(ReplayState.of(ports.replays.ask(query), tolerance))
        asked, at_once = asked + len(some), 2 * at_once
    return asked, found
