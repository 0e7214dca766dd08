"""Is the information bound what it is known to be?"""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.maths.rates import divergence, requests_to_tell

rates = st.floats(0.001, 0.999)


def test_it_is_the_known_figure():
    """Errors of 0.5 % and 5 % at a share of 5 %: 74 canary requests; sure signs in both arms: log 100 over log 2."""
    assert round(requests_to_tell(0.005, 0.05, 0.05, 0.01)) == 74
    assert requests_to_tell(0.0, 1.0, 0.5, 0.01) == pytest.approx(math.log(100) / (2 * math.log(2)))


@given(rates, rates)
def test_divergence_is_none_only_between_equals(p, q):
    """Gibbs' inequality."""
    assert divergence(p, q) >= -1e-12
    assert divergence(p, p) == pytest.approx(0.0, abs=1e-12)


@given(rates, st.floats(0.01, 0.9))
def test_equals_are_never_told_apart(p, share):
    """Not by any number of requests; and a larger share needs more canary requests, since stable has fewer."""
    assert requests_to_tell(p, p, share, 0.01) == math.inf or requests_to_tell(p, p, share, 0.01) > 1e6
    other = min(0.9995, p + 0.01)
    assert requests_to_tell(p, other, share, 0.01) <= requests_to_tell(p, other, share + 0.05, 0.01) * (1 + 1e-9)
