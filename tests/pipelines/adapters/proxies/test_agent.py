"""What does a agent do when its proxy does not do as it is told? The proxy here can be made to refuse."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.adapters.proxies.agent import Agent
from pipelines.adapters.proxies.lanes import LANES, Reading, Readings
from pipelines.adapters.proxies.proxy import ProxyTrouble
from pipelines.records.split import Arm, Generation, TrafficSplit
from pipelines.serving.split.snapshot import SplitSnapshot

STABLE, CANARY = (Arm(f"sha256:{n}", (f"http://127.0.0.1:{n}",)) for n in (1, 2))
HALF = TrafficSplit((1, 2), STABLE, CANARY, 50.0, 60.0)


class ObedientProxy:
    """Shows what it was told; `refused` shares and `deaf` are what it does not take."""

    def __init__(self) -> None:
        self.split = TrafficSplit()
        self.lane = 0
        self.refused: set[float] = set()
        self.deaf = False

    def start(self, split: TrafficSplit) -> None:
        """As told."""
        self.split = split

    def apply(self, split: TrafficSplit, lane: int) -> None:
        """As told, or not at all."""
        if self.deaf:
            raise ProxyTrouble("it does not answer")
        if split.canary_pct not in self.refused:
            self.split, self.lane = split, lane

    def shown(self) -> tuple[Generation, TrafficSplit]:
        """What was taken."""
        return self.split.generation, self.split

    def readings(self) -> Readings:
        """Nobody calls."""
        return {(lane, arm): Reading() for lane in range(LANES) for arm in ("stable", "canary")}

    def prune(self, split: TrafficSplit) -> None:
        """Nothing."""

    def metrics(self) -> bytes:
        """Nothing."""
        return b""

    def is_running(self) -> bool:
        """For ever."""
        return True

    def stop(self) -> None:
        """Nothing."""


@pytest.fixture
def proxy() -> ObedientProxy:
    """A proxy."""
    return ObedientProxy()


@pytest.fixture
def agent(proxy, tmp_path: Path) -> Agent:
    """Its agent, with a stable arm."""
    made = Agent(proxy, tmp_path / "split", 10.0)
    made.put(TrafficSplit((1, 1), STABLE), (0, 0))
    return made


def test_a_split_that_is_not_shown_goes_home(agent, proxy, tmp_path):
    """The controller gets an error, users get stable, and the snapshot says so."""
    proxy.refused = {50.0}
    with pytest.raises(ProxyTrouble):
        agent.put(HALF, (1, 1))
    home = agent.read()
    assert (home.canary, home.generation, home.reason) == (None, (1, 2), "not_applied")
    assert SplitSnapshot(tmp_path / "split").read().generation == (1, 2)
    assert not agent.is_lost


def test_a_proxy_that_cannot_be_told_to_go_home_must_end(agent, proxy):
    """At a refused write, and at the end of a lease."""
    agent.put(replace(HALF, lease_s=0.01), (1, 1))
    time.sleep(0.02)
    proxy.deaf = True
    with pytest.raises(ProxyTrouble):
        asyncio.run(agent.expire())
    assert agent.is_lost


def test_somebody_else_who_changes_the_proxy_is_noticed(agent, proxy):
    """What is read is what it shows, never what was remembered."""
    agent.put(HALF, (1, 1))
    proxy.split = replace(proxy.split, canary_pct=99.0)
    with pytest.raises(ProxyTrouble, match=r"99\.0"):
        agent.read()


def test_a_full_disk_refuses_a_share_and_lets_traffic_home(agent, monkeypatch):
    """Nothing is raised that would not be remembered; the way home is not held up."""
    agent.put(HALF, (1, 1))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(agent._snapshot, "write", full)
    with pytest.raises(OSError, match="No space"):
        agent.put(replace(HALF, generation=(1, 3), canary_pct=60.0), (1, 2))
    assert agent.read().canary_pct == 50.0
    assert agent.put(HALF.home((1, 3), "home"), (1, 2)).canary is None
