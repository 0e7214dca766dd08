"""How does a controller write traffic? Always fenced by its lock, always read back.

These are the only writers of a service's split besides the gateway itself (whose lease ends) and `reconcile`
(which gives a gateway that lost its snapshot its stable arm back).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pipelines.errors import DependencyDown, StaleWriter
from pipelines.ports import Ports, Token
from pipelines.records.release import Release
from pipelines.records.split import Generation, TrafficSplit
from pipelines.services.units import servers_of

SAME_SHARE = 1e-6


def next_generation(current: Generation, token: Token) -> Generation:
    """The generation of our next write. StaleWriter where a later lock holder has written."""
    fence, n = current
    if fence > token.fence:
        raise StaleWriter(f"the router obeys fence {fence}; this controller holds {token.fence}", code="E_FENCED")
    return (token.fence, n + 1 if fence == token.fence else 1)


def share_of_ours(release: Release, split: TrafficSplit) -> float:
    """The share that the router shows for this release's bytes, in percent."""
    if release.candidate is None or split.canary is None or split.canary.digest != release.candidate.bundle_digest:
        return 0.0
    return split.canary_pct


def set_share(ports: Ports, release: Release, token: Token, wanted: TrafficSplit) -> TrafficSplit:
    """Give the canary a share under a lease: `wanted` is the split that was read, with that share.

    DependencyDown where the router then shows another share.
    """
    generation = next_generation(wanted.generation, token)
    ours = replace(wanted, generation=generation, reason=release.id)
    shown = ports.router.write(release.service, ours, wanted.generation)
    if abs(share_of_ours(release, shown) - wanted.canary_pct) > SAME_SHARE:
        raise DependencyDown(
            f"the router shows {shown.canary_pct:g} % instead of {wanted.canary_pct:g} %", code="E_ROUTER"
        )
    return shown


def send_home(ports: Ports, release: Release, token: Token) -> TrafficSplit:
    """All traffic to stable; where it is there already, only an earlier holder of the lock is shut out."""
    split = ports.router.read(release.service)
    if split.canary is None and _is_fenced(split, token):
        return split
    generation = next_generation(split.generation, token)
    return ports.router.write(release.service, split.home(generation, f"{release.id}: home"), split.generation)


def try_way_back(
    ports: Ports, release: Release, token: Token, lease_s: float, clock: Callable[[], float]
) -> float | None:
    """How many ms does the way home take? Walked with a share of 0 %, so that no user is on it.

    None on a first release, which has no stable arm to go home to.
    """
    split = ports.router.read(release.service)
    if split.stable is None:
        return None
    arm = servers_of(ports, release.service, release.sealed.bundle_digest).arm()
    set_share(ports, release, token, split.shared(arm, 0.0, lease_s))
    began = clock()
    shown = send_home(ports, release, token)
    if shown.canary is not None:
        raise DependencyDown("the way home was tried, and the router did not take it", code="E_ROUTER")
    return round((clock() - began) * 1000, 3)


def make_stable(ports: Ports, service: str, digest: str | None, token: Token, reason: str) -> TrafficSplit:
    """All traffic to these bytes, under no lease: from now on they are stable. None: nobody serves, as at first."""
    split = ports.router.read(service)
    arm = servers_of(ports, service, digest).arm() if digest is not None else None
    if split.canary is None and split.stable == arm and _is_fenced(split, token):
        return split
    generation = next_generation(split.generation, token)
    home = replace(split.home(generation, reason), stable=arm)
    return ports.router.write(service, home, split.generation)


def shut_out_others(ports: Ports, service: str, token: Token) -> TrafficSplit:
    """What the router shows now, under our fence: an earlier holder of the lock can move nothing any more."""
    split = ports.router.read(service)
    if _is_fenced(split, token):
        return split
    return ports.router.write(
        service, replace(split, generation=next_generation(split.generation, token)), split.generation
    )


def _is_fenced(split: TrafficSplit, token: Token) -> bool:
    """Whether the router refuses every earlier holder of the lock: one that was paused may still be about to write."""
    return split.generation[0] >= token.fence
