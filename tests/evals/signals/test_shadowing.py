"""What a shadow saw: is it added up, sent and read as it was, and honest about how sure its share is?"""

from __future__ import annotations

import pytest

from evals.signals.shadowing import ShadowState
from evals.signals.strata import ArmCounts, Shadowed, Stratum

SEEN = Shadowed(ArmCounts(10, 2, 1), same=6, other=1, failed=2, skipped=3)


def test_intervals_add_up():
    """One without a shadow changes nothing."""
    state = ShadowState().plus(SEEN).plus(None).plus(SEEN)
    assert state == ShadowState(20, 4, 2, 12, 2, 4, 6)
    assert state.as_dict()["agreeing"] == pytest.approx(12 / 14)


def test_without_a_pair_there_is_no_share():
    """Missing is missing."""
    assert (ShadowState().as_dict()["agreeing"], ShadowState().as_dict()["agreeing_95"]) == (None, None)


def test_the_interval_is_wilsons():
    """By the worked example of 7 of 10, and both ends stay within [0, 1]."""
    some, none, all_of_them = (
        ShadowState(same=same, other=other).as_dict()["agreeing_95"] for same, other in ((7, 3), (0, 5), (5, 0))
    )
    assert some == pytest.approx((0.3968, 0.8922), abs=1e-4)
    assert (none[0], all_of_them[1]) == (0.0, pytest.approx(1.0))


def test_a_shadow_is_sent_and_read_with_its_stratum():
    """And a stratum without one has no such key."""
    with_one, without = (Stratum(1, "b", 0.0, 1.0, 5.0, ArmCounts(9), ArmCounts(), shadow=s) for s in (SEEN, None))
    assert Stratum.from_dict(with_one.as_dict()) == with_one
    assert ("shadow" in without.as_dict(), Stratum.from_dict(without.as_dict())) == (False, without)


def test_more_pairs_than_requests_are_refused():
    """Such a stratum never becomes anything."""
    raw = {**SEEN.as_dict(), "same": 9}
    with pytest.raises(ValueError, match="more pairs"):
        Shadowed.from_dict(raw)
