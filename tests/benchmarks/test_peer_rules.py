"""Do the rules of other tools decide as their documentation and source say, on small intervals made by hand?"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from benchmarks.peer_rules import ArgoRollouts, Flagger, Kayenta, SageMaker, is_high
from evals.planning.worlds import ArmSeen, IntervalSeen

NOBODY = (0, 0)


def arm(counts, ms):
    """An arm with so many requests and errors, all equally slow."""
    n, errors = counts
    return ArmSeen(n, errors, np.full(n, float(ms)), np.empty(0))


def decided(rule, canaries, every_s=60.0, ms=100.0, stable=(1000, 5)):
    """The first decision and how many intervals it took; one canary's counts for each interval."""
    for number, canary in enumerate(canaries, start=1):
        decision = rule.observe(IntervalSeen(number * every_s, 0.1, arm(stable, 100), arm(canary, ms)))
        if decision != "wait":
            return decision, number
    return "wait", len(canaries)


def test_flagger_promotes_after_its_steps():
    """One error in a hundred is 99 %, which is within the range."""
    assert decided(Flagger(), [(100, 1)] * 30) == ("promote", 25)


@pytest.mark.parametrize("canary", [(100, 2), NOBODY])
def test_flagger_sends_home_after_its_threshold(canary):
    """Too many errors, and no values at all, are failed checks."""
    assert decided(Flagger(), [canary] * 30) == ("rollback", 10)


def test_flagger_sends_slow_canaries_home():
    """p99 must stay below half a second."""
    assert decided(Flagger(threshold=5, steps=5), [(100, 0)] * 30, ms=501) == ("rollback", 5)


def test_flagger_forgives_no_failed_check():
    """Failed checks count, in a row or not; and each costs a minute."""
    assert decided(Flagger(threshold=5, steps=5), [(100, 9), (100, 0)] * 9) == ("rollback", 9)
    assert decided(Flagger(threshold=5, steps=5), [(100, 9)] * 4 + [(100, 0)] * 9) == ("promote", 9)


def test_flagger_checks_once_a_minute():
    """Over all that happened in it."""
    assert decided(Flagger(threshold=1), [(100, 10)] + [(100, 0)] * 11, every_s=5) == ("wait", 12)


def test_argo_needs_more_failures_than_its_limit():
    """Three failures are within a `failureLimit` of 3."""
    assert decided(ArgoRollouts(1800), [(100, 6)] * 3 + [(100, 0)] * 3, every_s=300) == ("promote", 6)
    assert decided(ArgoRollouts(1800), [(100, 6)] * 6, every_s=300) == ("rollback", 4)


def test_argo_takes_nothing_for_a_failure():
    """NaN meets no success condition."""
    assert decided(ArgoRollouts(1800), [NOBODY] * 6, every_s=300) == ("rollback", 4)


def test_argo_counts_each_metric_by_itself():
    """Three failures of either metric are within the limit, four of one are not."""
    rule = ArgoRollouts(600, every_s=60, p99_ms=500)
    assert decided(rule, [(100, 6)] * 3) == ("wait", 3)
    assert decided(ArgoRollouts(600, every_s=60, p99_ms=500), [(100, 0)] * 9, ms=501) == ("rollback", 4)
    assert decided(ArgoRollouts(600, every_s=60), [(100, 0)] * 10, ms=501) == ("promote", 10)


@pytest.mark.parametrize(
    ("canaries", "ms", "expected"),
    [
        ([(100, 2)] * 6, 100, ("rollback", 2)),
        ([(100, 2), (100, 0)] * 3, 100, ("promote", 6)),
        ([(100, 0)] * 6, 151, ("rollback", 2)),
        ([(100, 0)] * 6, 149, ("promote", 6)),
        ([NOBODY] * 6, 100, ("promote", 6)),
    ],
)
def test_sagemaker_goes_home_after_two_breaches_in_a_row(canaries, ms, expected):
    """And what is missing does not breach."""
    assert decided(SageMaker(1800), canaries, every_s=300, ms=ms) == expected


def test_kayenta_judges_at_the_end_of_each_run():
    """A canary that fails clearly goes home after the first of three runs."""
    assert decided(Kayenta(1800), [(1000, 100 + k) for k in range(30)]) == ("rollback", 10)
    assert decided(Kayenta(1800, runs=1), [(1000, 100 + k) for k in range(30)]) == ("rollback", 30)


def test_kayenta_promotes_at_the_last_run():
    """Arms that are the same pass."""
    assert decided(Kayenta(1800), [(1000, 5)] * 30) == ("promote", 30)


def test_kayenta_leaves_out_metrics_without_data():
    """Minutes without requests are no points; a canary without any scores 0."""
    assert decided(Kayenta(1800), ([NOBODY] * 4 + [(1000, 5)]) * 6) == ("promote", 30)
    assert decided(Kayenta(1800), [NOBODY] * 30) == ("rollback", 10)


def test_high_is_what_mann_and_whitney_reject():
    """Where the tolerance decides nothing: the interval lies above 0 when the two-sided test rejects at 2 %."""
    rng = np.random.default_rng(1)
    agree = 0
    for shift in np.linspace(0, 2, 200):
        baseline, canary = rng.normal(size=15), shift + rng.normal(size=15)
        p = mannwhitneyu(canary, baseline, method="asymptotic").pvalue
        is_above = np.median(canary) > np.median(baseline)
        agree += is_high(baseline, canary) <= (p < 0.02 and is_above)
    assert agree == 200


def test_high_needs_a_quarter_of_the_estimate():
    """A shift whose lower limit is positive but small against its estimate passes, as Kayenta's tolerance has it."""
    baseline = np.arange(10.0)
    canary = baseline + 5
    assert mannwhitneyu(canary, baseline, method="asymptotic").pvalue < 0.02
    assert not is_high(baseline, canary)
    assert is_high(baseline, baseline + 10)


def test_nothing_is_high_where_nothing_differs():
    """All points tied, or one point each."""
    assert not is_high(np.zeros(10), np.zeros(10))
    assert not is_high(np.array([0.1]), np.array([0.1]))
