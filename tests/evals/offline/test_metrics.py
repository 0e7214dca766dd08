"""Are the numbers what their definitions say?"""

from __future__ import annotations

import numpy as np
import pytest

from evals.offline.metrics import QUALITY, accuracy, ece, f1_by_class, macro_f1, probabilities, wilson


def one_hot(classes, k=3, confidence=1.0):
    """Probabilities that are sure of these classes."""
    rest = (1 - confidence) / (k - 1)
    return np.full((len(classes), k), rest) + np.eye(k)[classes] * (confidence - rest)


def test_probabilities_are_a_softmax_that_does_not_overflow():
    """Rows sum to one, also for huge logits."""
    probs = probabilities(np.array([[1000.0, 1000.0], [0.0, np.log(3)]], dtype=np.float32))
    assert probs == pytest.approx(np.array([[0.5, 0.5], [0.25, 0.75]]), abs=1e-6)


def test_accuracy_counts_the_likeliest_class():
    """Three of four."""
    assert accuracy(one_hot([0, 1, 2, 2]), np.array([0, 1, 2, 0])) == 0.75


def test_macro_f1_weighs_every_class_alike():
    """F1 by class from precision and recall; a class that never occurs does not count."""
    predicted, truth = np.array([0, 0, 1, 1, 1]), np.array([0, 1, 1, 1, 0])
    by_class = [2 * 0.5 * 0.5 / (0.5 + 0.5), 2 * (2 / 3) * (2 / 3) / (4 / 3)]
    assert f1_by_class(predicted, truth, 3) == pytest.approx(by_class)
    assert macro_f1(one_hot(predicted), truth) == pytest.approx(np.mean(by_class))


def test_a_class_that_is_never_found_has_no_f1():
    """Always saying the commonest class looks good in accuracy and bad in macro F1."""
    truth = np.array([0] * 9 + [1])
    assert macro_f1(one_hot([0] * 10), truth) == pytest.approx((2 * 9 / 19 + 0) / 2)


def test_ece_is_the_gap_between_confidence_and_accuracy():
    """90 % sure and right in 6 of 10: a gap of 0.3; right in 9 of 10: none."""
    probs = one_hot([0] * 10, confidence=0.9)
    assert ece(probs, np.array([0] * 6 + [1] * 4)) == pytest.approx(0.3)
    assert ece(probs, np.array([0] * 9 + [1])) == pytest.approx(0, abs=1e-12)


def test_ece_does_not_let_bins_cancel():
    """Overconfident in one bin and underconfident in another is miscalibrated twice."""
    probs = np.concatenate([one_hot([0] * 10, 2, 0.95), one_hot([0] * 10, 2, 0.55)])
    truth = np.array([0] * 5 + [1] * 5 + [0] * 10)
    assert ece(probs, truth) == pytest.approx((0.45 + 0.45) / 2)


def test_full_confidence_is_in_the_last_bin():
    """A probability of exactly 1 falls out of no bin."""
    assert ece(one_hot([0, 1]), np.array([0, 2])) == pytest.approx(0.5)


def test_every_metric_says_which_way_is_better():
    """Lower is better for calibration error only."""
    assert {name: m.higher_is_better for name, m in QUALITY.items()} == {
        "accuracy": True,
        "macro_f1": True,
        "ece": False,
    }


def test_wilson_is_an_interval_even_without_failures():
    """Known values: 8 of 10 gives 0.490 to 0.943; 10 of 10 reaches 1 but does not begin there."""
    assert wilson(0.8, 10, 0.95) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson(1.0, 10, 0.95) == pytest.approx((0.7225, 1.0), abs=1e-4)
