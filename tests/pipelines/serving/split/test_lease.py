"""What happens when a lease ends: home, unless stable is dead; and what is written down of it."""

from __future__ import annotations

import asyncio
import errno
from dataclasses import replace
from time import monotonic

import pytest

from pipelines.records.split import Arm, TrafficSplit
from pipelines.serving.split import lease
from pipelines.serving.split.lease import ended_lease
from pipelines.serving.split.snapshot import SplitSnapshot
from pipelines.serving.split.store import SplitStore

STABLE, CANARY = (Arm(f"sha256:{n}", (f"http://127.0.0.1:{n}",)) for n in (1, 2))
EXPOSED = TrafficSplit((1, 1), STABLE, CANARY, 50.0, 60.0)


def exposed(*, ended: bool) -> SplitStore:
    """A store whose canary has a lease."""
    store = SplitStore(TrafficSplit(), "b")
    store.put(EXPOSED, (0, 0), monotonic() - (61.0 if ended else 0.0))
    return store


def due(store: SplitStore, monkeypatch, *alive: Arm) -> TrafficSplit | None:
    """The way home that is due while these arms accept connections."""

    async def is_reachable(arm: Arm) -> bool:
        return arm in alive

    monkeypatch.setattr(lease, "_is_reachable", is_reachable)
    return asyncio.run(ended_lease(store))


@pytest.mark.parametrize(
    ("alive", "is_due"), [((STABLE, CANARY), True), ((STABLE,), True), ((CANARY,), False), ((), True)]
)
def test_an_ended_lease_goes_home_unless_home_is_dead(monkeypatch, alive, is_due):
    """Where nobody is alive home is as good as the canary, and nobody is left with what is not watched."""
    home = due(exposed(ended=True), monkeypatch, *alive)
    assert (home is not None) == is_due
    assert home is None or (home.canary, home.generation, home.reason) == (None, (1, 2), "lease_expired")


def test_a_lease_that_lasts_takes_nobody_home(monkeypatch):
    """Whoever is alive."""
    assert due(exposed(ended=False), monkeypatch, STABLE, CANARY) is None


def test_a_split_without_a_canary_has_no_lease(monkeypatch):
    """It is home."""
    assert due(SplitStore(TrafficSplit((1, 1), STABLE), "b"), monkeypatch, STABLE) is None


def test_a_renewal_that_arrives_meanwhile_counts(monkeypatch):
    """Looking at stable takes up to a second."""
    store = exposed(ended=True)

    async def renews(_: Arm) -> bool:
        store.put(replace(EXPOSED, generation=(1, 2)), (1, 1), monotonic())
        return True

    monkeypatch.setattr(lease, "_is_reachable", renews)
    assert asyncio.run(ended_lease(store)) is None


def test_a_split_outlives_its_process(tmp_path):
    """What was written is read."""
    SplitSnapshot(tmp_path / "split").write(EXPOSED)
    assert SplitSnapshot(tmp_path / "split").read() == EXPOSED


@pytest.mark.parametrize("text", [None, "", "{", "[]", "null", '{"generation": [1, 1], "canary": {"digest": "x"}}'])
def test_an_unreadable_split_is_an_empty_one(tmp_path, text):
    """Nobody is served until somebody says by whom."""
    if text is not None:
        (tmp_path / "split").write_text(text)
    assert SplitSnapshot(tmp_path / "split").read() == TrafficSplit()


def test_without_a_path_nothing_is_kept():
    """A worker's split is its keeper's."""
    nowhere = SplitSnapshot(None)
    nowhere.write(EXPOSED)
    assert nowhere.read() == TrafficSplit()


def test_only_the_way_home_is_not_held_up_by_a_full_disk(tmp_path, monkeypatch):
    """A share that could not be remembered is not given."""
    snapshot = SplitSnapshot(tmp_path / "split")

    def full(_: TrafficSplit) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(snapshot, "write", full)
    snapshot.replace(EXPOSED, EXPOSED.home((1, 2), "home"))
    for after in (replace(EXPOSED, generation=(1, 2), canary_pct=90.0), TrafficSplit((1, 2), CANARY)):
        with pytest.raises(OSError, match="no space"):
            snapshot.replace(EXPOSED, after)
