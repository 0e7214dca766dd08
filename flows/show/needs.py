"""How does a terminal say what traffic a plan needs?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def plan_lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """The lines of `shipway plan` about traffic: what there is, what each gate needs, and whether it can decide."""
    traffic = facts["traffic"]
    if traffic is not None:
        rate = "unknown" if traffic["requests_per_s"] is None else f"{traffic['requests_per_s']:.3g} requests/s"
        yield f"  traffic   {rate} ({traffic['source']}); {traffic['error_rate']:.2%} of the requests fail"
        yield from _gates(facts["gates_needed"])
        yield f"            for half of the releases, each gate alone; {_assumed(traffic['assumed'])}"
    yield f"  needs     {facts['needs']}"
    for number, help_ in enumerate(facts["helps"]):
        yield f"  {'' if number else 'helps':<9} {help_}"
    if facts["undecidable"] and facts["on_undecidable"] == "refuse":
        yield "  refused   on_undecidable: refuse, so `shipway release` ends with E_UNDECIDABLE"


def _gates(rows: list[Mapping[str, Any]]) -> Iterator[str]:
    for row in rows:
        promote = f"{_amount(row['promote'])} to promote, " if row["promote"] else ""
        yield f"  {'':<9} {row['gate']}: {promote}{_amount(row['catch'])} to catch {row['harm']}"


def _amount(reached: Mapping[str, float | None]) -> str:
    requests, minutes = reached["canary_requests"], reached["minutes"]
    if requests is None:
        return "far too many canary requests"
    return f"{requests:,.0f} canary requests" + ("" if minutes is None else f" ({minutes:.1f} min)")


def _assumed(names: list[str]) -> str:
    """What was not measured is as in the simulated releases."""
    if not names:
        return "errors, latency and scores as measured"
    return f"not measured, so taken from the simulated releases: {', '.join(names)}"
