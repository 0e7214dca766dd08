"""What in a home does nobody need any more?

Pure: `flows/up/housekeeping.py` looks, asks `decide_litter`, and removes what it says. Whatever is not known counts as
needed: a router or a record that cannot be read, or a release that has not said yet which bytes it will serve, keeps
every bundle. A broken record that is ended, by itself or set aside by a person, keeps no more than its row names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipelines.records.service import Deployment, Service
from pipelines.records.summary import Summary

DEFAULT_RETAIN_S = 86_400.0
PAGES_S = 30 * 86_400.0
"""How long the pages of a release stay that has ended: they hold rows, and the record says what they proved."""


@dataclass(frozen=True)
class Stored:
    """Something on the disk: its name in its folder, its size, and how long ago it was last changed."""

    name: str
    size_bytes: int
    age_s: float


@dataclass(frozen=True)
class Inventory:
    """What lies in a home. Bundles are named by their digest, working folders by their release."""

    bundles: tuple[Stored, ...] = ()
    works: tuple[Stored, ...] = ()
    rotated_logs: tuple[Stored, ...] = ()
    records: tuple[Stored, ...] = ()
    """Recorded requests, by service."""
    pages: tuple[Stored, ...] = ()
    """What is kept of evaluations, by release."""


@dataclass(frozen=True)
class Uses:
    """Who may need something. `routed` None means that a router could not be read.

    `unreadable` are services whose records cannot be read.
    """

    services: tuple[Service, ...] = ()
    releases: tuple[Summary, ...] = ()
    units: frozenset[str] = frozenset()
    routed: frozenset[str] | None = frozenset()
    unreadable: tuple[str, ...] = ()


@dataclass(frozen=True)
class Litter:
    """What nobody needs, and why the rest of the bundles must stay where that is not obvious."""

    bundles: tuple[Stored, ...] = ()
    works: tuple[Stored, ...] = ()
    rotated_logs: tuple[Stored, ...] = ()
    why_kept: str = ""
    records: tuple[Stored, ...] = ()
    pages: tuple[Stored, ...] = ()

    @property
    def size_bytes(self) -> int:
        """How much removing all of it frees."""
        of_releases = (*self.works, *self.pages)
        return sum(item.size_bytes for item in (*self.bundles, *of_releases, *self.rotated_logs, *self.records))


def decide_litter(there: Inventory, uses: Uses, now_s: float) -> Litter:
    """Which bundles, working folders, rotated logs, recorded requests and pages can go?"""
    why_kept = _why_all_bundles_stay(uses)
    needed = needed_digests(uses, now_s)
    by_id = {release.id: release for release in uses.releases}
    return Litter(
        () if why_kept else tuple(b for b in there.bundles if b.name not in needed),
        tuple(work for work in there.works if _is_over(work, by_id)),
        there.rotated_logs,
        why_kept,
        tuple(record for record in there.records if _is_forsaken(record, uses)),
        tuple(page for page in there.pages if page.age_s > PAGES_S and _is_over(page, by_id)),
    )


def needed_digests(uses: Uses, now_s: float) -> frozenset[str]:
    """Which bundles does a service, a unit, a router, or a release that is not long over name?"""
    by_services = (d.digest for s in uses.services for d in _deployments(s))
    by_releases = (digest for r in uses.releases if not _is_long_over(r, now_s) for digest in _digests(r))
    return frozenset((*by_services, *by_releases, *uses.units, *(uses.routed or ())))


def digests_in_images(uses: Uses) -> frozenset[str]:
    """Which bundles were put into an image, too?"""
    return frozenset(r.bundle_digest for r in uses.releases if r.image)


def _why_all_bundles_stay(uses: Uses) -> str:
    if uses.routed is None:
        return "a router does not answer, so nobody knows what it serves"
    for name in uses.unreadable:
        return f"the record of service {name} cannot be read, so nobody knows what it needs"
    running = [release for release in uses.releases if not release.is_ended]
    for broken in (release for release in running if release.broken):
        return (
            f"the record of release {broken.id} is broken, so nobody knows what it needs: shipway resolve {broken.id}"
        )
    early = next((release for release in running if not release.bundle_digest), None)
    return f"release {early.id} has not chosen its bundle yet" if early else ""


def _deployments(service: Service) -> Iterable[Deployment]:
    """All that the record names, parked ones whose time is over too: a person may still go back by hand."""
    return (d for d in (service.stable, service.previous, service.candidate) if d is not None)


def _digests(release: Summary) -> Sequence[str]:
    return (release.bundle_digest, release.champion_digest)


def _is_long_over(release: Summary, now_s: float) -> bool:
    """Of a broken record only the beginning may be known."""
    retain_s = DEFAULT_RETAIN_S if release.retain_s is None else release.retain_s
    ended_at_s = release.started_at_s if release.ended_at_s is None else release.ended_at_s
    return release.is_ended and now_s - ended_at_s > retain_s


def _is_over(work: Stored, by_id: Mapping[str, Summary]) -> bool:
    """Its release has ended. A folder without a record may be of one that is just being opened, for a day."""
    release = by_id.get(work.name)
    return release.is_ended if release else work.age_s > DEFAULT_RETAIN_S


def _is_forsaken(record: Stored, uses: Uses) -> bool:
    """Its service was taken down, or records no more. One without a service may be just beginning, for a day."""
    if record.name in uses.unreadable:
        return False
    service = next((s for s in uses.services if s.name == record.name), None)
    return not (service.wanted and service.settings.record) if service else record.age_s > DEFAULT_RETAIN_S
