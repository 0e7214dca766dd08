"""Users that were never there: they stay at their arm, some are far busier than others, and a few are bad clients.

Rates follow Zipf's law. Twenty of the hundred busiest users send requests half of which fail at any version, so that
one of them at the canary looks like a fault of the canary to everybody who counts requests.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

INTERVAL_S = 5.0
FIRST_LOOKS = 12
"""A user's outcome in a step is closed a minute after his first request in it."""

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Counts = tuple[int, int, int, int]
"""Of the canary: units, bad ones; of stable: units, bad ones."""


@dataclass(frozen=True)
class Crowd:
    """Who asks, and what fails. Rates and shares are fractions, times seconds."""

    users: int = 5_000
    busy: int = 100
    bad_clients: int = 20
    bad_rate: float = 0.5
    requests_per_s: float = 250.0
    lasts_s: float = 1800.0
    shares: tuple[float, ...] = (0.05, 0.1, 0.25, 0.5)
    stable_errors: float = 0.005
    canary_errors: float = 0.005


@dataclass(frozen=True)
class UserInterval:
    """One interval, counted in four ways."""

    share: float
    requests: Counts
    """Each request counts."""
    scattered: Counts
    """The same requests, each given an arm by itself."""
    users: Counts
    """A user counts in each interval in which he asks, as bad where a request of his failed."""
    closed: Counts
    """A user counts once in a step, in the interval in which his first minute of it ends."""


def play_users(crowd: Crowd, seed: int) -> Iterator[UserInterval]:
    """One release. A user who is at the canary at a small share stays there at a larger one."""
    rng = np.random.default_rng(seed)
    rates = 1 / np.arange(1, crowd.users + 1)
    rates *= crowd.requests_per_s * INTERVAL_S / rates.sum()
    place, is_bad = rng.random(crowd.users), np.zeros(crowd.users, dtype=bool)
    is_bad[rng.choice(crowd.busy, crowd.bad_clients, replace=False)] = True
    looks, share, minutes = round(crowd.lasts_s / INTERVAL_S), 0.0, _Minutes(crowd.users)
    for look in range(looks):
        before, share = share, crowd.shares[look * len(crowd.shares) // looks]
        minutes = minutes if share == before else _Minutes(crowd.users)
        at_canary, asked = place < share, rng.poisson(rates)
        usual = np.where(at_canary, crowd.canary_errors, crowd.stable_errors)
        failed = rng.binomial(asked, np.where(is_bad, crowd.bad_rate, usual))
        closed, bad = minutes.after(look, asked, failed)
        yield UserInterval(
            share,
            _by_arm(at_canary, asked, failed),
            _scattered(rng, crowd, share, asked, is_bad),
            _by_arm(at_canary, asked > 0, failed > 0),
            _by_arm(at_canary, closed, bad),
        )


class _Minutes:
    """The first minute of every user in one step."""

    def __init__(self, users: int) -> None:
        self._seen_at = np.full(users, -1)
        self._failed = np.zeros(users, dtype=bool)

    def after(self, look: int, asked: Ints, failed: Ints) -> tuple[Bools, Bools]:
        """Whose minute ends with this look, and who of them had a failure in it."""
        self._seen_at = np.where((asked > 0) & (self._seen_at < 0), look, self._seen_at)
        self._failed |= (failed > 0) & (look - self._seen_at < FIRST_LOOKS)
        closed = (self._seen_at >= 0) & (self._seen_at == look - FIRST_LOOKS + 1)
        return closed, closed & self._failed


def _by_arm(at_canary: Bools, units: npt.NDArray[np.generic], bad: npt.NDArray[np.generic]) -> Counts:
    sums = (units[at_canary].sum(), bad[at_canary].sum(), units[~at_canary].sum(), bad[~at_canary].sum())
    canary, canary_bad, stable, stable_bad = (int(n) for n in sums)
    return canary, canary_bad, stable, stable_bad


def _scattered(rng: np.random.Generator, crowd: Crowd, share: float, asked: Ints, is_bad: Bools) -> Counts:
    canary = rng.binomial(asked, share)
    at_canary = rng.binomial(canary, np.where(is_bad, crowd.bad_rate, crowd.canary_errors))
    at_stable = rng.binomial(asked - canary, np.where(is_bad, crowd.bad_rate, crowd.stable_errors))
    return int(canary.sum()), int(at_canary.sum()), int((asked - canary).sum()), int(at_stable.sum())
