"""What does a look make of the world that it read? Pure: what is decided from it, and what is recorded of it."""

from __future__ import annotations

import math

from pipelines.records.release import Release
from pipelines.rollout.decision import CanaryJudgement, Situation
from pipelines.rollout.replay import replayed_so_far
from pipelines.rollout.scene import Scene
from pipelines.rollout.watch import Watch
from pipelines.rollout.words import first_word
from pipelines.services.traffic import share_of_ours
from pipelines.services.units import Servers
from pipelines.spec.rollout import RolloutSpec

UNREADY_LOOKS = 2
"""A live canary that misses one readiness probe on a busy machine is asked once more; a crash is believed at once."""


def situation_of(
    plan: RolloutSpec, release: Release, watch: Watch, scene: Scene, verdict: CanaryJudgement, timeout_s: float
) -> Situation:
    """Where does the release stand in this world? `timeout_s` is how long the gateway waits for one answer."""
    share, stable = share_of_ours(release, scene.split), scene.split.stable
    canary = scene.servers[release.sealed.bundle_digest]
    starting = _starting(release, canary) if share == 0 and not watch.is_hung else ""
    # A canary without users gets no second look: it must be ready before it meets them.
    patience_looks = math.inf if starting else UNREADY_LOOKS if share > 0 or watch.is_hung else 1
    return Situation(
        now_s=scene.now.wall_s,
        observed_pct=share,
        verdict=verdict,
        step_requests=watch.step_requests,
        requests_per_s=watch.requests_per_s,
        replaying=replayed_so_far(plan, release),
        canary_down=_down(release, canary, is_given_up=watch.unready_looks >= patience_looks),
        canary_starting=starting,
        stable_down=scene.servers[stable.digest].dead_reason if stable else "",
        blind=scene.blind,
        command=first_word(scene.words),
        url=scene.url,
        # A stratum waits for its slowest request, so that much silence is in order.
        silent_s=watch.silent_s(scene.now.mono_s) - timeout_s,
    )


def _starting(release: Release, canary: Servers) -> str:
    """Why a canary that was interrupted, or waits for approval, is not ready yet.

    Whoever stopped everything (`down`, a reboot) accuses nobody.
    """
    unready = [s for s in canary.statuses if s.state != "ready"]
    was_ready = release.confirmed_pct > 0 or release.asked_since_s is not None
    interrupted = was_ready and unready and all(s.state == "starting" for s in unready)
    return f"starting: {unready[0].reason or 'not ready yet'}" if interrupted else ""


def _down(release: Release, canary: Servers, *, is_given_up: bool) -> str:
    """Why the canary cannot serve: it exited since it was staged, or was not ready at too many looks in a row."""
    staged = release.last("staged")
    exits = canary.exits - (int(staged.data["exits"]) if staged else 0)
    if exits > 0:
        return f"it exited {exits} time(s) since it was staged"
    return canary.down_reason if is_given_up else ""
