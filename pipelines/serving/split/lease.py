"""What happens when a lease ends? All traffic goes to stable, unless stable is dead."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from time import monotonic
from urllib.parse import urlsplit

from pipelines.records.split import Arm, TrafficSplit
from pipelines.serving.split.store import SplitStore

TICK_S = 0.05
"""How often whoever holds a split asks whether its lease has ended."""

REACHED_S = 1.0
PORTS = {"http": 80, "https": 443}


async def ended_lease(store: SplitStore) -> TrafficSplit | None:
    """The split that is due because nobody renewed the lease; None while it lasts, and while stable is dead."""
    if not store.is_overdue(monotonic()) or await _is_home_dead(store.split):
        return None
    # Asked again: a renewal may have arrived while stable was looked at.
    return store.expired() if store.is_overdue(monotonic()) else None


async def _is_home_dead(split: TrafficSplit) -> bool:
    """Whether stable cannot be reached while the canary can: traffic never moves to a dead arm."""
    if split.stable is None or split.canary is None or await _is_reachable(split.stable):
        return False
    return await _is_reachable(split.canary)


async def _is_reachable(arm: Arm) -> bool:
    """Whether some replica of an arm accepts connections."""
    for url in arm.urls:
        parts = urlsplit(url)
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(REACHED_S):
                _, writer = await asyncio.open_connection(parts.hostname, parts.port or PORTS[parts.scheme])
            writer.close()
            return True
    return False
