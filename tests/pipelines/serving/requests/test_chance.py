"""Are chance and names what nobody can foresee, however many are drawn?"""

from __future__ import annotations

import re
from itertools import islice

from pipelines.serving.requests.assignment import DRAWN, draws, names


def test_chance_is_a_number_below_one_from_block_to_block():
    """No number comes twice where a new block begins."""
    drawn = [place for place, _ in islice(draws(), 2 * DRAWN + 1)]
    assert all(0 <= place < 1 for place in drawn)
    assert len(set(drawn)) == len(drawn)


def test_the_coin_is_fair_wherever_the_place_is():
    """It divides stable in halves at every share; ten standard deviations are never seen by chance."""
    drawn = list(islice(draws(), 40 * DRAWN))
    for low in (0.0, 0.25, 0.5, 0.75):
        tosses = [heads for place, heads in drawn if low <= place < low + 0.25]
        assert abs(sum(tosses) - len(tosses) / 2) < 5 * len(tosses) ** 0.5


def test_no_name_is_given_twice():
    """Each has 128 random bits in hex digits, on both sides of a block's end."""
    given = list(islice(names(), 2 * DRAWN + 1))
    assert all(re.fullmatch(rb"[0-9a-f]{32}", name) for name in given)
    assert len(set(given)) == len(given)
