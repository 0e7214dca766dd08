"""Is the interval of a share the one that is published?"""

from __future__ import annotations

import pytest

from evals.maths.rates import clopper_pearson


@pytest.mark.parametrize(
    ("hits", "of", "expected"),
    [
        (0, 10, (0.0, 0.30850)),
        (10, 10, (0.69150, 1.0)),
        (1, 20, (0.00127, 0.24873)),
        (81, 263, (0.25273, 0.36764)),
    ],
)
def test_it_is_as_published(hits, of, expected):
    """The rule of three's exact form at the ends; 81 of 263 is Newcombe's example (Statistics in Medicine 17, 1998)."""
    low, high = clopper_pearson(hits, of)
    assert (round(low, 4), round(high, 4)) == tuple(pytest.approx(e, abs=1e-4) for e in expected)


@pytest.mark.parametrize(("hits", "of"), [(1, 0), (0, 0), (-1, 5), (6, 5)])
def test_what_is_no_share_is_refused(hits, of):
    """More hits than tries, or none at all."""
    with pytest.raises(ValueError, match="no share"):
        clopper_pearson(hits, of)
