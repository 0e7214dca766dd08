"""The gateway's split: stale writers never win, leases go home, and a restart trusts nobody."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.records.split import Arm, TrafficSplit
from pipelines.serving.split.store import Refused, SplitStore

STABLE, CANARY = Arm("sha256:a", ("http://127.0.0.1:1",)), Arm("sha256:b", ("http://127.0.0.1:2",))


def exposed(generation: tuple[int, int], pct: float = 10.0, lease_s: float = 5.0) -> TrafficSplit:
    """A split with a canary."""
    return TrafficSplit(generation, STABLE, CANARY, pct, lease_s)


def serving() -> SplitStore:
    """A store whose stable arm is set at generation (1, 1)."""
    store = SplitStore(TrafficSplit(), "boot")
    store.put(TrafficSplit((1, 1), STABLE), (0, 0), 0.0)
    return store


def test_a_newer_split_replaces_the_expected_one():
    """Compare and set."""
    store = serving()
    assert store.put(exposed((1, 2)), (1, 1), 0.0).canary_pct == 10
    assert store.split.generation == (1, 2)


def test_saying_it_twice_is_fine():
    """A retry after a lost answer changes nothing, and does not lengthen the lease."""
    store = serving()
    store.put(exposed((1, 2)), (1, 1), 0.0)
    store.put(exposed((1, 2)), (1, 1), 4.0)
    assert store.is_overdue(5.0)


@pytest.mark.parametrize(
    ("generation", "expected"), [((1, 1), (1, 1)), ((0, 9), (1, 1)), ((1, 2), (1, 0)), ((2, 1), (2, 0))]
)
def test_a_stale_writer_is_refused(generation, expected):
    """An old fence, an old number, or a wrong expectation: nothing changes, and the current split is told."""
    store = serving()
    with pytest.raises(Refused) as refused:
        store.put(exposed(generation), expected, 0.0)
    assert refused.value.current == store.split
    assert store.split.canary is None


def test_a_lease_goes_home_and_keeps_the_fence():
    """Its end is the gateway's own write."""
    store = serving()
    store.put(exposed((1, 2)), (1, 1), 0.0)
    assert not store.is_overdue(4.99)
    assert store.is_overdue(5.0)
    store.adopt(store.expired())
    assert (store.split.generation, store.split.canary, store.split.reason) == ((1, 3), None, "lease_expired")
    assert not store.is_overdue(100.0)


def test_a_restart_is_all_stable_at_a_new_generation():
    """A share is only ever given by a living writer."""
    store = SplitStore(exposed((3, 7)), "new boot")
    assert (store.split.generation, store.split.canary, store.split.boot) == ((3, 8), None, "new boot")
    assert store.split.stable == STABLE


@pytest.mark.parametrize(
    "wrong",
    [
        {"canary_pct": 101.0},
        {"canary_pct": -1.0},
        {"canary_pct": float("nan")},
        {"lease_s": None},
        {"lease_s": 0.0},
        {"stable": None},
    ],
)
def test_an_impossible_split_cannot_be_made(wrong):
    """Shares outside 0 to 100, a canary without a lease or without a home."""
    with pytest.raises(ValueError, match=r"."):
        replace(exposed((1, 1)), **wrong)


def test_the_wire_form_survives():
    """A split reads back from its wire form."""
    split = exposed((1, 2))
    assert TrafficSplit.from_dict(split.as_dict()) == split


@pytest.mark.parametrize(
    "url", ["http://10.0.0.1:80", "http://127.0.0.1:1@10.0.0.1:80", "http://127.0.0.1:99999", "http://127.0.0.1", "x"]
)
def test_an_arm_elsewhere_than_on_loopback_is_none(url):
    """However its address is written."""
    with pytest.raises(ValueError, match=r"loopback|[Pp]ort"):
        Arm.from_dict({"digest": "x", "url": url})


writes = st.tuples(
    st.tuples(st.integers(0, 3), st.integers(0, 5)),
    st.tuples(st.integers(0, 3), st.integers(0, 5)),
    st.floats(0, 100),
    st.floats(0.1, 10),
)


@given(st.lists(writes, max_size=30))
def test_generations_only_ever_grow(sequence):
    """Whatever is written, in whatever order: the generation rises, shares sum to 100, and home stays known."""
    store, now_s = serving(), 0.0
    for generation, expected, pct, wait_s in sequence:
        before, now_s = store.split, now_s + wait_s
        if store.is_overdue(now_s):
            store.adopt(store.expired())
        try:
            store.put(exposed(generation, pct), expected, now_s)
        except Refused:
            assert store.split.generation >= before.generation
        assert store.split.generation >= before.generation
        assert 0 <= store.split.canary_pct <= 100
        assert store.split.stable == STABLE
