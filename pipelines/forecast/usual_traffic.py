"""What traffic has this service? Asked of its running gateway, or read from the record of its last release."""

from __future__ import annotations

from itertools import islice

from evals.planning.usual import Usual, usual_of
from evals.signals.strata import Stratum
from pipelines.errors import DependencyDown
from pipelines.ports import Now, Ports, StrataQuery
from pipelines.records.reading import readable

MOST_RELEASES = 3
"""Older ones say little about today."""


def measured(ports: Ports, service: str, now: Now) -> tuple[Usual, str] | None:
    """What is usual there, and who says so; None where nobody knows."""
    try:
        live = usual_of(ports.metrics.measure(StrataQuery(service), now))
    except DependencyDown:
        live = None
    if live is not None:
        return live, "measured at the running gateway"
    for release in islice(readable(ports.ledger, service), MOST_RELEASES):
        looks = release.of_kind("looked")
        usual = usual_of([Stratum.from_dict(raw) for look in looks for raw in look.data["strata"]])
        if usual is not None:
            return usual, f"measured during {release.id}"
    return None
