"""Does every piece of evidence get the verdict that it deserves?"""

from __future__ import annotations

import json

import numpy as np
import pytest

from evals.evidence import Comparison, Evidence, Measurement, too_few
from evals.gate import Gate, Outcome, Reason, Verdict, judge
from evals.offline.paired import mean_difference

MARGIN = Gate("accuracy", margin=0.02)
GUARD = Gate("accuracy", margin=0.05, slices="topic")


def evidence(*found):
    """The evidence of these measurements and comparisons."""
    measured = tuple(f for f in found if isinstance(f, Measurement))
    return Evidence("candidate", "sha256:0", measured, tuple(f for f in found if isinstance(f, Comparison)))


def paired(plus, minus, n, slice_name="all"):
    """A comparison of accuracy: `plus` rows that only the candidate got wrong, `minus` that only the champion did."""
    candidate = np.arange(n) < plus
    champion = (np.arange(n) >= plus) & (np.arange(n) < plus + minus)
    point, interval = mean_difference(candidate.astype(float), champion.astype(float), 0.95)
    return Comparison("accuracy", point, n, slice_name, interval)


def outcome(gate, *found, has_champion=True):
    """The verdict's outcome for one gate."""
    return judge([gate], evidence(*found), has_champion=has_champion).outcome


@pytest.mark.parametrize(
    ("gate", "expected"),
    [
        (Gate("accuracy", min=0.8), Outcome.PASS),
        (Gate("accuracy", min=0.81), Outcome.FAIL),
        (Gate("accuracy", max=0.8), Outcome.PASS),
        (Gate("accuracy", max=0.79), Outcome.FAIL),
        (Gate("accuracy", min=0.7, max=0.9), Outcome.PASS),
        (Gate("macro_f1", min=0.1), Outcome.ERROR),
    ],
)
def test_absolute_bounds_are_held_against_the_value(gate, expected):
    """The bound itself passes; a metric that was not measured is an error."""
    assert outcome(gate, Measurement("accuracy", 0.8, n=500)) is expected


def test_a_missing_value_is_an_error_with_its_reason():
    """NaN answers never become a number, a pass or a fail."""
    broken = Measurement("accuracy", None, n=500, missing="3 of 500 answers are NaN or infinite")
    verdict = judge([Gate("accuracy", min=0.5)], evidence(broken), has_champion=False)
    assert verdict.outcome is Outcome.ERROR
    assert "3 of 500 answers are NaN" in verdict.because()


def test_too_few_rows_are_inconclusive():
    """Twelve rows neither pass nor fail."""
    few = {"n": 12, "missing": too_few(12)}
    assert outcome(Gate("accuracy", min=0.5), Measurement("accuracy", None, **few)) is Outcome.INCONCLUSIVE
    assert outcome(MARGIN, Comparison("accuracy", None, **few)) is Outcome.INCONCLUSIVE


@pytest.mark.parametrize(
    ("plus", "minus", "expected"),
    [
        (0, 0, Outcome.PASS),  # the same answers
        (60, 75, Outcome.PASS),  # better by one point
        (75, 75, Outcome.PASS),  # as good, with other mistakes
        (100, 75, Outcome.INCONCLUSIVE),  # worse by 1.7 points: within the margin, but so might three be
        (110, 75, Outcome.FAIL),  # worse by 2.3 points, and surely worse
        (400, 75, Outcome.FAIL),
    ],
)
def test_the_margin_is_a_non_inferiority_test(plus, minus, expected):
    """On 1,500 rows with two points allowed: shown within it, proven beyond it, or neither."""
    assert outcome(MARGIN, paired(plus, minus, 1500)) is expected


def test_beyond_the_margin_by_chance_is_inconclusive():
    """Two and a half points worse on 120 rows may be nothing."""
    assert outcome(MARGIN, paired(8, 5, 120)) is Outcome.INCONCLUSIVE


def test_a_broken_slice_fails_with_its_name_and_numbers():
    """The mean is fine, one topic is not: the sentence names it with the loss, the interval, n and what is allowed."""
    slices = [paired(2, 2, 300, "topic=rail"), paired(140, 12, 412, "topic=airline")]
    verdict = judge([GUARD, MARGIN], evidence(paired(10, 12, 1500), *slices), has_champion=True)
    assert verdict.outcome is Outcome.FAIL
    assert verdict.because() == (
        "accuracy on topic=airline is worse than the champion by 0.311 (95 % interval 0.261 to 0.362, n=412); "
        "at most 0.05 is allowed"
    )


def test_looking_at_many_slices_is_paid_for():
    """A loss that one look would prove is no proof after twelve looks, and no pass either."""
    suspicious = paired(14, 4, 130, "topic=t0")
    assert outcome(GUARD, suspicious) is Outcome.FAIL
    others = [paired(3, 3, 130, f"topic=t{i}") for i in range(1, 12)]
    assert outcome(GUARD, suspicious, *others) is Outcome.INCONCLUSIVE


def test_a_small_loss_on_a_slice_stops_nobody():
    """Within the allowance, or unproven: the gate on all rows is the strict one, and the sentence says so."""
    assert outcome(GUARD, paired(5, 3, 60, "topic=a")) is Outcome.PASS
    verdict = judge([GUARD], evidence(paired(4, 1, 40, "topic=a")), has_champion=True)
    assert verdict.outcome is Outcome.PASS
    assert "so few rows do not prove a loss" in verdict.because()


def test_small_slices_are_named_and_stop_nobody_while_others_are_judged():
    """A topic with nine rows is reported; a column in which every slice is too small judged nothing."""
    small = Comparison("accuracy", None, 9, "topic=bus", missing=too_few(9))
    verdict = judge([GUARD], evidence(paired(1, 1, 90, "topic=rail"), small), has_champion=True)
    assert verdict.outcome is Outcome.PASS
    assert "topic=bus: 9 rows are too few" in verdict.because()
    assert outcome(GUARD, small) is Outcome.INCONCLUSIVE


def test_a_broken_slice_is_an_error_however_small():
    """NaN on nine rows is not excused by there being nine."""
    broken = Comparison("accuracy", None, 9, "topic=bus", missing="1 of 9 answers are NaN or infinite")
    assert outcome(GUARD, paired(1, 1, 90, "topic=rail"), broken) is Outcome.ERROR


def test_slices_of_other_columns_do_not_count():
    """A gate on one column does not see another's slices, nor all rows."""
    assert outcome(GUARD, paired(0, 0, 900), paired(0, 0, 90, "channel=web")) is Outcome.ERROR


def test_without_a_champion_margins_are_not_judged():
    """A first release passes its margins with a note; its absolute bounds hold."""
    measured = Measurement("accuracy", 0.8, n=500)
    both = Gate("accuracy", min=0.7, margin=0.02)
    verdict = judge([both], evidence(measured), has_champion=False)
    assert verdict.outcome is Outcome.PASS
    assert "no champion yet, the margin is not judged" in verdict.because()
    assert outcome(Gate("accuracy", min=0.9, margin=0.02), measured, has_champion=False) is Outcome.FAIL


def test_a_margin_without_its_comparison_is_an_error():
    """A champion that was not compared does not pass silently, even where the absolute bound holds."""
    both = Gate("accuracy", min=0.7, margin=0.02)
    assert outcome(both, Measurement("accuracy", 0.8, n=500)) is Outcome.ERROR


def test_a_loss_within_the_tolerance_is_no_failure():
    """Proven, and beyond the margin: a failure, unless so much was declared to be tolerable; then it cannot tell."""
    loss = paired(60, 10, 1000)
    assert outcome(Gate("accuracy", margin=0.04), loss) is Outcome.FAIL
    assert outcome(Gate("accuracy", margin=0.04, tolerance=0.035), loss) is Outcome.INCONCLUSIVE


def test_the_worst_answer_decides():
    """FAIL over ERROR over INCONCLUSIVE over PASS; no reason at all is INCONCLUSIVE."""
    reasons = [Reason(o, "g", str(o)) for o in (Outcome.PASS, Outcome.INCONCLUSIVE, Outcome.ERROR, Outcome.FAIL)]
    assert [Verdict.of(reasons[:i]).outcome for i in range(1, 5)] == [r.outcome for r in reasons]
    assert judge([], evidence(), has_champion=True).outcome is Outcome.INCONCLUSIVE


def test_the_verdict_is_plain_data():
    """What the ledger records survives JSON with its sentences."""
    verdict = judge([MARGIN], evidence(paired(400, 75, 1500)), has_champion=True)
    raw = json.loads(json.dumps(verdict.as_dict()))
    assert raw["outcome"] == "fail"
    assert "is worse than the champion" in raw["reasons"][0]["sentence"]


def simulated(rng, loss, slices=8, n=1500, discordant=0.08):
    """A retrained model's comparison on all rows and on each topic: `loss` is its true drop in accuracy."""
    parts = [
        paired(*rng.multinomial(size, shares(discordant, loss))[:2], size, f"topic=t{i}")
        for i, size in enumerate(rng.multinomial(n, [1 / slices] * slices))
    ]
    plus, minus = (rng.binomial(n, share) for share in shares(discordant, loss)[:2])
    return [paired(int(plus), int(min(minus, n - plus)), n), *parts]


def shares(discordant, loss):
    """Shares of rows that only one of two models gets wrong."""
    return [(discordant + loss) / 2, (discordant - loss) / 2, 1 - discordant]


@pytest.mark.parametrize(
    ("loss", "gate", "passing"),
    [
        (-0.01, MARGIN, (0.95, 1.0)),
        (-0.01, GUARD, (0.97, 1.0)),
        (0.0, GUARD, (0.90, 1.0)),
        (0.03, MARGIN, (0.0, 0.025)),
        (0.08, GUARD, (0.0, 0.01)),
    ],
)
def test_noise_does_not_decide(loss, gate, passing):
    """Of 300 retrained models on 1,500 rows in 8 topics, the better ones pass and the worse ones do not."""
    rng = np.random.default_rng(5)
    passed = np.mean([outcome(gate, *simulated(rng, loss)) is Outcome.PASS for _ in range(300)])
    assert passing[0] <= passed <= passing[1]
