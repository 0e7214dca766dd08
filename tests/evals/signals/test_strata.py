"""Does a stratum that cannot be one become evidence?"""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.signals.strata import ArmCounts, Stratum
from pipelines.rollout.watch import Watch
from pipelines.spec.rollout import RolloutSpec

FINE = Stratum(
    4, "b", 10.0, 15.0, 30.0, ArmCounts(70, 2, 1, {10: 40, 20: 3}), ArmCounts(30, 1, 0, {10: 20}), generation=(2, 7)
)

WRONG: dict[str, tuple[list[str], Any]] = {
    "negative": (["arms", "canary", "routed"], -1),
    "more errors than requests": (["arms", "canary", "errors"], 31),
    "more time-outs than errors": (["arms", "stable", "timeouts"], 3),
    "NaN": (["arms", "canary", "errors"], float("nan")),
    "infinite": (["arms", "stable", "routed"], float("inf")),
    "no count": (["arms", "stable", "routed"], None),
    "text": (["arms", "stable", "routed"], "70"),
    "a truth": (["arms", "stable", "timeouts"], True),
    "half a request": (["arms", "stable", "routed"], 70.5),
    "slower than all": (["arms", "stable", "exceed"], {"1.6": [10, 70]}),
    "more above a higher threshold": (["arms", "stable", "exceed"], {"1.6": [10, 3], "2.6": [20, 4]}),
    "no time": (["routed_from"], float("nan")),
    "backwards": (["routed_to"], 9.0),
    "for ever": (["routed_to"], float("inf")),
    "an impossible share": (["canary_pct"], 130.0),
    "a share that is no number": (["canary_pct"], float("nan")),
    "an interval below zero": (["interval"], -1),
    "a generation of one part": (["generation"], [1]),
}


def spoilt(path: list[str], value: Any) -> dict[str, Any]:
    """The wire form with one thing changed."""
    raw = copy.deepcopy(FINE.as_dict())
    part = raw
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    return raw


def test_what_is_fine_survives_the_wire():
    """As JSON, too."""
    assert Stratum.from_dict(json.loads(json.dumps(FINE.as_dict()))) == FINE


@pytest.mark.parametrize(("path", "value"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_is_refused(path, value):
    """Before any judge sees it."""
    with pytest.raises((ValueError, TypeError)):
        Stratum.from_dict(spoilt(path, value))


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30))
def test_what_was_read_is_no_evidence_twice(order):
    """Doubled and late strata change nothing: the watch is that of the strata in order."""
    plan = RolloutSpec()
    strata = {n: Stratum(n, "b", n * 5.0, n * 5.0 + 5, 30.0, ArmCounts(70, n), ArmCounts(30, 1)) for n in order}
    rising = [n for i, n in enumerate(order) if all(n > earlier for earlier in order[:i])]
    assert Watch().absorb(plan, [strata[n] for n in order]) == Watch().absorb(plan, [strata[n] for n in rising])
