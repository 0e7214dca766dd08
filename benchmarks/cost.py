"""How often does the judge of costs err, and how soon does it find what is dearer?

    python -m benchmarks.cost --releases 200

Simulated releases: a tenth of the answers is the canary's; costs are lognormal (sigma 0.8), or those of prompts of 50
to 2,000 tokens and geometric answers of at most 1,024 at three times the price; gates of 5 % tolerance and 10 % margin.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

import numpy as np

from evals.offline.metrics import wilson
from evals.signals.means import MeanState, MeanTest
from evals.signals.strata import ArmCounts, Stratum
from pipelines.serving.evidence.intervals import fair_step

TEST = MeanTest(0.05, 0.1)
SHARE, ANSWERS, STRATA = 0.1, 400, 75
HOME_AT, PROMOTE_AT = math.log(100), math.log(20)

Draw = Callable[[np.random.Generator, int], np.ndarray]


def uneven(mean: float) -> Draw:
    """Lognormal costs of this mean."""
    return lambda rng, n: 1e6 * mean * rng.lognormal(-0.32, 0.8, n)


def chats(longer: float, endless: float = 0.0) -> Draw:
    """Costs of chats whose answers are so much longer; a part of them never ends by itself."""

    def draw(rng: np.random.Generator, n: int) -> np.ndarray:
        out = np.minimum(rng.geometric(1 / (200 * longer), n), 1024)
        return 1e3 * (0.5 * rng.integers(50, 2000, n) + 1.5 * np.where(rng.random(n) < endless, 1024, out))

    return draw


def counted(rng: np.random.Generator, nano: np.ndarray) -> ArmCounts:
    """As a gateway counts them."""
    steps = np.array([fair_step(value, chance) for value, chance in zip(nano, rng.random(len(nano)), strict=True)])
    over = {int(step): int(np.sum(steps > step)) for step in np.unique(steps)}
    return ArmCounts(len(nano), timings={"cost": ArmCounts(len(nano), over=over)})


def played(seed: int, canary: Draw, stable: Draw) -> tuple[float, float]:
    """The canary's answers until it went home, and until its cost was proven harmless; infinite where it never was."""
    rng, state, seen = np.random.default_rng(seed), MeanState(), 0
    home = proven = math.inf
    for number in range(STRATA):
        n = int(rng.binomial(ANSWERS, SHARE))
        arms = counted(rng, stable(rng, ANSWERS - n)), counted(rng, canary(rng, n))
        state = TEST.absorb(state, Stratum(number, "b", 5.0 * number, 5.0 * number + 5, 100 * SHARE, *arms))
        seen += n
        home = min(home, seen if state.harm.log_e >= HOME_AT else math.inf)
        proven = min(proven, seen if state.harmless.log_e >= PROMOTE_AT else math.inf)
    return home, proven


def main() -> None:
    """Print a row for each scenario."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--releases", type=int, default=200)
    releases = parser.parse_args().releases
    worlds = {
        "equal": (uneven(1.0), uneven(1.0)),
        "dearer by the 5 % that are tolerated": (uneven(1.05), uneven(1.0)),
        "dearer by the margin of 10 %": (uneven(1.1), uneven(1.0)),
        "dearer by 20 %": (uneven(1.2), uneven(1.0)),
        "dearer by 50 %": (uneven(1.5), uneven(1.0)),
        "chats, answers longer by half": (chats(1.5), chats(1.0)),
        "chats, a tenth of the answers endless": (chats(1.0, 0.1), chats(1.0)),
    }
    print(
        f"| world | sent home | after | proven harmless | after | ({releases} releases, {SHARE * STRATA * ANSWERS:g})"
    )
    for name, (canary, stable) in worlds.items():
        cells = []
        for found in zip(*(played(seed, canary, stable) for seed in range(releases)), strict=True):
            n = sum(math.isfinite(one) for one in found)
            low, high = wilson(n / releases, releases, 0.95)
            after = f"{np.median([one for one in found if math.isfinite(one)]):,.0f}" if n else ""
            cells.append(f"{n / releases:.1%} ({low:.1%} – {high:.1%}) | {after}")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
