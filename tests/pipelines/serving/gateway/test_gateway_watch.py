"""What if the gateway's own watch breaks or is overtaken, or its disk is full?"""

from __future__ import annotations

import asyncio
import errno
from dataclasses import replace

import pytest

from pipelines.records.split import Arm, TrafficSplit
from pipelines.serving.gateway.gateway import listening, serve
from pipelines.serving.requests.data_plane import DataPlane, Serving
from pipelines.serving.split import lease

STABLE, CANARY = (Arm(f"sha256:{n}", (f"http://127.0.0.1:{n}",)) for n in (1, 2))
EXPOSED = TrafficSplit((1, 1), STABLE, CANARY, 50.0, 0.01)


@pytest.fixture
def gateway(tmp_path) -> DataPlane:
    """A gateway that listens nowhere yet."""
    return DataPlane(tmp_path / "split", Serving())


def test_a_gateway_whose_watch_broke_ends(gateway, tmp_path, monkeypatch):
    """Nobody would take its users home: it ends, and is started again all-stable."""

    async def broken() -> None:
        raise RuntimeError("surprise")

    monkeypatch.setattr(gateway, "watch", broken)
    door = listening("127.0.0.1", 0)
    with pytest.raises(RuntimeError, match="surprise"):
        asyncio.run(asyncio.wait_for(serve(gateway, door, tmp_path / "g.sock"), 10))


@pytest.mark.parametrize("is_renewed", [False, True])
def test_a_renewal_that_arrives_while_stable_is_looked_at_counts(gateway, monkeypatch, is_renewed):
    """The gateway goes home only where the lease is still over after the look."""

    async def look(_: Arm) -> bool:
        if is_renewed and gateway.store.split.generation == (1, 1):
            gateway.put(replace(EXPOSED, generation=(1, 2), lease_s=60.0), (1, 1))
        return True

    async def watched() -> None:
        gateway.put(EXPOSED, (0, 0))
        watch = asyncio.create_task(gateway.watch())
        await asyncio.sleep(0.3)
        watch.cancel()

    monkeypatch.setattr(lease, "_is_reachable", look)
    asyncio.run(watched())
    assert (gateway.store.split.canary is not None) == is_renewed


def test_a_full_disk_does_not_hold_up_the_way_home(gateway, monkeypatch):
    """What lowers the canary's share is in force at once; what raises it, or changes stable, must be durable."""
    gateway.put(EXPOSED, (0, 0))

    def full(_):
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(gateway.snapshot, "write", full)
    with pytest.raises(OSError, match="no space"):
        gateway.put(replace(EXPOSED, generation=(1, 2), canary_pct=90.0), (1, 1))
    with pytest.raises(OSError, match="no space"):
        gateway.put(TrafficSplit((1, 2), CANARY), (1, 1))
    assert gateway.store.split.generation == (1, 1)
    assert gateway.put(EXPOSED.home((1, 2), "home"), (1, 1)).canary is None
