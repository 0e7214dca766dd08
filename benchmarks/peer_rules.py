"""What would the rules of other release tools do with a canary? Written anew from their documentation and source.

Each rule takes the intervals of a release that lasts `ends_s` and answers `wait`, `rollback` or `promote`. Their
settings are the tools' defaults or the examples of their documentation. Simplified, in their favour: a quantile is
that of the requests and not of a histogram's buckets, a rate is a count, no measurement fails, and windows do not
overlap.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from evals.planning.worlds import ArmSeen, IntervalSeen, Values

CHECK_S = 60.0


class Rule(Protocol):
    """Decides after each interval."""

    def observe(self, interval: IntervalSeen) -> str:
        """`wait`, `rollback` or `promote`."""


@dataclass
class Window:
    """What an arm did since the window opened; what cannot be said of no request is NaN."""

    n: int = 0
    errors: int = 0
    latencies: list[Values] = field(default_factory=list)

    def add(self, arm: ArmSeen) -> None:
        """Count one more interval."""
        self.n, self.errors = self.n + arm.n, self.errors + arm.errors
        self.latencies.append(arm.latency)

    def error_rate(self) -> float:
        """As a fraction."""
        return self.errors / self.n if self.n else math.nan

    def quantile_ms(self, q: float) -> float:
        """Of all requests."""
        return float(np.quantile(np.concatenate(self.latencies), q)) if self.n else math.nan

    def mean_ms(self) -> float:
        """Of all requests."""
        return float(np.concatenate(self.latencies).mean()) if self.n else math.nan


class Flagger:
    """Does every check stay within its range, but for fewer than `threshold`?

    Each minute: success rate at least 99 % and p99 at most 500 ms, both over that minute of the canary alone. A check
    that fails halts the advance, and failed checks are never forgiven; no values (no traffic) fail it, too. The
    canary is promoted once each step of its weight has passed. By default the example of the documentation: threshold
    10, and 25 steps (`maxWeight` 50, `stepWeight` 2), so that a promotion takes 25 minutes at least. The tutorials'
    canary has threshold 5 and five steps (`stepWeight` 10).

    Source: fluxcd/flagger, docs/gitbook/usage/deployment-strategies.md and metrics.md; pkg/controller/scheduler.go
    (`advanceCanary`, `runCanary`) and scheduler_metrics.go (`runBuiltinMetricChecks`). There the roll back comes at
    the next tick, one minute later than here.
    """

    def __init__(self, threshold: int = 10, steps: int = 25) -> None:
        self._threshold, self._steps = threshold, steps
        self._failed, self._passed = 0, 0
        self._window = Window()

    def observe(self, interval: IntervalSeen) -> str:
        """Check once a minute."""
        self._window.add(interval.canary)
        if interval.t % CHECK_S:
            return "wait"
        is_good = self._window.error_rate() <= 0.01 and self._window.quantile_ms(0.99) <= 500
        self._passed, self._failed = self._passed + is_good, self._failed + (not is_good)
        self._window = Window()
        return "rollback" if self._failed >= self._threshold else "promote" if self._passed >= self._steps else "wait"


class ArgoRollouts:
    """Does a background analysis collect more failed measurements of a metric than its `failure_limit`?

    By default the example of the documentation: success rate at least 95 % over five minutes, measured every five
    minutes, `failureLimit` 3. Its text says that three failures end the analysis; the source needs more than three,
    and so does this rule. Without a failure condition what is not a success is a failure, so is NaN where there was
    no traffic. The rollout is promoted when its steps are done, here at the end of the release. `p99_ms` adds a
    second metric: with 99 %, 500 ms and one minute it asks what Flagger's example asks.

    Source: argoproj/argo-rollouts, docs/features/analysis.md ("Background Analysis"); analysis/analysis.go
    (`assessMetricFailureInconclusiveOrError`), utils/evaluate/evaluate.go (`EvaluateResult`).
    """

    def __init__(
        self,
        ends_s: float,
        every_s: float = 300.0,
        success: float = 0.95,
        p99_ms: float | None = None,
        failure_limit: int = 3,
    ) -> None:
        self._ends_s, self._every_s, self._limit = ends_s, every_s, failure_limit
        self._max_errors, self._p99_ms = 1 - success, p99_ms
        self._failed = [0, 0]
        self._window = Window()

    def observe(self, interval: IntervalSeen) -> str:
        """Measure at the end of each window."""
        self._window.add(interval.canary)
        if not interval.t % self._every_s:
            passes = [self._window.error_rate() <= self._max_errors, self._is_fast()]
            self._failed = [count + (not passed) for count, passed in zip(self._failed, passes, strict=True)]
            self._window = Window()
        return "rollback" if max(self._failed) > self._limit else "promote" if interval.t >= self._ends_s else "wait"

    def _is_fast(self) -> bool:
        return self._p99_ms is None or self._window.quantile_ms(0.99) <= self._p99_ms


class SageMaker:
    """Does a CloudWatch alarm on the new fleet go off during the baking period?

    Two alarms, error rate and mean latency, each in alarm when the last two periods of five minutes were above the
    threshold; missing data does not breach. The baking period is the whole release: longer than the documentation's
    ten minutes, in which these alarms could look just once. The documentation's thresholds cannot be used as they
    stand: an average of `Invocation4XXErrors`, which is 0 or 1, never exceeds 1, so it is read as 1 %; and 100 ms
    lies below the usual mean of the simulated service (120 ms), so it is 150 ms here.

    Source: Amazon SageMaker developer guide, "Auto-Rollback Configuration and Monitoring" (alarm
    NewEndpointConfigVersionHighModelLatencyAlarm: Period 300, EvaluationPeriods 2, GreaterThanThreshold,
    notBreaching) and "Use canary traffic shifting".
    """

    def __init__(self, ends_s: float, max_error_rate: float = 0.01, max_mean_ms: float = 150.0) -> None:
        self._ends_s, self._max_error_rate, self._max_mean_ms = ends_s, max_error_rate, max_mean_ms
        self._in_a_row = [0, 0]
        self._window = Window()

    def observe(self, interval: IntervalSeen) -> str:
        """Look at both alarms at the end of each period."""
        self._window.add(interval.canary)
        if not interval.t % 300:
            breaches = [self._window.error_rate() > self._max_error_rate, self._window.mean_ms() > self._max_mean_ms]
            self._in_a_row = [n + 1 if breach else 0 for n, breach in zip(self._in_a_row, breaches, strict=True)]
            self._window = Window()
        return "rollback" if max(self._in_a_row) >= 2 else "promote" if interval.t >= self._ends_s else "wait"


class Kayenta:
    """Do canary and baseline differ by Mann and Whitney's test on one point a minute of each metric?

    A metric is High, and fails, when the lower limit of the 98 % interval of the shift exceeds a quarter of the
    shift's estimate (Hodges and Lehmann's). The score is the share of metrics that pass among those with data: below
    75 the canary fails at once, at the last run it must reach 95. Nothing is corrected for several runs or metrics.
    `runs` is three, as in the documentation (three hours, judged each hour over that hour); in half an hour a run has
    ten points, and not the 50 that are advised, so one run over all of them is the other choice. Metrics: error rate,
    p50 and p99, direction "increase". The baseline is as large as the canary, as advised: so many requests drawn from
    stable's. A run must be whole minutes.

    Source: spinnaker/kayenta, NetflixACAJudge.scala (`tolerance` 0.25, `confLevel` 0.98), MannWhitneyClassifier.scala,
    MannWhitney.scala, WeightedSumScorer.scala; spinnaker.io, "How canary judgment works" and "Best practices for
    configuring canary" (75, 95, runs, 50 points, baseline).
    """

    def __init__(self, ends_s: float, runs: int = 3, seed: int = 1) -> None:
        self._ends_s, self._run_s = ends_s, ends_s / runs
        self._rng = np.random.default_rng(seed)
        self._windows = (Window(), Window())
        self._points: list[tuple[list[float], list[float]]] = []

    def observe(self, interval: IntervalSeen) -> str:
        """Note a point each minute, judge at the end of each run."""
        arms = (self._thinned(interval.stable, interval.canary.n), interval.canary)
        for window, arm in zip(self._windows, arms, strict=True):
            window.add(arm)
        if not interval.t % CHECK_S:
            baseline, canary = (_points(window) for window in self._windows)
            self._points.append((baseline, canary))
            self._windows = (Window(), Window())
        return "wait" if interval.t % self._run_s else self._judged(is_last=interval.t >= self._ends_s)

    def _thinned(self, arm: ArmSeen, n: int) -> ArmSeen:
        """As many of its requests, drawn at random."""
        n = min(n, arm.n)
        errors = int(self._rng.hypergeometric(arm.errors, arm.n - arm.errors, n)) if n else 0
        return ArmSeen(n, errors, arm.latency[:n], arm.quality)

    def _judged(self, *, is_last: bool) -> str:
        points = np.array(self._points).transpose(2, 1, 0)  # metric, arm, minute
        self._points = []
        passes = [not is_high(*(arm[~np.isnan(arm)] for arm in metric)) for metric in points if _has_data(metric)]
        score = 100 * sum(passes) / len(passes) if passes else 0.0
        return "rollback" if score < (95 if is_last else 75) else "promote" if is_last else "wait"


def _points(window: Window) -> list[float]:
    return [window.error_rate(), window.quantile_ms(0.5), window.quantile_ms(0.99)]


def _has_data(metric: Values) -> bool:
    return bool((~np.isnan(metric)).any(axis=1).all())


def is_high(baseline: Values, canary: Values) -> bool:
    """Whether the shift's lower limit exceeds a quarter of its estimate.

    The limits are those shifts at which the normal approximation of the test, with its continuity correction, just
    does not reject: order statistics of all pairwise differences. Kayenta searches for the same by Brent's method.
    """
    shifts = np.sort(np.subtract.outer(canary, baseline), axis=None)
    spread = math.sqrt(shifts.size * (canary.size + baseline.size + 1) / 12)
    below = math.ceil(shifts.size / 2 - Z_98 * spread - 0.5)
    return bool(shifts[max(below, 1) - 1] > 0.25 * abs(np.median(shifts)))


Z_98 = 2.3263478740408408
"""The normal quantile of a two-sided 98 % interval."""
