"""What is there to see at one look? Read once, so that everything that is decided at it sees one world."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from evals.signals.strata import Stratum
from pipelines.errors import DependencyDown
from pipelines.ports import Command, Now, Ports, StrataQuery
from pipelines.records.release import Release
from pipelines.records.split import TrafficSplit
from pipelines.rollout.watch import Watch
from pipelines.services.units import Servers, gateway_name, servers_by_digest


@dataclass(frozen=True)
class Scene:
    """Everything that one look reads, as it was then."""

    now: Now
    split: TrafficSplit
    """What the router shows."""
    servers: Mapping[str, Servers]
    """The candidate's, those of what is stable, and those of what was stable when the release began; by digest."""
    strata: tuple[Stratum, ...] = ()
    """What the gateway has decided since the last look, whoever it was routed for."""
    blind: str = ""
    """Why there are no strata, where their source is down."""
    words: tuple[Command, ...] = ()
    """What people ask for, oldest first. Where words cannot be read the look goes on: harm waits for no database."""
    url: str = ""
    """Where users are served."""


def read_scene(ports: Ports, release: Release, watch: Watch, now: Now) -> Scene:
    """Read it. DependencyDown where the router or the runtime does not answer: without them nothing is decided."""
    split = ports.router.read(release.service)
    strata, blind = _evidence(ports, release, watch, now)
    servers = servers_by_digest(ports, release.service, _digests(release, split))
    url = ports.runtime.status(gateway_name(release.service)).url
    return Scene(now, split, servers, strata, blind, _words(ports, release), url)


def read_again(ports: Ports, release: Release, scene: Scene) -> Scene:
    """The same world after something slow: the servers are probed afresh, and people may have spoken."""
    servers = servers_by_digest(ports, release.service, scene.servers)
    return replace(scene, servers=servers, words=_words(ports, release))


def _digests(release: Release, split: TrafficSplit) -> Iterable[str]:
    """Whose servers matter: nobody is kept waiting by a probe of any other."""
    yield release.sealed.bundle_digest
    if split.stable is not None:
        yield split.stable.digest
    if release.champion is not None:
        yield str(release.champion["digest"])


def _evidence(ports: Ports, release: Release, watch: Watch, now: Now) -> tuple[tuple[Stratum, ...], str]:
    try:
        return ports.metrics.measure(StrataQuery(release.service, watch.after, watch.boot), now), ""
    except DependencyDown as error:
        return (), str(error)


def _words(ports: Ports, release: Release) -> tuple[Command, ...]:
    try:
        return ports.inbox.pending(release.id)
    except DependencyDown:
        return ()
