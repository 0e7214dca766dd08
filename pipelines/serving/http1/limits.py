"""How much may clients ask of one gateway, and how much do they ask now?"""

from __future__ import annotations

import resource
from contextlib import suppress
from dataclasses import dataclass, replace

MAX_BODY_BYTES = 2 * 1024 * 1024

FILES_KEPT = 64
"""File descriptors that are no connection: logs, sockets, the snapshot."""


@dataclass(frozen=True)
class Limits:
    """What one process serves at most. Times are seconds; a body is held whole, so that it can be asked again."""

    head_bytes: int = 32 * 1024
    target_bytes: int = 8 * 1024
    header_count: int = 100
    body_bytes: int = MAX_BODY_BYTES
    connections: int = 4096
    in_flight: int = 1024
    all_body_bytes: int = 64 * 1024 * 1024
    pipelined: int = 8
    header_s: float = 10.0
    body_s: float = 30.0
    idle_s: float = 75.0
    stalled_s: float = 60.0
    """So long a client may read nothing, and an arm may send nothing in the middle of a stream.

    In the middle of an answer whose length it said an arm is given the service's own time limit, where that is shorter.
    """
    pressed_s: float = 3.0
    """So long a client is waited for, who reads nothing or does not end his request, where others need the room."""


@dataclass
class Load:
    """What one process holds for its clients now."""

    connections: int = 0
    body_bytes: int = 0
    displaced: int = 0
    """Connections that nobody used, closed because too many were open; so far."""
    turned_away: int = 0
    """Connections that were refused because too many were open; so far."""


def with_files(limits: Limits) -> Limits:
    """The limits that this process's files allow: a connection of a client may need one to an arm as well."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_KEPT + limits.connections + limits.in_flight
    if soft < wanted:
        soft = min(wanted, hard) if hard != resource.RLIM_INFINITY else wanted
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    allowed = max(16, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - FILES_KEPT)
    in_flight = min(limits.in_flight, allowed // 3)
    return replace(limits, connections=min(limits.connections, allowed - in_flight), in_flight=in_flight)
