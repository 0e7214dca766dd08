"""How did the evidence on a canary come together, look by look?

Everything is read from the record: the judge's `progress`, which is log E over the log of what a decision needs, so
that 1 is the boundary of every line. Times are seconds since the canary's first users.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from pipelines.records.release import Event, Release
from pipelines.records.summary import summary_of
from pipelines.records.view import why

BOUNDARY = 1.0
HARMLESS = "_noninferior"
"""The end of the names of what a promotion needs; all other lines speak of harm."""


@dataclass(frozen=True)
class Line:
    """One metric's evidence: a value for each look, None where it was not judged."""

    metric: str
    of: str
    """`harm`, or `harmlessness`."""
    values: tuple[float | None, ...]
    last: float | None
    largest: float
    crossed_s: float | None
    """When it first reached the boundary, and after how many judged canary requests; None where it never did."""
    crossed_at_requests: int | None
    alpha_share: float | None
    """Its weight in the mean that sends home, where that was declared."""


@dataclass(frozen=True)
class Share:
    """The canary's share of the traffic for a time."""

    pct: float
    from_s: float
    to_s: float


@dataclass(frozen=True)
class EvidenceSeries:
    """A release's evidence over time. `looks_s` and `canary_requests` have a value for each look."""

    id: str
    service: str
    model: str
    version: int | None
    phase: str
    why: str
    looks_s: tuple[float, ...]
    canary_requests: tuple[int, ...]
    stable_requests: tuple[int, ...]
    shares: tuple[Share, ...]
    ended_s: float | None
    lines: tuple[Line, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def evidence_series(release: Release) -> EvidenceSeries:
    """The evidence of each recorded look; a release that no user met has none."""
    looks = release.of_kind("looked")
    first = next(iter(release.of_kind("exposed")), None)
    began_s = first.at_s if first else release.started_at_s
    summary = summary_of(release)
    return EvidenceSeries(
        id=release.id,
        service=release.service,
        model=str(summary.model),
        version=summary.version,
        phase=str(release.phase),
        why=why(release),
        looks_s=tuple(round(look.at_s - began_s, 3) for look in looks),
        canary_requests=tuple(look.data["verdict"]["canary_requests"] for look in looks),
        stable_requests=tuple(look.data["verdict"]["stable_requests"] for look in looks),
        shares=tuple(_shares(release, began_s)),
        ended_s=round(release.ended_at_s - began_s, 3) if release.ended_at_s and first else None,
        lines=tuple(_lines(looks, began_s, _alpha_shares(release))),
    )


def _lines(looks: tuple[Event, ...], began_s: float, shares: Mapping[str, float]) -> Iterator[Line]:
    """Every metric that some look judged, in the order in which it appeared."""
    names = dict.fromkeys(name for look in looks for name in look.data["verdict"]["progress"])
    for name in names:
        values = tuple(look.data["verdict"]["progress"].get(name) for look in looks)
        crossed = next((look for look, v in zip(looks, values, strict=True) if v is not None and v >= BOUNDARY), None)
        yield Line(
            metric=name.removesuffix(HARMLESS),
            of="harmlessness" if name.endswith(HARMLESS) else "harm",
            values=values,
            last=values[-1],
            largest=max(v for v in values if v is not None),
            crossed_s=round(crossed.at_s - began_s, 3) if crossed else None,
            crossed_at_requests=crossed.data["verdict"]["canary_requests"] if crossed else None,
            alpha_share=shares.get(name),
        )


def _alpha_shares(release: Release) -> Mapping[str, float]:
    declared = release.last("judging")
    return dict(declared.data["alpha_shares"]) if declared else {}


def _shares(release: Release, began_s: float) -> Iterator[Share]:
    """From each exposure to what changed it: the next one, an interruption, the way home, the end."""
    turns = [e for e in release.events if e.kind in {"exposed", "interrupted", "went_home"}]
    for turn, following in pairwise([*turns, release.events[-1]]):
        if turn.kind == "exposed":
            yield Share(turn.data["pct"], round(turn.at_s - began_s, 3), round(following.at_s - began_s, 3))
