"""Which share does a candidate have right now, by what the router itself says?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.ports import Ports


def live_of(ports: Ports, service: str) -> dict[str, Any]:
    """The split as plain data, or why it is not known; `idle` where there is none to be known."""
    from pipelines.errors import ShipwayError

    try:
        return ports.router.read(service).as_dict()
    except ShipwayError as error:
        idle = _idle(ports, service)
        return {"unknown": idle, "idle": True} if idle else {"unknown": str(error)}


def _idle(ports: Ports, service: str) -> str:
    """Why no gateway can answer, where that is as it should be; "" where one should."""
    from pipelines.errors import NotFound, ShipwayError

    try:
        found = ports.services.load(service)
    except NotFound:
        return "nothing serves yet"
    except ShipwayError:
        return ""
    if not found.wanted:
        return f"{service} is stopped (shipway down)"
    return "" if found.stable else "nothing serves yet"


def traffic_line(live: Mapping[str, Any]) -> str:
    """The same for a person."""
    if "unknown" in live:
        return str(live["unknown"]) if live.get("idle") else f"unknown: {live['unknown']}"
    canary = live["canary"]
    return f"canary {canary['pct']:g} %, lease {live['lease_s']:g} s" if canary else "all at stable"
