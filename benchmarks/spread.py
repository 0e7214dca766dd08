"""How are the values of several rounds told? As medians, the smallest and the largest; as JSON with all of them."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence


def tell(found: Mapping[str, Sequence[float]], digits: int, *, as_json: bool) -> None:
    """Print the figures of one benchmark, by name, one value a round."""
    if as_json:
        print(json.dumps({**{name: statistics.median(v) for name, v in found.items()}, "all": found}))
        return
    for name, values in found.items():
        middle, *ends = (f"{value:.{digits}f}" for value in (statistics.median(values), min(values), max(values)))
        print(f"{name:15} {middle:>8} ({' – '.join(ends)}, n = {len(values)})")
