"""How many calls are lost while shares change, canaries are killed and the gateway is restarted?"""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.live_service import NAME, LiveService, calling, live_service, wait
from pipelines.errors import DependencyDown
from pipelines.records.release import Release
from pipelines.services.traffic import send_home, set_share
from pipelines.services.units import gateway_name, servers_of

CALLS_PER_S = 400.0
LEASE_S = 10.0
PAUSE_S = 0.25


@dataclass(frozen=True)
class Losses:
    """What the caller saw. `lost` maps what it got instead of an answer to how often."""

    requests: int
    lost: Counter[str]
    by_version: Counter[str]


def lost_requests(
    root: Path, requests: int, say: Callable[[str], None], *, changes: int = 200, kills: int = 30, restarts: int = 10
) -> Losses:
    """Disturb a good candidate's canary so often, under at least so many calls."""
    with live_service(root, is_candidate_broken=False) as service, calling(service, CALLS_PER_S) as seen:
        release = service.release("r-lost")
        for number in range(changes):
            _change_share(service, release)
            if number % (changes // kills) == 0:
                _kill_canary(service)
            if number % (changes // restarts) == 1:
                _restart_gateway(service)
            say(f"share {number + 1} of {changes}")
            time.sleep(PAUSE_S)
        wait(lambda: len(seen()) >= requests, f"{requests} calls", 3600)
        calls = seen()
    return Losses(
        len(calls), Counter(c.outcome for c in calls if c.failed), Counter(c.version for c in calls if not c.failed)
    )


def _change_share(service: LiveService, release: Release) -> None:
    """Another share, as a controller gives it: none while the canary is away."""
    with suppress(DependencyDown):  # the gateway is being restarted: asked again at the next change
        try:
            split = service.ports.router.read(NAME)
            canary = servers_of(service.ports, NAME, release.sealed.bundle_digest).arm()
            set_share(service.ports, release, service.token, split.shared(canary, random.uniform(5, 95), LEASE_S))
        except DependencyDown:
            send_home(service.ports, release, service.token)


def _kill_canary(service: LiveService) -> None:
    """SIGKILL under load; then it is started anew, without the pause that a crash loop would earn it."""
    unit = next(u for u in service.ports.runtime.units(NAME) if u.name == service.candidate_unit)
    service.kill(unit.name, signal.SIGKILL)
    service.ports.runtime.remove(unit.name)
    time.sleep(PAUSE_S)
    service.ports.runtime.ensure(unit)
    service.wait_ready(unit.name)


def _restart_gateway(service: LiveService) -> None:
    """SIGTERM under load: it drains and ends, and another one begins."""
    name = gateway_name(NAME)
    service.wait_ready(name, other_than=service.kill(name, signal.SIGTERM))
