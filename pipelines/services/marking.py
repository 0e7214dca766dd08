"""What should the registry say of a release that has come to its end?

An alias names the bytes that serve, and every version that a release has judged says how that went. Two services may
run one model, so each of them has an alias of its own (`registry: {alias: …}`) and a verdict under its own name.
"""

from __future__ import annotations

from pipelines.ports import BUNDLE_TAG
from pipelines.records.debt import Debt
from pipelines.records.release import Candidate, Phase, Release
from pipelines.records.service import Deployment

DEFAULT_ALIAS = "champion"

APPROVED, REJECTED, PENDING = "approved", "rejected", "pending"
"""What MLflow's documentation puts into `validation_status`."""


def alias_of(release: Release) -> str:
    """The alias that the release's service owns."""
    return str(release.spec.get("registry", {}).get("alias", DEFAULT_ALIAS))


def alias_debts(release: Release) -> tuple[Debt, ...]:
    """The alias that should name what serves now, from where the release found it, or from what served before.

    An alias that is gone, with its version for instance, is nobody else's. Nothing back at an adopted endpoint, which
    no registry knows.
    """
    candidate = release.sealed
    if not candidate.model:
        return ()
    serving, made = _serving(candidate)
    expected = (champion_version(release), served_before(release), None)
    return (Debt(release.id, candidate.model, serving, made, alias_of(release), tuple(dict.fromkeys(expected))),)


def champion_version(release: Release) -> int | None:
    """The version that the alias named when the release began."""
    resolved = release.last("resolved")
    value = resolved.data.get("alias_champion") if resolved else None
    return int(value) if value is not None else None


def served_before(release: Release) -> int | None:
    """The version that served when the release began; an alias that names it was moved there by this service."""
    champion = release.champion
    return int(champion["version"]) if champion and champion["bundle"] else champion_version(release)


def promotion_debts(release: Release) -> tuple[Debt, ...]:
    """Beside the alias: what served before, and the verdict on both versions of the candidate."""
    old, candidate = champion_version(release), release.sealed
    if not candidate.model:
        return ()
    previous = f"previous-{alias_of(release)}"
    parked = (Debt(release.id, candidate.model, old, alias=previous),) if old and old != _serving(candidate)[0] else ()
    return (*parked, *verdict_debts(release, Phase.PROMOTED))


def verdict_debts(release: Release, end: Phase) -> tuple[Debt, ...]:
    """How the release ended, on the version that was asked for and on the compressed one that was made of it."""
    candidate = release.candidate
    if candidate is None or not candidate.model or end is Phase.ABORTED:
        return ()  # a release that a person stopped says nothing about its version
    serving, made = _serving(candidate)
    tags = _tags(release, end, _status(release, end))
    bundle = {BUNDLE_TAG: candidate.bundle_digest} if candidate.bundle_digest else {}
    served = Debt(release.id, candidate.model, serving, made, tags={**tags, **bundle})
    asked = Debt(release.id, candidate.model, candidate.version, candidate.made, tags=tags)
    return (served,) if serving == candidate.version else (served, asked)


def withdrawal_debts(release: Release, taken: Deployment) -> tuple[Debt, ...]:
    """What a person took away is not approved any more, whatever is said of what came back."""
    if not taken.model:
        return ()
    numbers = {taken.source_version or taken.version: taken.source_made, taken.version: taken.made}
    tags = _tags(release, Phase.ROLLED_BACK, REJECTED)
    return tuple(Debt(release.id, taken.model, n, made, tags=tags) for n, made in numbers.items())


def returned_alias_debts(release: Release) -> tuple[Debt, ...]:
    """The alias back to where the release found it, if it was this release that moved it."""
    old, candidate = champion_version(release), release.sealed
    if old is None or not candidate.model:
        return ()
    return (Debt(release.id, candidate.model, old, alias=alias_of(release), expected=(_serving(candidate)[0],)),)


def _serving(candidate: Candidate) -> tuple[int, str]:
    """The version that holds the bytes that serve, and its registration."""
    if candidate.serving_version is None or candidate.serving_version == candidate.version:
        return candidate.version, candidate.made or candidate.serving_made
    return candidate.serving_version, candidate.serving_made


def _status(release: Release, end: Phase) -> str:
    """Approved is what was promoted and nothing else; who was taken back without being accused is looked at again."""
    match end:
        case Phase.PROMOTED:
            return APPROVED
        case Phase.REJECTED:
            return REJECTED
        case Phase.ROLLED_BACK:
            return REJECTED if release.convicted else PENDING
        case _:
            return ""


def _tags(release: Release, end: Phase, status: str) -> dict[str, str]:
    said = {"shipway.release_id": release.id, "shipway.verdict": str(end)}
    own = {f"shipway.verdict.{release.service}": str(end)}
    return {**said, **own, **({"validation_status": status} if status else {})}
