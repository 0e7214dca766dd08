"""What would the tests of a textbook do with a canary that they are asked about every five seconds?

Each looks at errors alone, counted since the release began, at α = 1 %, and promotes at the end of a release in which
it found nothing: absence of evidence taken for evidence of absence, as is usual where no margin is tested. The two
that approximate a binomial by a normal distribution wait until each arm should have had five errors.
"""

from __future__ import annotations

import math

from evals.planning.worlds import IntervalSeen

ALPHA = 0.01
Z_99 = 2.3263478740408408
ENOUGH = 5


class Counts:
    """Requests and errors of both arms so far."""

    def __init__(self) -> None:
        self.n_s = self.n_c = self.errors_s = self.errors_c = 0

    def add(self, interval: IntervalSeen) -> None:
        """Count one more interval."""
        self.n_s, self.errors_s = self.n_s + interval.stable.n, self.errors_s + interval.stable.errors
        self.n_c, self.errors_c = self.n_c + interval.canary.n, self.errors_c + interval.canary.errors

    def difference(self) -> tuple[float, float] | None:
        """How much larger the canary's error rate is, and its variance by the pooled rate; None for too few errors."""
        pooled = (self.errors_s + self.errors_c) / max(1, self.n_s + self.n_c)
        if min(self.n_s, self.n_c) * pooled < ENOUGH or pooled == 1:
            return None
        variance = pooled * (1 - pooled) * (1 / self.n_s + 1 / self.n_c)
        return self.errors_c / self.n_c - self.errors_s / self.n_s, variance


class PeekingZ:
    """Is the canary's error rate larger by a one-sided z-test of two proportions, at any look?

    Source: any textbook; valid for one look that was fixed beforehand. What peeking does: Armitage, McPherson and
    Rowe 1969.
    """

    def __init__(self, ends_s: float) -> None:
        self._ends_s, self._counts = ends_s, Counts()

    def observe(self, interval: IntervalSeen) -> str:
        """Test once more."""
        self._counts.add(interval)
        found = self._counts.difference()
        is_worse = found is not None and found[0] > Z_99 * math.sqrt(found[1])
        return "rollback" if is_worse else "promote" if interval.t >= self._ends_s else "wait"


class Cusum:
    """Does Page's cumulative sum say that the canary's error rate has doubled?

    The sum of log-likelihood ratios of twice stable's rate so far against that rate, never below 0; the alarm is at
    log(1/α), which a likelihood ratio that may not start anew exceeds with probability α, and this one much more
    often. Source: Page 1954, Biometrika 41.
    """

    def __init__(self, ends_s: float) -> None:
        self._ends_s, self._counts, self._sum = ends_s, Counts(), 0.0

    def observe(self, interval: IntervalSeen) -> str:
        """Add one interval, against stable's rate before it and in it."""
        self._counts.add(interval)
        n, errors = interval.canary.n, interval.canary.errors
        rate = min(0.49, max(0.5, self._counts.errors_s) / max(1, self._counts.n_s))
        gain = errors * math.log(2) + (n - errors) * math.log((1 - 2 * rate) / (1 - rate))
        self._sum = max(0.0, self._sum + gain)
        return "rollback" if self._sum >= -math.log(ALPHA) else "promote" if interval.t >= self._ends_s else "wait"


class PooledMsprt:
    """Is the canary's error rate larger by a mixture sequential probability ratio test on all requests so far?

    Normal approximation, differences mixed by a normal distribution with standard deviation `scale` (one percentage
    point). Valid at every look where both arms' shares stay what they are, or rates do not move. Source: Johari,
    Koomen, Pekelis and Walsh, "Always Valid Inference", Operations Research 2022, equation for two streams.
    """

    def __init__(self, ends_s: float, scale: float = 0.01) -> None:
        self._ends_s, self._counts, self._mixed = ends_s, Counts(), scale**2

    def observe(self, interval: IntervalSeen) -> str:
        """Test once more."""
        self._counts.add(interval)
        found = self._counts.difference()
        is_worse = found is not None and found[0] > 0 and self._log_ratio(*found) >= -math.log(ALPHA)
        return "rollback" if is_worse else "promote" if interval.t >= self._ends_s else "wait"

    def _log_ratio(self, difference: float, variance: float) -> float:
        whole = variance + self._mixed
        return 0.5 * math.log(variance / whole) + difference**2 * self._mixed / (2 * variance * whole)
