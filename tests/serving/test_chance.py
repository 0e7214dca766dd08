"""Are chance and names what nobody can foresee, however many are drawn?"""

from __future__ import annotations

import re
from itertools import islice

from pipelines.serving.chance import DRAWN, names, numbers


def test_chance_is_a_number_below_one_from_block_to_block():
    """No number comes twice where a new block begins."""
    drawn = list(islice(numbers(), 2 * DRAWN + 1))
    assert all(0 <= number < 1 for number in drawn)
    assert len(set(drawn)) == len(drawn)


def test_no_name_is_given_twice():
    """Each has 128 random bits in hex digits, on both sides of a block's end."""
    given = list(islice(names(), 2 * DRAWN + 1))
    assert all(re.fullmatch(rb"[0-9a-f]{32}", name) for name in given)
    assert len(set(given)) == len(given)
