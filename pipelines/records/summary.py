"""What does one line say about a release? Made of the release, kept beside its record, and read without its events."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from types import UnionType
from typing import Any

from pipelines.records.release import Phase, Release

NOT_KEPT = frozenset({"broken"})
"""What is known of the row, not of the release."""


@dataclass(frozen=True)
class Summary:
    """A release as lists, counts and housekeeping see it. What is not known yet is None or "".

    `broken` says why the record cannot be used; such a one has no outcome. `is_ended` is also so of a broken record
    that a person has set aside.
    """

    id: str
    service: str = ""
    model: str | None = None
    version: int | None = None
    phase: str = ""
    outcome: str | None = None
    is_ended: bool = False
    started_at_s: float = 0.0
    ended_at_s: float | None = None
    confirmed_pct: float = 0.0
    intended_pct: float = 0.0
    spec_digest: str = ""
    bundle_digest: str = ""
    champion_digest: str = ""
    image: str = ""
    retain_s: float | None = None
    label: str = ""
    reason: str = ""
    broken: str = ""

    def line(self) -> dict[str, Any]:
        """The line that `shipway list --json` and the API give."""
        line = {
            "id": self.id,
            "service": self.service,
            "model": self.model,
            "version": self.version,
            "phase": self.phase,
            "outcome": self.outcome,
            "started_at": self.started_at_s,
            "ended_at": self.ended_at_s,
        }
        return {**line, "broken": self.broken} if self.broken else line

    def as_broken(self, why: str) -> Summary:
        """The same, of a record that cannot be used."""
        return replace(self, outcome=None, broken=why)

    def as_text(self) -> str:
        """What is kept of it, as JSON."""
        return json.dumps({n: v for n, v in asdict(self).items() if n not in NOT_KEPT}, sort_keys=True)


def summary_of(release: Release) -> Summary:
    """The summary of a release."""
    candidate, champion, retain = release.candidate, release.champion or {}, release.spec.get("retain")
    model = candidate.model if candidate else release.spec.get("model")
    return Summary(
        id=release.id,
        service=release.service,
        model=None if model is None else str(model),
        version=candidate.version if candidate else None,
        phase=str(release.phase),
        outcome=release.outcome,
        is_ended=release.is_ended,
        started_at_s=float(release.started_at_s),
        ended_at_s=None if release.ended_at_s is None else float(release.ended_at_s),
        confirmed_pct=float(release.confirmed_pct),
        intended_pct=float(release.intended_pct),
        spec_digest=release.spec_digest,
        bundle_digest=candidate.bundle_digest if candidate else "",
        champion_digest=str(champion.get("digest", "")),
        image=candidate.image if candidate else "",
        retain_s=float(retain) if isinstance(retain, int | float) else None,
        label=release.label,
        reason=release.reason,
    )


def read_summary(text: str, known: Mapping[str, Any]) -> Summary:
    """The summary of what was kept; `known` stands beside it, and wins. One that cannot be read is a broken one.

    What a newer Shipway wrote beside is passed over; a phase that is not known here is not.
    """
    try:
        kept = json.loads(text)
        said = {name: kept[name] for name in _KINDS if name in kept}
        wrong = [name for name, value in said.items() if not isinstance(value, _KINDS[name])]
    except (ValueError, TypeError, RecursionError):
        return Summary(**known).as_broken("its row cannot be read")
    summary = Summary(**{**{name: value for name, value in said.items() if name not in wrong}, **known})
    if wrong:
        return summary.as_broken(f"its row cannot be read: {', '.join(wrong)}")
    if summary.phase not in _PHASES:
        return summary.as_broken(f"the phase {summary.phase[:40]!r} is not known to this Shipway")
    return summary


_PHASES = frozenset(map(str, Phase))
_OF_NAME: Mapping[str, type | UnionType] = {
    "str": str,
    "str | None": str | None,
    "int | None": int | None,
    "bool": bool,
    "float": float | int,
    "float | None": float | int | None,
}
_KINDS = {field.name: _OF_NAME[str(field.type)] for field in fields(Summary) if field.name not in NOT_KEPT}
